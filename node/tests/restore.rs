//! A session is restored wherever the connection that comes back is.

use std::time::Duration;

use appsockets_node::{config::Config, node::Node};
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async, tungstenite::Message};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

const DEADLINE: Duration = Duration::from_secs(20);
const HUBS: &str = "kind: Hub\nname: demo\nspec: {defaultPublic: true, allowAnonymous: true}\n";

/// Connections are spread over two workers by chance; so many all on one of them are beyond chance.
const CONNECTIONS_MAX: usize = 100;

#[tokio::test]
async fn a_session_is_restored_from_the_same_slot_of_another_worker() {
    let folder = tempfile::tempdir().unwrap();
    let hubs = folder.path().join("hubs.yaml");
    std::fs::write(&hubs, HUBS).unwrap();
    let mut config = Config { workers: 2, data: folder.path().join("data"), ..Config::default() };
    config.listen = ([127, 0, 0, 1], 0).into();
    let node = Node::start(config, Some(hubs)).await.unwrap();
    let address = node.address();
    tokio::spawn(node.serve(std::future::pending()));

    let (mut first, first_key) = connect(address).await;
    say(&mut first, json!({"event": "Subscribe", "payload": {"reqID": 1, "channels": [{"channel": "news"}]}})).await;
    hear(&mut first, &["Subscribe"]).await;
    // The first connection of each worker: their keys differ in the worker and the secret alone.
    let mut same_worker = Vec::new();
    let mut other = loop {
        let (socket, key) = connect(address).await;
        if worker(&key) != worker(&first_key) {
            break socket;
        }
        same_worker.push(socket);
        assert!(same_worker.len() < CONNECTIONS_MAX, "the kernel gives one worker all connections");
    };
    say(&mut other, json!({"event": "SessionRestore", "payload": {"restoreKey": first_key}})).await;
    let answer = hear(&mut other, &["SessionRestored", "Error"]).await;
    assert_eq!(answer["payload"]["subscribedChannels"], json!(["news"]), "{answer}");
}

async fn connect(address: std::net::SocketAddr) -> (Socket, String) {
    let (mut socket, _) = connect_async(format!("ws://{address}/hubs/demo/ws")).await.unwrap();
    let told = hear(&mut socket, &["SessionRestore"]).await;
    let key = told["payload"]["restoreKey"].as_str().unwrap().to_owned();
    (socket, key)
}

fn worker(restore_key: &str) -> &str {
    restore_key.split('-').nth(2).unwrap()
}

async fn say(socket: &mut Socket, message: Value) {
    socket.send(Message::text(message.to_string())).await.unwrap();
}

async fn hear(socket: &mut Socket, events: &[&str]) -> Value {
    let heard = async {
        loop {
            let message = socket.next().await.unwrap().unwrap();
            let Message::Text(text) = message else { continue };
            let value: Value = serde_json::from_str(&text).unwrap();
            if value["event"].as_str().is_some_and(|event| events.contains(&event)) {
                break value;
            }
        }
    };
    timeout(DEADLINE, heard).await.expect("nothing of that kind came in time")
}
