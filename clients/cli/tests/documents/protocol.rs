//! The conversations of docs/protocol.md take place as it says.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    blocks,
    conversation::Socket,
    like::{assert_like, example},
    node::Running,
    shell::{Stream, printed, shell},
};

const SECRET: &str = "a secret of at least thirty-two bytes";

/// Serials of the document, with the sequence that they have.
const SERIAL: &str = "1-14-lfls-0:42";

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {public: true, allowAnonymous: true, allowStore: true}}
---
{kind: AuthProvider, hub: shop, spec: {jwt: {secret: a secret of at least thirty-two bytes}}}
";

#[test]
fn its_conversations_take_place() {
    let mut lines = 0;
    for blocks::Block { language, text } in blocks::of("docs/protocol.md") {
        assert_eq!(language, "text", "{text}");
        // Each begins anew, so that the numbers are those of the document.
        let node = Running::with(HUBS);
        lines += match &text {
            text if text.starts_with("GET /hubs/shop/ws ") => whole(&node, text),
            text if text.starts_with("POST /hubs/shop/publish ") => posted(&node, text),
            text if text.starts_with("data: ") => streamed(&node, text),
            text if text.starts_with(r#"> {"event":"Auth""#) => authenticated(&node, text),
            text if text.starts_with(r#"> {"event":"SessionRestore""#) => restored(&node, text),
            text if text.starts_with(r#"> {"event":"History""#) => paged(&node, text),
            text => panic!("nobody knows how to try this: {text}"),
        };
    }
    // A document that says it in other words must not pass because nothing of it was understood.
    assert!(lines >= 20, "{lines}");
}

fn connect(node: &Running) -> Socket {
    Socket::connect(&format!("ws://{}/hubs/shop/ws", node.address), Some("appsockets.v1.json"))
}

/// So many messages are in `news`; gives the serial of the last.
fn fill(node: &Running, messages: usize) -> String {
    let publish = json!({"channel": "news", "event": "price", "text": "x", "extra": {"store": true}});
    let body = json!({"publishes": vec![publish; messages]}).to_string();
    let answer = post(node, "-H 'content-type: application/json'", &body);
    answer["published"][messages - 1]["channelSerial"].as_str().unwrap().to_owned()
}

fn post(node: &Running, headers: &str, body: &str) -> Value {
    let url = format!("http://{}/hubs/shop/publish", node.address);
    serde_json::from_str(&printed(shell(&format!("curl -sS {url} {headers} -d \"$BODY\"")).env("BODY", body))).unwrap()
}

fn anna() -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let channels = json!([{"channel": "chat:*", "publish": true, "subscribe": true}]);
    let claims = json!({"sub": "anna", "exp": expires, "channels": channels, "extra": {"name": "Anna"}});
    encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn whole(node: &Running, text: &str) -> usize {
    fill(node, 41);
    let (request, conversation) = text.split_once('\n').unwrap();
    assert!(request.ends_with("Sec-WebSocket-Protocol: appsockets.v1.json"), "{request}");
    connect(node).follow(conversation)
}

fn posted(node: &Running, text: &str) -> usize {
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let [request, body, answer] = lines[..] else { panic!("request, body and answer: {text}") };
    assert!(request.contains("Authorization: Bearer TOKEN") && request.contains("Content-Type: application/json"));
    let headers = format!("-H 'authorization: Bearer {}' -H 'content-type: application/json'", anna());
    let answer = example(answer.strip_prefix("200 ").unwrap());
    assert_like(&answer, &post(node, &headers, body));
    lines.len()
}

fn streamed(node: &Running, text: &str) -> usize {
    let lines: Vec<_> = text.lines().filter(|line| !line.is_empty()).collect();
    let [data, id] = lines[..] else { panic!("an event and its id: {text}") };
    assert!(id.starts_with("id: "), "{id}");
    let data = example(data.strip_prefix("data: ").unwrap());
    let stream = Stream::start(&format!("curl -sSN 'http://{}/hubs/shop/sse?channel=a'", node.address), &[]);
    stream.wait_for("Position");
    let (event, text) = (&data["payload"]["event"], &data["payload"]["text"]);
    post(node, "", &json!({"publishes": [{"channel": "a", "event": event, "text": text}]}).to_string());
    let line = stream.wait_for(r#""event":"Publish""#);
    assert_like(&data, &serde_json::from_str(line.strip_prefix("data: ").unwrap()).unwrap());
    stream.wait_for("id: ");
    lines.len()
}

fn authenticated(node: &Running, text: &str) -> usize {
    connect(node).follow(&text.replace("eyJ…", &anna()))
}

/// The session is anna's and hears `news`, and its connection breaks.
fn restored(node: &Running, text: &str) -> usize {
    let serial = fill(node, 42);
    let mut broken = connect(node);
    let key = broken.next("SessionRestore")["restoreKey"].as_str().unwrap().to_owned();
    broken.send(&json!({"event": "Auth", "payload": {"reqID": 1, "token": anna()}}).to_string());
    broken.next("Auth");
    broken.send(r#"{"event":"Subscribe","payload":{"reqID":2,"channels":[{"channel":"news"}]}}"#);
    broken.next("Subscribe");
    drop(broken);
    connect(node).follow(&text.replace("kq83…", &key).replace(SERIAL, &serial))
}

fn paged(node: &Running, text: &str) -> usize {
    let serial = fill(node, 42);
    connect(node).follow(&text.replace(SERIAL, &serial))
}
