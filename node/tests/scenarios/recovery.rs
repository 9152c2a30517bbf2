//! Coming back to a channel.

use appsockets_node::config::Config;
use serde_json::{Value, json};

use super::{
    client::{Client, names},
    publishing::sequence,
    server::{Server, channel_at},
};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, allowStore: true, allowRetain: true}}
";

/// A client that has published so many messages, `0`, `1`, … and their results.
async fn filled(server: &Server, channel: &str, count: usize) -> (Client, Vec<Value>) {
    let mut client = server.connect("shop").await;
    let mut results = Vec::new();
    for number in 0..count {
        results.push(client.publish(channel, &number.to_string()).await);
    }
    (client, results)
}

fn texts(events: &[(String, Value)]) -> Vec<&str> {
    events
        .iter()
        .filter(|(event, _)| event == "Publish")
        .map(|(_, message)| message["text"].as_str().unwrap())
        .collect()
}

fn few(config: &mut Config) {
    config.channel.max_live_history_size = 3;
}

#[tokio::test]
async fn by_serial_exactly_what_was_missed_comes() {
    let server = Server::start_with(HUBS, few).await;
    for worker in [0, 1] {
        let channel = channel_at("shop", worker);
        let (mut client, results) = filled(&server, &channel, 5).await;
        for (known, missed) in [(4, vec![]), (3, vec!["4"]), (1, vec!["2", "3", "4"])] {
            let serial = &results[known]["channelSerial"];
            let events =
                client.subscribe_from(json!([{"channel": channel, "channelSerial": serial, "timestamp": 1}])).await;
            let position = json!({"channel": channel, "channelSerial": serial, "recovered": true});
            assert_eq!((events[0].0.as_str(), &events[0].1), ("Position", &position));
            assert_eq!(texts(&events), missed);
        }
    }
}

#[tokio::test]
async fn beyond_what_is_kept_the_client_is_told() {
    let server = Server::start_with(HUBS, few).await;
    let (mut client, results) = filled(&server, "a", 5).await;
    let newest = &results[4]["channelSerial"];
    let (epoch, _) = newest.as_str().unwrap().split_once(':').unwrap();
    let (too_old, ahead) = (&results[0]["channelSerial"], json!(format!("{epoch}:6")));
    for (serial, known) in [(too_old, too_old), (&ahead, &Value::Null), (&json!("1-0-1-0:3"), &Value::Null)] {
        let events = client.subscribe_from(json!([{"channel": "a", "channelSerial": serial}])).await;
        assert_eq!(names(&events), ["Position"]);
        let position = &events[0].1;
        assert_eq!((&position["channelSerial"], &position["recovered"]), (newest, &json!(false)));
        assert_eq!(&position["knownSerial"], known);
    }
    client.send("Subscribe", json!({"reqID": 1, "channels": [{"channel": "b", "channelSerial": "nonsense"}]})).await;
    assert_eq!(client.expect("Subscribe").await["errors"][0]["name"], "bad_serial");
}

#[tokio::test]
async fn by_timestamp_the_messages_of_that_millisecond_come_again() {
    let server = Server::start_with(HUBS, few).await;
    let mut listener = server.connect("shop").await;
    listener.subscribe(&["a"]).await;
    let (mut client, _) = filled(&server, "a", 4).await;
    let mut heard = Vec::new();
    for _ in 0..4 {
        heard.push(listener.expect("Publish").await);
    }
    let ts = heard[2]["ts"].as_u64().unwrap();
    let oldest_kept = heard[1]["ts"].as_u64().unwrap();
    let expected: Vec<_> = heard.iter().filter(|message| message["ts"].as_u64() >= Some(ts)).collect();
    let events = client.subscribe_from(json!([{"channel": "a", "timestamp": ts}])).await;
    // The first is gone from memory; if it has the same millisecond, nobody can say that nothing is missing.
    let recovered = heard[0]["ts"].as_u64().unwrap() < ts;
    assert_eq!(events[0].1["recovered"], recovered);
    if recovered {
        assert_eq!(events[1..].iter().map(|(_, message)| message).collect::<Vec<_>>(), expected);
    }
    let events = client.subscribe_from(json!([{"channel": "a", "timestamp": oldest_kept - 10_000}])).await;
    assert_eq!((names(&events), &events[0].1["recovered"]), (vec!["Position"], &json!(false)));
    let events =
        client.subscribe_from(json!([{"channel": "a", "timestamp": heard[3]["ts"].as_u64().unwrap() + 1_000}])).await;
    assert_eq!((names(&events), &events[0].1["recovered"]), (vec!["Position"], &json!(true)));
}

#[tokio::test]
async fn without_live_history_only_one_who_missed_nothing_is_recovered() {
    let server = Server::start_with(HUBS, |config| config.channel.enable_live_history = false).await;
    let (mut client, results) = filled(&server, "a", 3).await;
    for (known, recovered) in [(2, true), (1, false)] {
        let events =
            client.subscribe_from(json!([{"channel": "a", "channelSerial": results[known]["channelSerial"]}])).await;
        assert_eq!((names(&events), &events[0].1["recovered"]), (vec!["Position"], &json!(recovered)));
    }
}

#[tokio::test]
async fn the_retained_message_comes_first_and_not_twice() {
    let server = Server::start(HUBS).await;
    let mut client = server.connect("shop").await;
    let retained = client.publish_with(json!({"channel": "a", "text": "kept", "extra": {"retain": true}})).await;
    let later = client.publish("a", "later").await;
    let events = client.subscribe(&["a"]).await;
    assert_eq!(names(&events), ["Position", "Publish"]);
    assert_eq!(events[0].1["channelSerial"], later["channelSerial"]);
    assert!(events[0].1.get("recovered").is_none());
    let message = &events[1].1;
    assert_eq!((&message["text"], &message["retained"]), (&json!("kept"), &json!(true)));
    assert_eq!(message["channelSerial"], retained["channelSerial"]);

    let events = client.subscribe_from(json!([{"channel": "a", "channelSerial": retained["channelSerial"]}])).await;
    assert_eq!((names(&events), texts(&events)), (vec!["Position", "Publish"], vec!["later"]));
    let next = client.publish("a", "next").await;
    assert_eq!(sequence(&next), sequence(&later) + 1, "it has no number of its own");
}

#[tokio::test]
async fn history_is_read_page_by_page_in_both_directions() {
    let server = Server::start_with(HUBS, |config| config.channel.history_page_size = 4).await;
    let mut client = server.connect("shop").await;
    for number in 0..10 {
        let extra = json!({"store": number != 5});
        client.publish_with(json!({"channel": "a", "text": number.to_string(), "extra": extra})).await;
    }
    let (back, oldest) = pages(&mut client, json!({"limit": 100}), "beforeSerial").await;
    assert_eq!(back, "987643210");
    let (forth, _) = pages(&mut client, json!({"limit": 3, "afterSerial": oldest}), "afterSerial").await;
    assert_eq!(forth, "12346789");
    let newest = pages(&mut client, json!({"limit": 1}), "").await.0;
    assert!(newest.starts_with('9'));
    client.send("History", json!({"reqID": 1, "channel": "a", "beforeTs": 1, "afterTs": 1})).await;
    assert_eq!(client.expect("History").await["error"]["name"], "bad_serial");
}

/// The texts of all pages, and the last serial. Without a bound to go on with: of one page.
async fn pages(client: &mut Client, mut query: Value, bound: &str) -> (String, Value) {
    let (mut found, mut last) = (String::new(), Value::Null);
    query["reqID"] = json!(1);
    query["channel"] = json!("a");
    loop {
        client.send("History", query.clone()).await;
        let page = client.expect("History").await;
        let messages = page["messages"].as_array().unwrap();
        // A page that does not begin at a serial never splits a millisecond, and may be longer for that.
        assert!(messages.len() <= 4 || query.get(bound).is_none(), "the node bounds the page");
        found.extend(messages.iter().map(|message| message["text"].as_str().unwrap()));
        last = messages.last().map_or(last, |message| message["channelSerial"].clone());
        if page["more"] == false || bound.is_empty() {
            return (found, last);
        }
        query[bound] = last.clone();
    }
}
