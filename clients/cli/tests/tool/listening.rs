//! `sub`, `pub`, `history` and `presence`.

use serde_json::{Value, json};

use super::{
    server::{Server, token},
    tool::ran,
};

fn value(line: &str) -> Value {
    serde_json::from_str(line).unwrap()
}

#[test]
fn what_one_publishes_another_hears() {
    let server = Server::start();
    let mut listener = server.follow(&["sub", "news", "--count", "2"]);
    assert!(listener.line().starts_with("# begins after "));
    assert!(listener.line().starts_with("# present: anonymous ("));
    let first = server.run(&["pub", "news", "hello", "--event", "greeting"]);
    let second = server.run_with(&["pub", "news"], b"a\x1b[2J\nb");
    let (first, second) = (first.is_done(), second.is_done());
    let lines = [listener.line(), listener.line()];
    assert!(lines[0].starts_with(&format!("{first}  20")) && lines[0].ends_with("Z  greeting  hello"), "{lines:?}");
    // What is published commands no terminal.
    assert!(lines[1].starts_with(&format!("{second}  20")) && lines[1].ends_with(r"Z  -  a\u{1b}[2J\nb"), "{lines:?}");
    assert_eq!(listener.ended().code(), Some(0));
}

#[test]
fn all_of_it_goes_over_tls_as_well() {
    let (server, certificate) = Server::start_secured();
    let url = format!("wss://localhost:{}", server.address.port());
    let run =
        |arguments: &[&str]| ran(server.tool(arguments).env("APPSOCKETS_URL", &url).env("SSL_CERT_FILE", &certificate));
    let serial = run(&["pub", "--store", "news", "hello"]);
    let serial = serial.is_done();
    let stored = run(&["history", "news"]);
    assert!(stored.is_done().starts_with(serial), "{stored:?} {serial}");
}

#[test]
fn programs_read_the_protocols_json() {
    let server = Server::start();
    let mut listener = server.follow(&["sub", "--json", "news", "other"]);
    let begin = value(&listener.line_with("Position"));
    assert_eq!((&begin["event"], begin["payload"].get("recovered")), (&json!("Position"), None));
    listener.line_with("Position");
    let ack = server.run_with(&["--json", "pub", "news", "-"], b"{\"a\":\n 12345678901234567890.10}");
    let ack = value(ack.is_done());
    assert_eq!(ack["success"], true);
    let line = listener.line_with(r#""event":"Publish""#);
    assert!(line.contains(r#""payload":{"a":  12345678901234567890.10}"#), "{line}");
    let message = &value(&line)["payload"];
    assert_eq!((&message["channel"], &message["channelSerial"]), (&json!("news"), &ack["channelSerial"]));
    server.run_with(&["pub", "other"], b"\x00\xff").is_done();
    assert_eq!(value(&listener.line_with(r#""event":"Publish""#))["payload"]["base64"], "AP8=");
    assert_eq!(listener.interrupt().code(), Some(0));
}

#[test]
fn one_begins_where_one_stopped_and_is_told_of_gaps() {
    let server = Server::start();
    let serials: Vec<_> = ["a", "b", "c"].map(|text| server.run(&["pub", "news", text]).is_done().to_owned()).into();
    let since = server.run(&["sub", "news", "--since", &serials[0], "--count", "2"]);
    let lines: Vec<_> = since.is_done().lines().filter(|line| !line.contains("present")).collect();
    assert_eq!(lines[0], format!("# nothing is missing up to {}", serials[0]));
    assert!(lines[1].starts_with(&*serials[1]) && lines[2].starts_with(&*serials[2]), "{lines:?}");
    // A node alone that starts again has nobody to keep the numbers.
    let listener = server.follow(&["sub", "news"]);
    listener.line_with("begins after");
    let server = server.again();
    listener.line_with("# GAP: something may be missing ");
    let serial = server.run(&["pub", "news", "d"]).is_done().to_owned();
    listener.line_with(&serial);
    let since = server.follow(&["sub", "news", "--json", "--since", &serials[0]]);
    assert_eq!(value(&since.line_with("Position"))["payload"]["recovered"], false);
}

#[test]
fn a_key_publishes_once_and_retained_and_stored_messages_stay() {
    let server = Server::start();
    let publish = |text| server.run(&["pub", "news", text, "--key", "0123456789abcdef", "--retain", "--store"]);
    let first = publish("a").is_done().to_owned();
    assert_eq!(publish("a").is_done(), first);
    publish("b").is_fault(1, "error: key_conflict (125): ");
    let late = server.run(&["sub", "news", "--count", "1"]);
    assert!(late.is_done().ends_with("-  a  (retained)"), "{late:?}");
    for text in ["b", "c", "d"] {
        server.run(&["pub", "news", text, "--store"]).is_done();
    }
    let texts = |arguments: &[&str]| -> Vec<_> {
        let ran = server.run(&[&["history", "news", "--json"], arguments].concat());
        ran.is_done().lines().map(|line| value(line)["text"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts(&[]), ["d", "c", "b", "a"]);
    assert_eq!(texts(&["--after", &first, "--limit", "2"]), ["b", "c"]);
    assert_eq!(texts(&["--before", &first]), [""; 0]);
    let part = server.run(&["history", "news", "--limit", "1"]);
    assert!(part.is_done().lines().last().unwrap().starts_with("# there is more: --before "), "{part:?}");
}

#[test]
fn one_is_who_ones_token_says() {
    let server = Server::start();
    let mut tool = server.tool(&["presence", "news", "--hub", "members"]);
    let present = ran(tool.env("APPSOCKETS_TOKEN", token("anna")));
    let line = present.is_done();
    assert!(line.contains("  anna  since 20") && line.ends_with("  name=ANNA"), "{line}");
    let nobody = server.run(&["presence", "news", "--hub", "members"]);
    nobody.is_fault(1, "not_authenticated (136)");
}

#[test]
fn who_is_present_is_told() {
    let server = Server::start();
    let listener = server.follow(&["sub", "news"]);
    listener.line_with("# present: ");
    let present = server.run(&["presence", "news", "--json"]);
    let members: Vec<_> = present.is_done().lines().map(value).collect();
    assert_eq!(members.len(), 2, "{present:?}");
    assert!(members.iter().all(|member| member["userID"] == "" && member["since"].is_i64()));
    listener.line_with("# came: ");
    listener.line_with("# left: ");
    server.run(&["presence", "bare"]).is_fault(1, "the channel's rules have no presence");
}
