//! `admin`.

use serde_json::{Value, json};

use super::server::Server;

#[test]
fn resources_are_written_shown_listed_and_removed() {
    let server = Server::start();
    let spec = r#"{"defaultPublic": true, "allowAnonymous": true}"#;
    server.run(&["admin", "put", "hub", "fair", "--spec", spec]).is_done();
    let rules = ["admin", "put", "channel-rules", "a/b ü", "--hub", "fair"];
    server.run_with(&rules, br#"{"presence": true}"#).is_done();
    let shown = server.run(&["admin", "get", "channel-rules", "a/b ü", "--hub", "fair", "--json"]);
    let shown: Value = serde_json::from_str(shown.is_done()).unwrap();
    assert_eq!((&shown["name"], &shown["spec"]["presence"]), (&json!("a/b ü"), &json!(true)));
    for (kind, name) in [("namespace", "stock"), ("channel", "stock:1")] {
        let put = ["admin", "--hub", "fair", "put", kind, name, "--spec", r#"{"rules": "a/b ü"}"#];
        server.run(&put).is_done();
    }
    let secret = "a secret of at least thirty-two bytes";
    let spec = json!({"jwt": {"secret": secret}}).to_string();
    let written = server.run(&["admin", "put", "auth-provider", "--hub", "fair", "--spec", &spec]);
    assert!(!written.is_done().contains(secret), "{written:?}");

    let hubs = server.run(&["admin", "list", "hub"]);
    let names: Vec<_> = hubs.is_done().lines().map(|line| line.split("  ").next().unwrap()).collect();
    assert_eq!(names, ["fair", "members", "shop"]);
    // Auth providers are listed for all hubs.
    for (kind, count) in [("auth-provider", 2), ("channel-rules", 1), ("namespace", 1), ("channel", 1)] {
        let listed = server.run(&["admin", "list", kind, "--hub", "fair", "--json"]);
        assert_eq!(listed.is_done().lines().count(), count, "{kind}");
    }
    let removed = server.run(&["admin", "delete", "hub", "fair"]);
    assert_eq!(removed.is_done(), "hub fair was removed");
    server.run(&["admin", "get", "hub", "fair"]).is_fault(1, "hub_not_found (140)");
}

#[test]
fn metadata_of_a_channel_is_written_shown_and_removed() {
    let server = Server::start();
    // Also in a hub of the file, and of a channel that nobody has named before.
    let (get, delete) = (["admin", "get", "metadata", "a/b ü", "--json"], ["admin", "delete", "metadata", "a/b ü"]);
    server.run(&get[..4]).is_fault(1, "not_found (146)");
    let written = server.run_with(&["admin", "put", "metadata", "a/b ü", "--json"], br#" {"title": "Umbrellas"} "#);
    let written: Value = serde_json::from_str(written.is_done()).unwrap();
    assert_eq!((&written["channel"], &written["value"]), (&json!("a/b ü"), &json!({"title": "Umbrellas"})));
    let shown: Value = serde_json::from_str(server.run(&get).is_done()).unwrap();
    assert_eq!(shown, written);
    let put = |spec| server.run(&["admin", "put", "metadata", "news", "--spec", spec]);
    put("[]").is_fault(1, "resource_invalid (145)");
    assert_eq!(server.run(&delete).is_done(), "metadata a/b ü was removed");
    server.run(&delete).is_fault(1, "not_found (146)");
    server.run(&["admin", "list", "metadata"]).is_fault(2, "not listed");
    server.run(&["admin", "get", "metadata"]).is_fault(2, "of which channel?");
}

#[test]
fn an_administrator_publishes_and_looks_without_being_there() {
    let server = Server::start();
    let listener = server.follow(&["sub", "news"]);
    listener.line_with("# present: ");
    let present = server.run(&["admin", "presence", "news"]);
    assert_eq!(present.is_done().lines().count(), 1);
    assert!(present.out.contains("  anonymous  since 20"), "{present:?}");
    let serial = server.run(&["admin", "publish", "news", "hello", "--event", "note"]);
    assert!(listener.line_with(serial.is_done()).ends_with("note  hello"));
    let listener = server.follow(&["sub", "--json", "news"]);
    listener.line_with("Position");
    server.run_with(&["admin", "publish", "news"], b"{\"a\":\n1.50}\n").is_done();
    assert!(listener.line_with(r#""event":"Publish""#).contains(r#""payload":{"a": 1.50}"#));
    server.run(&["admin", "publish", "closed", "x"]).is_done();
    server.run(&["admin", "publish", "news", "x", "--push"]).is_fault(1, "push_not_allowed (122)");
}

#[test]
fn what_the_node_refuses_an_administrator_is_told() {
    let server = Server::start();
    server.run(&["admin", "--admin-token", "x", "list", "hub"]).is_fault(1, "unauthorized (147)");
    server.run(&["admin", "delete", "hub", "shop"]).is_fault(1, "managed_elsewhere (144)");
    let wrong = server.run(&["admin", "put", "hub", "fair", "--spec", r#"{"publik": true}"#]);
    wrong.is_fault(1, "resource_invalid (145)");
    assert!(wrong.err.contains("publik"), "{wrong:?}");
    server.run(&["admin", "get", "channel", "none"]).is_fault(1, "not_found (146)");
    // Something that is no node's administration.
    let mut tool = server.tool(&["admin", "list", "hub"]);
    tool.env("APPSOCKETS_ADMIN_URL", format!("http://{}", server.address));
    super::tool::ran(&mut tool).is_fault(1, "not_found (146)");
}

#[test]
fn a_node_is_watched_without_a_token() {
    let server = Server::start();
    assert_eq!(server.run(&["admin", "--admin-token", "", "ready"]).is_done(), "ready");
    let metrics = server.run(&["admin", "metrics"]);
    assert!(metrics.is_done().contains("\nappsockets_sessions 0\n"), "{metrics:?}");
    let metrics = server.run(&["admin", "metrics", "--json"]);
    let samples = metrics.is_done().lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let sessions = json!({"sample": "appsockets_sessions", "value": 0});
    assert!(samples.into_iter().any(|sample| sample == sessions), "{metrics:?}");
}
