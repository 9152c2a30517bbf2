//! Publishing and hearing it.

use serde_json::{Value, json};

use super::{
    client::names,
    in_time,
    server::{Server, channel_at},
};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, allowStore: true}}
---
{kind: ChannelRules, hub: shop, name: quiet, spec: {allowAnonymous: true, clientPublish: false}}
---
{kind: Channel, hub: shop, name: quiet, spec: {rules: quiet}}
";

/// Whichever workers hold the publisher, the channel and the subscriber.
#[tokio::test]
async fn messages_find_their_way_between_all_workers() {
    let server = Server::start(HUBS).await;
    for at in 0..8u16 {
        let channel = channel_at("shop", at & 1);
        let mut publisher = server.connect_at("shop", at >> 1 & 1).await;
        let mut subscriber = server.connect_at("shop", at >> 2).await;
        let before = subscriber.subscribe(&[&channel]).await;
        let result = publisher.publish(&channel, &format!("from {at}")).await;
        let message = subscriber.expect("Publish").await;
        assert_eq!((&message["channel"], &message["text"]), (&json!(channel), &json!(format!("from {at}"))));
        assert_eq!((&message["msgID"], &message["channelSerial"]), (&result["msgID"], &result["channelSerial"]));
        assert!(message["ts"].as_u64().is_some_and(|ts| ts > 1_700_000_000_000));
        assert_eq!(sequence(&message), sequence(&before[0].1) + 1);
        assert!(message.get("retained").is_none_or(|retained| retained == false));
    }
}

#[tokio::test]
async fn a_batch_has_a_result_for_each() {
    let server = Server::start(HUBS).await;
    let mut client = server.connect("shop").await;
    let long = "x".repeat(256);
    let publishes = json!([
        {"reqID": 1, "channel": "a", "text": "x"},
        {"reqID": 2, "channel": "", "text": "x"},
        {"reqID": 3, "channel": long, "text": "x"},
        {"reqID": 4, "channel": "quiet", "text": "x"},
        {"reqID": 5, "channel": "a", "event": long},
        {"reqID": 6, "channel": "a", "key": "short"},
        {"reqID": 7, "channel": "a", "extra": {"retain": true}},
        {"reqID": 8, "channel": "a", "extra": {"push": true}},
        {"reqID": 9, "channel": "b", "payload": null},
    ]);
    client.send("Publish", json!({"publishes": publishes})).await;
    let mut results = Vec::new();
    while results.len() < 9 {
        results.extend(client.expect("Ack").await["published"].as_array().unwrap().clone());
    }
    results.sort_by_key(|result| result["reqID"].as_u64());
    let told: Vec<_> = results.iter().map(|result| result["error"]["name"].as_str().unwrap_or("ok")).collect();
    let expected = [
        "ok",
        "bad_channel",
        "bad_channel",
        "channel_denied",
        "bad_event_name",
        "bad_key",
        "retain_not_allowed",
        "push_not_allowed",
        "ok",
    ];
    assert_eq!(told, expected);
    assert!(results.iter().all(|result| result["success"] == (result["error"].is_null())));
}

/// One after the other, without a hole, to every subscriber on every worker, each acknowledged once.
#[tokio::test]
async fn a_thousand_messages_keep_their_order() {
    const COUNT: u64 = 1_000;
    let server = Server::start(HUBS).await;
    for (worker, store) in [(0, false), (1, false), (1, true)] {
        let channel = channel_at("shop", worker);
        let mut subscribers = [server.connect_at("shop", 0).await, server.connect_at("shop", 1).await];
        let mut first = 0;
        for subscriber in &mut subscribers {
            first = sequence(&subscriber.subscribe(&[&channel]).await[0].1) + 1;
        }
        let mut publisher = server.connect("shop").await;
        for number in 0..COUNT {
            // Now and then one that has to be stored first, which those behind it wait for.
            let extra = json!({"store": store && number % 7 == 0});
            let publish = json!({"reqID": number, "channel": channel, "payload": number, "extra": extra});
            publisher.send("Publish", json!({"publishes": [publish]})).await;
        }
        for subscriber in &mut subscribers {
            for number in 0..COUNT {
                let message = subscriber.expect("Publish").await;
                assert_eq!((message["payload"].as_u64(), sequence(&message)), (Some(number), first + number));
            }
            assert!(subscriber.settled().await.is_empty());
        }
        let mut acknowledged = Vec::new();
        while acknowledged.len() < COUNT as usize {
            acknowledged.extend(publisher.expect("Ack").await["published"].as_array().unwrap().clone());
        }
        let expected = (0..COUNT).map(|number| (Some(number), first + number));
        assert!(acknowledged.iter().map(|result| (result["reqID"].as_u64(), sequence(result))).eq(expected));
    }
}

#[tokio::test]
async fn channels_are_subscribed_to_and_left_in_batches() {
    let server = Server::start(HUBS).await;
    let mut client = server.connect("shop").await;
    let (one, two) = (channel_at("shop", 0), channel_at("shop", 1));
    let channels = [&one, &two, "", "doc:1"].map(|channel| json!({"channel": channel}));
    client.send("Subscribe", json!({"reqID": 4, "channels": channels})).await;
    let answer = client.until("Subscribe").await;
    let mut subscribed: Vec<_> = answer["subscribedChannels"].as_array().unwrap().clone();
    subscribed.sort_by_key(Value::to_string);
    let mut both = [json!(one), json!(two)];
    both.sort_by_key(Value::to_string);
    assert_eq!(subscribed, both);
    let mut errors: Vec<_> =
        answer["errors"].as_array().unwrap().iter().map(|e| (e["channel"].as_str(), e["name"].as_str())).collect();
    errors.sort();
    assert_eq!(errors, [(Some(""), Some("bad_channel")), (Some("doc:1"), Some("unsupported"))]);
    assert_eq!(names(&client.settled().await), ["Position", "Position"]);

    client.send("Unsubscribe", json!({"reqID": 5, "channels": [one, "never"]})).await;
    let left = client.expect("Unsubscribe").await;
    assert_eq!((&left["unsubscribedChannels"], &left["error"]), (&json!([one]), &Value::Null));
    client.send("Unsubscribe", json!({"reqID": 6, "channels": ["never"]})).await;
    assert_eq!(client.expect("Unsubscribe").await["error"]["name"], "not_subscribed");
    client.publish(&one, "nobody hears this").await;
    client.publish(&two, "this is heard").await;
    assert_eq!(client.until("Publish").await["text"], "this is heard");
    assert!(client.settled().await.is_empty());
}

/// What a publisher hears of its own message, it hears once.
#[tokio::test]
async fn one_who_subscribes_and_publishes_hears_itself() {
    let server = Server::start(HUBS).await;
    let mut client = in_time(server.connect("shop")).await;
    client.subscribe(&["a"]).await;
    client.subscribe(&["a"]).await;
    client.publish("a", "x").await;
    assert_eq!(client.until("Publish").await["text"], "x");
    assert!(client.settled().await.is_empty());
}

/// The number of a message, or of a position, within its epoch.
pub fn sequence(payload: &Value) -> u64 {
    let serial = payload["channelSerial"].as_str().unwrap_or_else(|| panic!("no serial: {payload}"));
    serial.split_once(':').unwrap().1.parse().unwrap()
}
