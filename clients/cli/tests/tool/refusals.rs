//! Whatever goes wrong is told in a sentence and by the exit code.

use std::net::TcpListener;

use serde_json::Value;

use super::{
    server::Server,
    tool::{command, ran},
};

#[test]
fn refusals_have_code_name_and_sentence() {
    let server = Server::start();
    let denied = "channel_denied (111): This session may not do that in this channel: ";
    server.run(&["pub", "closed", "x"]).is_fault(1, &format!("error: {denied}"));
    server.run(&["pub", "bare", "x"]).is_fault(1, &format!("error: {denied}"));
    server.run(&["sub", "news", "closed"]).is_fault(1, &format!("error: closed: {denied}"));
    server.run(&["history", "closed"]).is_fault(1, denied);
    server.run(&["presence", "closed"]).is_fault(1, denied);
    server.run(&["sub", "news", "--since", "x"]).is_fault(1, "bad_serial (115)");
    server.run(&["pub", "news", "x", "--push"]).is_fault(1, "push_not_allowed (122)");
    server.run(&["pub", "news", "x", "--key", "short"]).is_fault(1, "bad_key (124)");
    server.run(&["pub", "--hub", "none", "news", "x"]).is_fault(1, "hub_not_found (140): There is no hub of this name");
    server.run(&["pub", "--token", "x", "news", "x"]).is_fault(1, "token_invalid (134)");
    server.run(&["pub", "--hub", "members", "--token", "x", "news", "x"]).is_fault(1, "(134)");
    server.run_with(&["pub", "news"], &[b'x'; 100_000]).is_fault(1, "larger than the node accepts");
    let told = server.run(&["pub", "closed", "x", "--json"]);
    let error: Value = serde_json::from_str(&told.err).unwrap();
    assert_eq!((told.code, &*told.out, &error["error"]["code"]), (1, "", &Value::from(111)));
    assert_eq!((&error["error"]["name"], &error["error"]["retry"]), (&"channel_denied".into(), &false.into()));
}

#[test]
fn what_is_typed_wrongly_is_refused_before_anything_happens() {
    let usage: [(&[&str], &str); 8] = [
        (&[], "Usage: appsockets"),
        (&["sup"], "unrecognized subcommand"),
        (&["pub", "news", "x"], "--hub"),
        (&["sub", "--hub", "shop", "a", "b", "--since", "e:1"], "--since is of one channel"),
        (&["history", "--hub", "shop", "a", "--before", "e:1", "--after", "e:2"], "cannot be used with"),
        (&["pub", "--hub", "shop", "--url", "ftp://x", "a", "b"], "does not begin with ws:// or wss://"),
        (&["admin", "get", "channel-rules", "--hub", "shop"], "which channel-rules? Give its name"),
        (&["admin", "presence", "news"], "which hub?"),
    ];
    for (arguments, says) in usage {
        ran(&mut command(arguments)).is_fault(2, says);
    }
}

#[test]
fn a_server_that_is_not_there_is_told_as_such() {
    // Free a moment ago, and nobody listens.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (url, admin) = (format!("ws://{address}"), format!("http://{address}"));
    for arguments in [
        &["pub", "news", "x"][..],
        &["sub", "news"],
        &["presence", "news"],
        &["history", "news"],
        &["bench"],
        &["admin", "list", "hub"],
        &["admin", "ready"],
    ] {
        let mut tool = command(arguments);
        tool.env("APPSOCKETS_URL", &url).env("APPSOCKETS_ADMIN_URL", &admin).env("APPSOCKETS_HUB", "shop");
        ran(&mut tool).is_fault(3, "onnection refused");
    }
    // One that accepts and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", silent.local_addr().unwrap());
    let mut tool = command(&["pub", "news", "x", "--hub", "shop", "--timeout", "1", "--url", &url]);
    ran(&mut tool).is_fault(3, "no answer came within 1 s");
}
