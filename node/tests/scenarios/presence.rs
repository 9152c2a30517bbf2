//! Who is there, and how many.

use serde_json::{Value, json};

use super::{
    client::{Client, names, text},
    eventually,
    server::{Server, channel_at},
};

pub const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, presence: true}}
---
{kind: ChannelRules, hub: shop, name: counted, spec: {allowAnonymous: true, occupancy: true}}
---
{kind: Namespace, hub: shop, name: counted, spec: {rules: counted}}
";

/// The session ids of a Presence, Join or Leave, sorted.
pub fn members(payload: &Value) -> Vec<String> {
    let mut ids: Vec<_> =
        payload["members"].as_array().unwrap().iter().map(|member| text(&member["sessionID"])).collect();
    ids.sort();
    ids
}

/// Whether it names this session and no other.
pub fn is_of(payload: &Value, id: &str) -> bool {
    members(payload) == [id]
}

#[tokio::test]
async fn the_list_comes_first_and_then_the_changes() {
    let server = Server::start(HUBS).await;
    for at in 0..8u16 {
        let channel = channel_at("shop", at & 1);
        let mut one = server.connect_at("shop", at >> 1 & 1).await;
        let mut two = server.connect_at("shop", at >> 2).await;
        let events = one.subscribe(&[&channel]).await;
        assert_eq!(names(&events), ["Position", "Presence"]);
        assert!(is_of(&events[1].1, &one.id()));
        assert!(events[1].1["members"][0]["since"].as_u64().is_some_and(|since| since > 1_700_000_000_000));

        let events = two.subscribe(&[&channel]).await;
        let mut both = vec![one.id(), two.id()];
        both.sort();
        assert_eq!(members(&events[1].1), both);
        assert!(is_of(&one.expect("Join").await, &two.id()));

        two.send("Unsubscribe", json!({"reqID": 1, "channels": [channel]})).await;
        assert!(is_of(&one.expect("Leave").await, &two.id()));
        two.subscribe(&[&channel]).await;
        assert!(is_of(&one.expect("Join").await, &two.id()));
        two.send("Close", json!({})).await;
        assert!(is_of(&one.expect("Leave").await, &two.id()));
        assert!(one.settled().await.is_empty());
        one.send("Close", json!({})).await;
        one.closed().await;
    }
}

/// The restore window is longer than the test would wait, so these leave at once or never.
#[tokio::test]
async fn who_leaves_on_purpose_leaves_at_once() {
    let server = Server::start_with(HUBS, |config| config.session.restore_window_ms = 1_000_000).await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    for close_frame in [false, true] {
        let mut client = server.connect("shop").await;
        client.subscribe(&["a"]).await;
        assert!(is_of(&watcher.expect("Join").await, &client.id()));
        if close_frame {
            client.socket.close(None).await.unwrap();
        } else {
            client.send("Close", json!({})).await;
            assert_eq!(client.closed().await.1, 1000);
        }
        assert!(is_of(&watcher.expect("Leave").await, &client.id()));
    }
}

#[tokio::test]
async fn who_breaks_off_leaves_once_after_the_window() {
    let server = Server::start_with(HUBS, |config| config.session.restore_window_ms = 100).await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    let mut gone = server.connect("shop").await;
    gone.subscribe(&["a"]).await;
    watcher.expect("Join").await;
    let id = gone.id();
    gone.break_off();
    assert!(is_of(&watcher.expect("Leave").await, &id));
    let mut late = server.connect("shop").await;
    assert!(!members(&late.subscribe(&["a"]).await[1].1).contains(&id));
    assert_eq!(names(&watcher.settled().await), ["Join"]);
}

#[tokio::test]
async fn who_breaks_off_stays_within_the_window() {
    let server = Server::start_with(HUBS, |config| config.session.restore_window_ms = 1_000_000).await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    let mut gone = server.connect("shop").await;
    gone.subscribe(&["a"]).await;
    watcher.expect("Join").await;
    let id = gone.id();
    gone.break_off();
    // The node learns of the end at some time; the list of whoever comes has the session before and after.
    for _ in 0..20 {
        let mut other = server.connect("shop").await;
        assert!(members(&other.subscribe(&["a"]).await[1].1).contains(&id));
        other.send("Close", json!({})).await;
        assert!(is_of(&watcher.expect("Join").await, &other.id()));
        assert!(is_of(&watcher.expect("Leave").await, &other.id()));
    }
}

#[tokio::test]
async fn the_number_of_subscribers_is_kept_up_to_date() {
    let server = Server::start_with(HUBS, |config| config.channel.occupancy_interval_ms = 20).await;
    let mut watcher = server.connect("shop").await;
    let events = watcher.subscribe(&["counted:a"]).await;
    assert_eq!(
        (names(&events), &events[1].1),
        (vec!["Position", "Occupancy"], &json!({"channel": "counted:a", "count": 1}))
    );
    let mut others = Vec::new();
    for _ in 0..10 {
        let mut other = server.connect("shop").await;
        other.subscribe(&["counted:a"]).await;
        others.push(other);
    }
    count(&mut watcher, 11).await;
    for mut other in others.drain(..7) {
        other.send("Close", json!({})).await;
    }
    count(&mut watcher, 4).await;
    let mut other = server.connect("shop").await;
    assert_eq!(other.subscribe(&["counted:a"]).await[1].1["count"], 5);
    count(&mut watcher, 5).await;
}

/// Waits until this is what it was told last.
async fn count(client: &mut Client, wanted: u64) {
    let mut last = 0;
    eventually(async || {
        for (event, payload) in client.settled().await {
            assert_eq!(event, "Occupancy");
            last = payload["count"].as_u64().unwrap();
        }
        last == wanted
    })
    .await;
}
