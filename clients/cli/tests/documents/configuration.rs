//! What docs/configuration.md writes is taken, and is what it says.

use std::path::Path;

use appsockets_node::config::{Config, Problems};
use serde_json::{Map, Value, json};

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
            ("yaml", text) if text.starts_with("kind: AuthProvider") => over_nats(text),
            ("yaml", text) if text.starts_with("kind: ") => resources(text),
            ("yaml", text) if text.contains("\ncluster:") => cluster(text),
            ("yaml", text) => configuration(text),
            ("text", text) => mistake(text),
            ("json", text) if text.starts_with("{\"hubID\"") => question = Some(text),
            ("json", text) => provider(question.take().expect("the question comes before the answer"), text),
            ("sh", text) if text.contains("/metadata") => {
                let written = json!({"hub": "shop", "channel": "stock:42", "value": {"title": "Umbrellas"}});
                administration("shop", text, &written);
            }
            ("sh", text) => administration("other", text, &json!({"kind": "Hub", "name": "shop", "source": "api"})),
            _ => panic!("nobody knows how to try this {language}: {text}"),
        }
    }
    assert!(blocks.len() >= 6 && question.is_none());
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

/// It is taken, and a node without NATS says of it what is written there.
fn over_nats(text: &str) {
    let node = Running::with(&format!("{{kind: Hub, name: shop, spec: {{allowAnonymous: true}}}}\n---\n{text}"));
    let mut socket = Socket::connect(&format!("ws://{}/hubs/shop/ws", node.address), None);
    socket.send(r#"{"event":"Auth","payload":{"reqID":1,"payload":"who I am"}}"#);
    assert_eq!(socket.next("Auth")["error"]["name"], "auth_not_configured");
}

/// The files that it names are in a folder of ours.
fn configuration(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("admin-token"), "0123456789abcdef\n").unwrap();
    let here = folder.path().to_str().unwrap();
    let config = load(folder.path(), &text.replace("/run/secrets", here)).unwrap();
    assert!(config.tls.certificate.is_some() && config.tls.key.is_some() && config.metrics.listen.is_some());
    assert_eq!((config.listen.port(), config.session.rate_limit), (443, 50));
    assert_eq!(config.admin.token.first(), b"0123456789abcdef");
}

/// Of a node that has others.
fn cluster(text: &str) {
    let folder = tempfile::tempdir().unwrap();
    let config = load(folder.path(), text).unwrap();
    assert_eq!(config.cluster.listen.map(|address| address.port()), Some(7946));
    assert_eq!((config.cluster.expected_core_nodes, config.discovery.seeds.len()), (3, 1));
}

/// A file with that mistake at that place is refused with these words.
fn mistake(text: &str) {
    let parts: Vec<_> = text.splitn(5, ':').collect();
    let ["config.yaml", line, column, key, _] = parts[..] else { panic!("a place, a key and a sentence: {text}") };
    let (section, name) = key.trim().split_once('.').unwrap();
    let (lines, spaces) = (line.parse::<usize>().unwrap() - 2, column.parse::<usize>().unwrap() - 1);
    let written = format!("{}{section}:\n{}{name}: 7\n", "\n".repeat(lines), " ".repeat(spaces));
    let folder = tempfile::tempdir().unwrap();
    let refused = load(folder.path(), &written).unwrap_err();
    let told: Vec<_> = refused.0.iter().map(ToString::to_string).collect();
    assert_eq!(told, [format!("{}/{}", folder.path().display(), text.trim_end())]);
}

fn load(folder: &Path, text: &str) -> Result<Config, Problems> {
    let path = folder.join("config.yaml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path), [])
}

/// Of a node that has this hub.
fn administration(hub: &str, text: &str, expected: &Value) {
    let node = Running::with(&format!("{{kind: Hub, name: {hub}, spec: {{}}}}\n"));
    let script = text.replace("127.0.0.1:8081", &node.admin.to_string());
    let answer = printed(shell(&script).current_dir(node.folder()));
    assert_like(expected, &serde_json::from_str(&answer).unwrap());
}
