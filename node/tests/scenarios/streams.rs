//! Server-Sent Events.

use serde_json::{Value, json};

use super::{
    presence::is_of,
    server::{Server, channel_at},
    sse::{Sse, channels},
};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true}}
---
{kind: ChannelRules, hub: shop, name: closed, spec: {public: false}}
---
{kind: ChannelRules, hub: shop, name: watched, spec: {allowAnonymous: true, presence: true}}
---
{kind: Channel, hub: shop, name: closed, spec: {rules: closed}}
---
{kind: Channel, hub: shop, name: watched, spec: {rules: watched}}
---
{kind: Hub, name: strict, spec: {defaultPublic: true}}
";

async fn server(restore_window_ms: u64) -> Server {
    Server::start_with(HUBS, |config| config.session.restore_window_ms = restore_window_ms).await
}

/// Reads the events of a stream up to that message, without SessionInfo and SessionRestored.
async fn up_to(stream: &mut Sse, last: &str) -> Vec<(String, Value)> {
    let mut events = Vec::new();
    loop {
        let (event, payload) = stream.next().await.expect("not the end");
        let ends = event == "Publish" && payload["text"] == last;
        if !event.starts_with("Session") {
            events.push((event, payload));
        }
        if ends {
            return events;
        }
    }
}

fn texts(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().filter_map(|(event, payload)| payload["text"].as_str().filter(|_| event == "Publish")).collect()
}

#[tokio::test]
async fn the_channels_of_the_query_are_heard() {
    let server = server(5_000).await;
    let (one, two) = (channel_at("shop", 0), channel_at("shop", 1));
    let mut stream = server.listen("shop", &channels(&[&one, &two, "closed", "", "a&b=c d"]), None).await;
    assert_eq!(stream.headers["content-type"], "text/event-stream");
    assert_eq!(stream.headers["cache-control"], "no-store");
    assert_eq!(stream.expect("SessionInfo").await["hubID"], "shop");
    let mut opened = Vec::new();
    let mut refused = Vec::new();
    for _ in 0..5 {
        let (event, payload) = stream.next().await.unwrap();
        match event.as_str() {
            "Position" => opened.push(payload["channel"].clone()),
            "Error" => refused.push((payload["channel"].clone(), payload["name"].clone())),
            _ => panic!("{event} {payload}"),
        }
    }
    assert_eq!((opened.len(), opened.contains(&json!("a&b=c d"))), (3, true));
    refused.sort_by_key(|(channel, _)| channel.to_string());
    assert_eq!(refused, [(json!(""), json!("bad_channel")), (json!("closed"), json!("channel_denied"))]);

    let mut publisher = server.connect("shop").await;
    for channel in [&one, &two] {
        let multiline = json!({"channel": channel, "payload": {"lines": "a\nb"}, "event": "e"});
        let result = publisher.publish_with(multiline).await;
        let message = stream.expect("Publish").await;
        assert_eq!(
            (&message["channelSerial"], &message["payload"]),
            (&result["channelSerial"], &json!({"lines": "a\nb"}))
        );
    }
}

#[tokio::test]
async fn what_cannot_be_listened_to_is_refused() {
    let server = server(5_000).await;
    server.listen_refused("shop", "").await.is_refusal(400, 100, "bad_message");
    server.listen_refused("nobody", "channel=a").await.is_refusal(404, 140, "hub_not_found");
    server.listen_refused("strict", "channel=a").await.is_refusal(401, 147, "unauthorized");
    server.listen_refused("strict", "channel=a&token=x").await.is_refusal(401, 134, "token_invalid");
}

/// Just what was missed comes, whether the node still has the session or only the id tells of it.
#[tokio::test]
async fn a_stream_goes_on_where_it_broke() {
    for window_ms in [1_000_000, 0] {
        let server = server(window_ms).await;
        let (one, two) = (channel_at("shop", 0), channel_at("shop", 1));
        let query = channels(&[&one, &two]);
        let mut publisher = server.connect("shop").await;
        publisher.publish(&one, "before").await;
        let mut last_id = None;
        for round in 0..4 {
            let mut stream = server.listen("shop", &query, last_id.as_deref()).await;
            let text = |name: &str| format!("{name} {round}");
            // Connected only when the node has told of both channels.
            let mut events = Vec::new();
            while events.iter().filter(|(event, _): &&(String, Value)| event == "Position").count() < 2 {
                events.push(stream.next().await.unwrap());
            }
            publisher.publish(&one, &text("heard")).await;
            publisher.publish(&two, &text("heard too")).await;
            events.extend(up_to(&mut stream, &text("heard too")).await);
            let positions: Vec<_> = events.iter().filter(|(event, _)| event == "Position").collect();
            let recovered = if round == 0 { Value::Null } else { json!(true) };
            assert!(positions.iter().all(|(_, position)| position["recovered"] == recovered), "{positions:?}");
            let mut expected = vec![text("heard"), text("heard too")];
            if round > 0 {
                expected.extend([format!("missed {}", round - 1), format!("missed too {}", round - 1)]);
            }
            let mut heard = texts(&events);
            heard.sort();
            expected.sort();
            assert_eq!(heard, expected);
            last_id = Some(stream.next_id().await);
            drop(stream);
            publisher.publish(&one, &text("missed")).await;
            publisher.publish(&two, &text("missed too")).await;
        }
    }
}

/// Too many positions for a header: the node holds them, for as long as it holds the session.
#[tokio::test]
async fn a_stream_of_many_channels_goes_on_within_the_window() {
    for (window_ms, recovered) in [(1_000_000, true), (0, false)] {
        let server = server(window_ms).await;
        let mut watcher = server.connect("shop").await;
        watcher.subscribe(&["watched"]).await;
        let mut names: Vec<_> = (0..60).map(|number| format!("a-channel-with-a-long-name-{number}")).collect();
        names.push("watched".to_owned());
        let query = channels(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let mut stream = server.listen("shop", &query, None).await;
        for _ in 0..names.len() {
            stream.until("Position").await;
        }
        let mut publisher = server.connect("shop").await;
        publisher.publish(&names[7], "heard").await;
        up_to(&mut stream, "heard").await;
        let id = stream.next_id().await;
        assert!(id.len() < 200, "the positions are not in it");
        drop(stream);
        if !recovered {
            watcher.until("Leave").await;
        }
        publisher.publish(&names[7], "missed").await;
        let mut stream = server.listen("shop", &query, Some(&id)).await;
        let mut heard = Vec::new();
        for _ in 0..names.len() {
            loop {
                let (event, payload) = stream.next().await.unwrap();
                match event.as_str() {
                    "Position" => {
                        assert_eq!(payload["recovered"], recovered, "{payload}");
                        break;
                    }
                    "Publish" => heard.push(payload["text"].clone()),
                    _ => {}
                }
            }
        }
        publisher.publish(&names[7], "live").await;
        let rest = up_to(&mut stream, "live").await;
        heard.extend(texts(&rest).into_iter().map(Value::from));
        let expected = if recovered { json!(["missed", "live"]) } else { json!(["live"]) };
        assert_eq!(json!(heard), expected);
    }
}

#[tokio::test]
async fn one_who_connects_again_in_time_neither_leaves_nor_joins() {
    let server = server(1_000_000).await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["watched"]).await;
    let mut stream = server.listen("shop", "channel=watched", None).await;
    let id = stream.expect("SessionInfo").await["sessionID"].as_str().unwrap().to_owned();
    assert!(is_of(&watcher.expect("Join").await, &id));
    let mut last_id = stream.next_id().await;
    for _ in 0..5 {
        let mut again = server.listen("shop", "channel=watched", Some(&last_id)).await;
        assert_eq!(again.until("SessionRestored").await["sessionID"], id);
        last_id = again.next_id().await;
        stream = again;
    }
    assert!(watcher.settled().await.is_empty());
    drop(stream);
}

#[tokio::test]
async fn an_id_that_no_node_has_made_is_ignored() {
    let server = server(5_000).await;
    for id in ["", "x", "?", "0-0-0-0?a=", "x?watched=1-0-1-0:7&b", "x#y", "#", "é?é"] {
        let mut stream = server.listen("shop", "channel=watched", Some(id)).await;
        stream.until("Position").await;
        let list = stream.expect("Presence").await;
        assert_eq!(list["channel"], "watched");
    }
}
