//! What docs/configuration.md writes is taken, and is what it says.

use appsockets_node::config::Config;
use serde_json::{Map, json};

use super::{
    blocks,
    conversation::Socket,
    like::{assert_like, example},
    node::Running,
    provider,
    shell::{printed, shell},
};

#[test]
fn its_examples_are_taken() {
    let blocks = blocks::of("docs/configuration.md");
    let mut question = None;
    for blocks::Block { language, text } in &blocks {
        match (language.as_str(), text) {
            ("yaml", text) if text.starts_with("kind: ") => resources(text),
            ("yaml", text) => defaults(text),
            ("json", text) if text.starts_with("{\"hubID\"") => question = Some(text),
            ("json", text) => provider(question.take().expect("the question comes before the answer"), text),
            ("sh", text) => administration(text),
            _ => panic!("nobody knows how to try this {language}: {text}"),
        }
    }
    assert!(blocks.len() >= 5 && question.is_none());
}

fn resources(text: &str) {
    let node = Running::with(text);
    let mut socket = Socket::connect(&format!("ws://{}/hubs/shop/ws", node.address), None);
    socket.send(r#"{"event":"Subscribe","payload":{"reqID":1,"channels":[{"channel":"stock:42"}]}}"#);
    // As its rules say.
    socket.next("Presence");
    socket.next("Occupancy");
}

fn provider(question: &str, answer: &str) {
    let (question, answer) = (example(question), example(answer));
    let (address, asked) = provider::answering(answer.to_string());
    let node = Running::with(&format!(
        "{{kind: Hub, name: shop, spec: {{allowAnonymous: true}}}}\n---\n\
         {{kind: AuthProvider, hub: shop, spec: {{http: {{url: 'http://{address}/'}}}}}}\n"
    ));
    let mut socket = Socket::connect(&format!("ws://{}/hubs/shop/ws", node.address), None);
    socket.send(&json!({"event": "Auth", "payload": {"reqID": 1, "payload": question["payload"]}}).to_string());
    let outcome = socket.next("Auth");
    for field in ["success", "userID", "extra", "channelAuthorizations", "rpcAuthorizations"] {
        assert_eq!(outcome[field], answer[field], "{field}: {outcome}");
    }
    let asked = asked.join().unwrap();
    assert_like(&question, &asked);
    assert_eq!(question.as_object().map(Map::len), asked.as_object().map(Map::len), "{asked}");
}

fn defaults(text: &str) {
    let written = Config::parse(text).unwrap();
    assert_eq!(format!("{written:?}"), format!("{:?}", Config::default()));
}

fn administration(text: &str) {
    let node = Running::with("{kind: Hub, name: other, spec: {}}\n");
    let script = text.replace("127.0.0.1:8081", &node.admin.to_string());
    let hub = printed(shell(&script).current_dir(node.folder()));
    assert_like(&json!({"kind": "Hub", "name": "shop", "source": "api"}), &serde_json::from_str(&hub).unwrap());
}
