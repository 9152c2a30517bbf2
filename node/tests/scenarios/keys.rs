//! Publishing again with the same key: answered again, delivered once.

use serde_json::{Value, json};

use super::server::{Server, channel_at};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, allowStore: true}}
---
{kind: Hub, name: other, spec: {defaultPublic: true, allowAnonymous: true}}
";
const KEY: &str = "0123456789abcdef";

#[tokio::test]
async fn a_repeat_is_answered_again_whoever_sends_it() {
    let server = Server::start(HUBS).await;
    for worker in [0, 1] {
        let channel = channel_at("shop", worker);
        let publish = json!({"channel": channel, "event": "paid", "payload": {"order": 1}, "key": KEY});
        let mut listener = server.connect("shop").await;
        listener.subscribe(&[&channel]).await;
        let mut sessions = [server.connect_at("shop", 0).await, server.connect_at("shop", 1).await];
        let mut results = Vec::new();
        for session in &mut sessions {
            results.push(session.publish_with(publish.clone()).await["channelSerial"].clone());
        }
        let answer = server.post("shop").send(json!({"publishes": [publish, publish]})).await;
        results
            .extend(answer.body["published"].as_array().unwrap().iter().map(|result| result["channelSerial"].clone()));
        assert_eq!(results.len(), 4);
        assert!(results.iter().all(|serial| serial.is_string() && *serial == results[0]), "{results:?}");
        assert_eq!(listener.expect("Publish").await["channelSerial"], results[0]);
        assert!(listener.settled().await.is_empty(), "it is delivered once");

        let other = json!({"channel": channel, "event": "paid", "payload": {"order": 2}, "key": KEY});
        let refused = sessions[0].publish_with(other.clone()).await;
        assert_eq!((&refused["success"], &refused["error"]["name"]), (&json!(false), &json!("key_conflict")));
        let answer = server.post("shop").send(json!({"publishes": [other]})).await;
        assert_eq!(answer.body["published"][0]["error"]["code"], 125);
    }
}

#[tokio::test]
async fn a_key_means_its_own_channel_of_its_own_hub() {
    let server = Server::start(HUBS).await;
    for (hub, channel) in [("shop", "a"), ("shop", "b"), ("other", "a")] {
        let mut client = server.connect(hub).await;
        client.subscribe(&[channel]).await;
        let result =
            client.publish_with(json!({"channel": channel, "text": format!("{hub} {channel}"), "key": KEY})).await;
        assert_eq!(result["success"], true);
        assert_eq!(client.until("Publish").await["channelSerial"], result["channelSerial"]);
    }
}

/// Those that come while the first is with the store wait for its answer.
#[tokio::test]
async fn many_at_once_become_one() {
    let server = Server::start(HUBS).await;
    let mut listener = server.connect("shop").await;
    listener.subscribe(&["a"]).await;
    let mut sessions = Vec::new();
    for _ in 0..8 {
        sessions.push(server.connect("shop").await);
    }
    for session in &mut sessions {
        let publish = json!({"reqID": 1, "channel": "a", "text": "x", "key": KEY, "extra": {"store": true}});
        session.send("Publish", json!({"publishes": [publish, publish]})).await;
    }
    let mut serials: Vec<Value> = Vec::new();
    for session in &mut sessions {
        let mut own = 0;
        while own < 2 {
            let published = session.expect("Ack").await["published"].as_array().unwrap().clone();
            own += published.len();
            serials.extend(published.into_iter().map(|result| result["channelSerial"].clone()));
        }
    }
    assert!(serials[0].is_string() && serials.iter().all(|serial| *serial == serials[0]), "{serials:?}");
    listener.expect("Publish").await;
    assert!(listener.settled().await.is_empty());
    let history = server.get("/hubs/shop/history?channel=a").answer().await;
    assert_eq!(history.body["messages"].as_array().unwrap().len(), 1);
}
