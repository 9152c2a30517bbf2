//! Stopping a node, and starting it again (R-211).

use hyper::Method;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};
use tokio::net::TcpStream;

use super::{
    client::{Connect, text},
    eventually,
    process::{Process, apply},
    web::Call,
};

const SECRET: &str = "a secret that only the tenant and the node know";
const CONFIG: &str = "engine: {settingsIntervalMs: 20, drainMs: 400}";

fn resources() -> String {
    format!(
        "{{kind: Hub, name: shop, spec: {{defaultPublic: true, allowAnonymous: true, defaultRules: open}}}}
---
{{kind: ChannelRules, hub: shop, name: open, spec: {{allowAnonymous: true, allowStore: true, presence: true}}}}
---
{{kind: AuthProvider, hub: shop, spec: {{jwt: {{secret: '{SECRET}'}}}}}}
"
    )
}

/// A folder with these resources, and a node on it.
async fn node() -> (tempfile::TempDir, Process) {
    let folder = tempfile::tempdir().unwrap();
    apply(folder.path(), &resources()).unwrap();
    let node = Process::start(folder.path(), CONFIG).await;
    (folder, node)
}

#[tokio::test]
async fn a_node_that_stops_tells_its_sessions_to_go_each_at_its_own_moment() {
    let (_folder, node) = node().await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = node.connect("shop").await;
        client.subscribe(&["a"]).await;
        client.settled().await;
        clients.push(client);
    }
    node.terminate();
    let mut delays = Vec::new();
    for client in &mut clients {
        let delay = client.until("Reconnect").await["delayMs"].as_u64().unwrap();
        assert!(delay <= 400);
        delays.push(delay);
    }
    delays.sort_unstable();
    delays.dedup();
    assert!(delays.len() > 5, "they are spread: {delays:?}");
    eventually(async || TcpStream::connect(node.address).await.is_err()).await;
    let [one, two, ..] = &mut clients[..] else { panic!("too few") };
    assert_eq!(one.publish("a", "meanwhile").await["success"], true);
    two.until_one(|event, payload| event == "Publish" && payload["text"] == "meanwhile").await;
    drop(clients);
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn who_does_not_go_is_closed_at_last() {
    let (_folder, node) = node().await;
    let mut clients = [node.connect("shop").await, node.connect("shop").await];
    let query = "/hubs/shop/sse?channel=a";
    let mut stream = Call::new(node.address, Method::GET, query).begin(String::new()).await.into_body();
    node.terminate();
    for client in &mut clients {
        client.until("Reconnect").await;
        let (close, code) = client.closed().await;
        let close = close.unwrap();
        assert_eq!((&close["name"], &close["reconnect"], code), (&json!("drained"), &json!(true), 4000));
    }
    let rest = super::in_time(http_body_util::BodyExt::collect(&mut stream)).await.unwrap().to_bytes();
    let rest = String::from_utf8(rest.to_vec()).unwrap();
    assert!(rest.contains(r#""event":"Reconnect""#) && rest.contains(r#""name":"drained""#), "{rest}");
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn who_asks_twice_does_not_wait() {
    let (_folder, node) = node().await;
    let mut client = node.connect("shop").await;
    node.terminate();
    client.until("Reconnect").await;
    node.terminate();
    assert_eq!(node.ended().await.code(), Some(0));
}

#[tokio::test]
async fn a_node_that_starts_again_still_has_what_it_was_given() {
    let (folder, node) = node().await;
    let mut client = node.connect("shop").await;
    for number in 0..3 {
        let result = client.publish_with(json!({"channel": "a", "payload": number, "extra": {"store": true}})).await;
        assert_eq!(result["success"], true);
    }
    let claims = json!({"sub": "ann", "exp": 4_000_000_000u64});
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap();
    client.send("Auth", json!({"reqID": 1, "token": token})).await;
    let token = text(&client.until("Auth").await["token"]);
    let known = client.publish("a", "not stored").await["channelSerial"].clone();

    // While it runs, by another process.
    let later = "{kind: Hub, name: later, spec: {allowAnonymous: true, defaultPublic: true}}";
    assert_eq!(apply(folder.path(), later).unwrap().trim(), "Hub later applied");
    assert!(apply(folder.path(), "{kind: Hub, nam: x}").unwrap_err().contains("nam"));
    eventually(async || Connect::new(node.address, "later").handshake().await.is_ok()).await;
    drop(client);
    node.terminate();
    assert_eq!(node.ended().await.code(), Some(0));

    let node = Process::start(folder.path(), CONFIG).await;
    node.connect("later").await;
    let mut client = Connect::new(node.address, "shop").token(&token).open().await;
    assert_eq!(client.info["authenticated"], true);
    let events = client.subscribe_from(json!([{"channel": "a", "channelSerial": known}])).await;
    assert_eq!(events[0].1["recovered"], false, "a new epoch, which is told");
    client.publish_with(json!({"channel": "a", "payload": 3, "extra": {"store": true}})).await;
    let history = Call::new(node.address, Method::GET, &format!("/hubs/shop/history?channel=a&token={token}"));
    let page = history.answer().await.body;
    let payloads: Vec<_> =
        page["messages"].as_array().unwrap().iter().map(|message| message["payload"].clone()).collect();
    assert_eq!(Value::from(payloads), json!([3, 2, 1, 0]));
    // From the old epoch into the new one, as a client closes its gap.
    client.send("History", json!({"reqID": 1, "channel": "a", "afterSerial": known})).await;
    let page = client.until("History").await;
    assert_eq!((page["messages"].as_array().unwrap().len(), &page["messages"][0]["payload"]), (1, &json!(3)));
}
