//! Getting a session back.

use serde_json::{Value, json};

use super::{
    client::{Client, names},
    presence::HUBS,
    server::{Server, channel_at},
};

/// A node that keeps sessions for as long as any test takes.
async fn server() -> Server {
    let hubs = format!("{HUBS}---\n{{kind: Hub, name: other, spec: {{defaultPublic: true, allowAnonymous: true}}}}\n");
    Server::start_with(&hubs, |config| config.session.restore_window_ms = 1_000_000).await
}

pub async fn restore(client: &mut Client, key: &str, channels: Value) {
    client.send("SessionRestore", json!({"restoreKey": key, "channels": channels})).await;
}

/// Asks in vain, and shows that the session goes on as a new one.
async fn not_restored(client: &mut Client, key: &str) {
    restore(client, key, json!([])).await;
    let error = client.expect("Error").await;
    assert_eq!((&error["code"], &error["name"]), (&json!(143), &json!("restore_failed")));
    client.subscribe(&["elsewhere"]).await;
}

/// Wherever the session was, the new connection is, and its channels are.
#[tokio::test]
async fn a_session_is_restored_at_any_worker() {
    let server = server().await;
    for at in 0..4u16 {
        let channels = [channel_at("shop", 0), channel_at("shop", 1)];
        let mut watcher = server.connect("shop").await;
        watcher.subscribe(&[&channels[0], &channels[1]]).await;
        let mut old = server.connect_at("shop", at & 1).await;
        old.subscribe(&[&channels[0], &channels[1]]).await;
        watcher.until("Join").await;
        watcher.until("Join").await;
        let (id, key) = (old.id(), old.break_off());

        let mut first = Value::Null;
        for number in 0..3 {
            for channel in &channels {
                first = watcher.publish(channel, &number.to_string()).await;
            }
        }
        assert_eq!(first["success"], true);
        let mut new = server.connect_at("shop", at >> 1).await;
        restore(&mut new, &key, json!([])).await;
        let restored = new.expect("SessionRestored").await;
        assert_eq!((&restored["sessionID"], &restored["userID"]), (&json!(id), &json!("")));
        assert_eq!(restored["subscribedChannels"].as_array().unwrap().len(), 2);
        for channel in &channels {
            let is_its = |payload: &Value| payload["channel"] == **channel;
            let position = new.until_one(|event, payload| event == "Position" && is_its(payload)).await;
            assert_eq!(position["recovered"], true);
            for number in 0..3 {
                let message = new.until_one(|event, payload| event == "Publish" && is_its(payload)).await;
                assert_eq!(message["text"], number.to_string());
            }
        }
        assert_eq!(names(&new.settled().await), ["Presence", "Presence"]);
        let after = watcher.settled().await;
        assert!(after.iter().all(|(event, _)| event == "Publish"), "neither join nor leave: {after:?}");

        watcher.publish(&channels[0], "live").await;
        assert_eq!(new.expect("Publish").await["text"], "live");
        not_restored(&mut server.connect("shop").await, &key).await;
        let key = new.break_off();
        let mut again = server.connect("shop").await;
        restore(&mut again, &key, json!([])).await;
        assert_eq!(again.expect("SessionRestored").await["sessionID"], id);
        for client in [&mut again, &mut watcher] {
            client.send("Close", json!({})).await;
            client.closed().await;
        }
    }
}

/// What the client says that it has counts, and not what the node has sent.
#[tokio::test]
async fn positions_of_the_client_go_first() {
    let server = server().await;
    let mut publisher = server.connect("shop").await;
    let mut old = server.connect("shop").await;
    old.subscribe(&["a", "b"]).await;
    let first = publisher.publish("a", "1").await;
    publisher.publish("a", "2").await;
    publisher.publish("b", "1").await;
    for _ in 0..3 {
        old.until("Publish").await;
    }
    let key = old.break_off();
    let mut new = server.connect("shop").await;
    restore(&mut new, &key, json!([{"channel": "a", "channelSerial": first["channelSerial"]}])).await;
    new.expect("SessionRestored").await;
    let events = new.settled().await;
    assert_eq!(events.iter().filter(|(event, _)| event == "Position").count(), 2);
    let heard: Vec<_> = events.iter().filter(|(event, _)| event == "Publish").collect();
    assert_eq!(heard.len(), 1);
    assert_eq!((&heard[0].1["channel"], &heard[0].1["text"]), (&json!("a"), &json!("2")));
    assert!(events.iter().filter(|(event, _)| event == "Position").all(|(_, position)| position["recovered"] == true));
}

#[tokio::test]
async fn the_old_connection_is_told_that_it_was_replaced() {
    let server = server().await;
    for at in 0..4u16 {
        let mut watcher = server.connect("shop").await;
        watcher.subscribe(&["a"]).await;
        let mut old = server.connect_at("shop", at & 1).await;
        old.subscribe(&["a"]).await;
        watcher.expect("Join").await;
        let mut new = server.connect_at("shop", at >> 1).await;
        restore(&mut new, &old.key, json!([])).await;
        assert_eq!(new.expect("SessionRestored").await["sessionID"], old.id());
        let (close, code) = old.closed().await;
        assert_eq!((close.map(|close| close["code"].clone()), code), (Some(json!(4106)), 4106));
        assert!(watcher.settled().await.is_empty());
        watcher.send("Close", json!({})).await;
        new.until("Leave").await;
        new.send("Close", json!({})).await;
        new.closed().await;
    }
}

#[tokio::test]
async fn what_cannot_be_restored_goes_on_as_new() {
    let server = server().await;
    let mut left = server.connect("shop").await;
    left.subscribe(&["a"]).await;
    left.send("Close", json!({})).await;
    left.closed().await;
    for key in ["", "nonsense", "0-0-1-00000000000000000000000000000000", "ffff-ffffffff-ffffffff-0", &left.key] {
        not_restored(&mut server.connect("shop").await, key).await;
    }
    let mut own = server.connect("shop").await;
    let key = own.key.clone();
    not_restored(&mut own, &key).await;

    let mut elsewhere = server.connect("other").await;
    elsewhere.subscribe(&["a"]).await;
    let key = elsewhere.break_off();
    not_restored(&mut server.connect("shop").await, &key).await;

    let mut late = server.connect("shop").await;
    late.subscribe(&["b"]).await;
    let mut old = server.connect("shop").await;
    old.subscribe(&["a"]).await;
    not_restored(&mut late, &old.break_off()).await;
}

#[tokio::test]
async fn a_key_ends_with_its_window() {
    let server = Server::start_with(HUBS, |config| config.session.restore_window_ms = 50).await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    let mut old = server.connect("shop").await;
    old.subscribe(&["a"]).await;
    watcher.expect("Join").await;
    let key = old.break_off();
    watcher.expect("Leave").await;
    not_restored(&mut server.connect("shop").await, &key).await;
}

/// Only so many are kept, and one for whom there is no room leaves at once.
#[tokio::test]
async fn the_number_of_kept_sessions_is_bounded() {
    let server = Server::start_with(HUBS, |config| {
        config.session.restore_window_ms = 1_000_000;
        config.session.restorable_max = 0;
    })
    .await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    let mut old = server.connect("shop").await;
    old.subscribe(&["a"]).await;
    watcher.expect("Join").await;
    let key = old.break_off();
    watcher.expect("Leave").await;
    not_restored(&mut server.connect("shop").await, &key).await;
}
