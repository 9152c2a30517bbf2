//! What one session, or one tenant, may use (R-206, R-207, R-209, R-403).

use serde_json::{Value, json};
use tokio::{io::AsyncReadExt, net::TcpStream};

use super::{client::Client, eventually, in_time, server::Server};

fn hub(limits: &str) -> String {
    format!("{{kind: Hub, name: shop, spec: {{defaultPublic: true, allowAnonymous: true, limits: {limits}}}}}")
}

/// Publishes so many at once and returns the results, in the order of their ids.
async fn burst(client: &mut Client, count: usize) -> Vec<Value> {
    for id in 1..=count {
        client.send("Publish", json!({"publishes": [{"reqID": id, "channel": "a", "text": ""}]})).await;
    }
    let mut results = Vec::new();
    while results.len() < count {
        results.extend(client.until("Ack").await["published"].as_array().unwrap().clone());
    }
    results.sort_by_key(|result| result["reqID"].as_u64());
    assert!(results.iter().map(|result| result["reqID"].as_u64()).eq((1..=count as u64).map(Some)));
    results
}

fn refused<'a>(results: &'a [Value], name: &'a str) -> impl Iterator<Item = &'a Value> {
    results.iter().map(|result| &result["error"]).filter(move |error| error["name"] == name)
}

#[tokio::test]
async fn a_session_that_sends_too_fast_is_told_and_stays() {
    let server = Server::start(&hub("{sessionMessagesPerSecond: 5}")).await;
    let (mut fast, mut other) = (server.connect("shop").await, server.connect("shop").await);
    for _ in 0..100 {
        fast.send("Pong", json!({})).await;
    }
    let results = burst(&mut fast, 100).await;
    assert_eq!(results[0]["success"], true, "heartbeats do not count");
    assert!(refused(&results, "rate_limited").all(|error| error["retry"] == true && error["code"] == 103));
    assert!(refused(&results, "rate_limited").count() > 0);
    assert_eq!(other.publish("a", "").await["success"], true, "it slows nobody else");
    eventually(async || fast.publish("a", "").await["success"] == true).await;
}

#[tokio::test]
async fn a_hubs_sessions_share_its_rate() {
    let hubs = format!(
        "{}\n---\n{}",
        hub("{messagesPerSecond: 5}"),
        "{kind: Hub, name: free, spec: {defaultPublic: true, allowAnonymous: true}}"
    );
    let server = Server::start(&hubs).await;
    let mut one = server.connect_at("shop", 0).await;
    let mut two = server.connect_at("shop", 1).await;
    let results = burst(&mut one, 100).await;
    assert!(refused(&results, "hub_rate_limited").count() > 0);
    let results = burst(&mut two, 100).await;
    assert!(refused(&results, "hub_rate_limited").count() > 0);
    let body = json!({"publishes": vec![json!({"channel": "a"}); 100]});
    let mut answers = Vec::new();
    for _ in 0..3 {
        answers.push(server.post("shop").send(&body).await);
    }
    answers.last().unwrap().is_refusal(429, 104, "hub_rate_limited");
    let mut free = server.connect("free").await;
    assert_eq!(free.publish("a", "").await["success"], true, "other hubs do not feel it");
}

#[tokio::test]
async fn reading_history_counts_as_well() {
    let server = Server::start(&hub("{messagesPerSecond: 5}")).await;
    let mut last = None;
    for _ in 0..20 {
        last = Some(server.get("/hubs/shop/history?channel=a").answer().await);
    }
    last.unwrap().is_refusal(429, 104, "hub_rate_limited");
}

#[tokio::test]
async fn pages_of_history_are_read_one_after_the_other() {
    let server = Server::start_with(&hub("{}"), |config| config.session.pending_requests_max = 1).await;
    let mut client = server.connect("shop").await;
    for number in 1..=50 {
        client.send("History", json!({"reqID": number, "channel": "a"})).await;
    }
    let (mut pages, mut refused) = (Vec::new(), 0);
    while pages.len() + refused < 50 {
        let answer = client.until("History").await;
        match &answer["error"]["name"] {
            Value::Null => pages.push(answer["reqID"].as_u64()),
            name => {
                assert_eq!(name, "too_many_requests");
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && pages.len() > 1 && pages.is_sorted(), "{refused} refused, {pages:?}");
}

#[tokio::test]
async fn a_node_that_is_full_says_so() {
    let server = Server::start_with(&hub("{}"), |config| config.connection.max = 1).await;
    let _one = server.connect("shop").await;
    // It is turned away before it has asked for anything.
    let (mut other, mut answer) = (in_time(TcpStream::connect(server.address)).await.unwrap(), String::new());
    in_time(other.read_to_string(&mut answer)).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(
        head.starts_with("HTTP/1.1 503 ") && head.contains(&format!("content-length: {}\r\n", body.len())),
        "{head}"
    );
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!(
        (&problem["code"], &problem["name"], &problem["retry"]),
        (&json!(149), &json!("node_full"), &json!(true))
    );
}

#[tokio::test]
async fn a_hub_that_is_full_takes_nobody_until_somebody_leaves() {
    let server = Server::start(&hub("{connections: 2}")).await;
    let (one, _two) = (server.connect("shop").await, server.connect("shop").await);
    let (status, problem) = server.dial("shop").refused().await;
    assert_eq!((status, &problem["name"], &problem["retry"]), (503, &json!("hub_full"), &json!(true)));
    server.listen_refused("shop", "channel=a").await.is_refusal(503, 141, "hub_full");
    drop(one);
    eventually(async || server.dial("shop").handshake().await.is_ok()).await;
}

#[tokio::test]
async fn a_session_has_only_so_many_channels() {
    let server = Server::start(&hub("{channelsPerSession: 2}")).await;
    let mut client = server.connect("shop").await;
    let channels: Vec<_> = ["a", "b", "c"].map(|channel| json!({"channel": channel})).into();
    client.send("Subscribe", json!({"reqID": 1, "channels": channels})).await;
    let answer = client.until("Subscribe").await;
    assert_eq!(answer["subscribedChannels"].as_array().unwrap().len(), 2);
    assert_eq!(
        (&answer["errors"][0]["name"], &answer["errors"][0]["channel"]),
        (&json!("too_many_channels"), &json!("c"))
    );
    client.send("Unsubscribe", json!({"reqID": 2, "channels": ["a"]})).await;
    client.until("Unsubscribe").await;
    client.subscribe(&["c"]).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_told_and_then_ends_the_session() {
    let server = Server::start_with(&hub("{}"), |config| config.session.unreadable_messages_max = 3).await;
    let mut client = server.connect("shop").await;
    for (text, name, req_id) in [
        ("{", "bad_message", Value::Null),
        (r#"{"event":"Nonsense","payload":{}}"#, "unknown_event", Value::Null),
        (r#"{"event":"Subscribe","payload":{"reqID":9,"channels":3}}"#, "bad_message", json!(9)),
    ] {
        client.send_text(text).await;
        let error = client.expect("Error").await;
        assert_eq!((&error["name"], &error["reqID"]), (&json!(name), &req_id), "{text}");
    }
    assert_eq!(client.publish("a", "").await["success"], true, "one that can be read begins the count anew");
    for _ in 0..3 {
        client.send_text("{").await;
        client.expect("Error").await;
    }
    client.send_text("{").await;
    let (close, code) = client.closed().await;
    assert_eq!((close.unwrap()["name"].as_str(), code), (Some("protocol_violation"), 4104));
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_connection() {
    let server = Server::start_with(&hub("{}"), |config| config.session.message_bytes_max = 1_000).await;
    let mut client = server.connect("shop").await;
    assert_eq!(client.info["maxMessageSize"], 1_000);
    let fits = json!({"event": "Pong", "payload": {}}).to_string();
    client.send_text(&format!("{fits}{}", " ".repeat(1_000 - fits.len()))).await;
    assert!(client.settled().await.is_empty());
    client.send_text(&" ".repeat(1_001)).await;
    assert_eq!(client.expect("Error").await["name"], "message_too_large");
    assert_eq!(client.closed().await.1, 1009);
}

#[tokio::test]
async fn unknown_hubs_are_made_up_to_a_bound_where_that_is_allowed() {
    let server = Server::start_with(&hub("{}"), |config| {
        config.engine.allow_dynamic_hubs = true;
        config.engine.dynamic_hubs_max = 2;
        config.engine.dynamic_hub.allow_anonymous = true;
        config.engine.dynamic_hub.default_public = true;
    })
    .await;
    let mut clients = [server.connect("new-1").await, server.connect("new-2").await];
    let [one, two] = &mut clients;
    one.subscribe(&["a"]).await;
    assert_eq!(two.publish("a", "").await["success"], true);
    assert!(one.settled().await.is_empty(), "hubs do not hear each other");
    let (status, problem) = server.dial("new-3").refused().await;
    assert_eq!((status, &problem["name"]), (404, &json!("hub_not_found")));
    server.connect("new-1").await;
}

#[tokio::test]
async fn ids_come_back_and_without_one_success_is_silent() {
    let server = Server::start(&hub("{}")).await;
    let mut client = server.connect("shop").await;
    for id in [1, -1, i64::MAX >> 10, -(i64::MAX >> 10)] {
        client.send("Subscribe", json!({"reqID": id, "channels": [{"channel": "a"}]})).await;
        assert_eq!(client.until("Subscribe").await["reqID"], id);
        client.send("Publish", json!({"publishes": [{"reqID": id, "channel": "b"}]})).await;
        assert_eq!(client.until("Ack").await["published"][0]["reqID"], id);
        client.send("History", json!({"reqID": id, "channel": "a"})).await;
        assert_eq!(client.until("History").await["reqID"], id);
        client.send("Unsubscribe", json!({"reqID": id, "channels": ["a"]})).await;
        assert_eq!(client.until("Unsubscribe").await["reqID"], id);
    }
    client.settled().await;
    client.send("Publish", json!({"publishes": [{"channel": "b"}]})).await;
    client.send("Unsubscribe", json!({"channels": []})).await;
    assert!(client.settled().await.is_empty());
    client.send("Publish", json!({"publishes": [{"channel": "doc:1"}]})).await;
    client.send("Unsubscribe", json!({"channels": ["c"]})).await;
    client.send("History", json!({"channel": "a"})).await;
    let told: Vec<_> = client
        .settled()
        .await
        .into_iter()
        .map(|(event, payload)| (event, payload["name"].clone(), payload["channel"].clone()))
        .collect();
    let expected = [("Error", json!("unsupported"), json!("doc:1")), ("Error", json!("not_subscribed"), json!("c"))];
    assert_eq!(told[..2], expected.map(|(event, name, channel)| (event.to_owned(), name, channel)));
    assert_eq!(told[2].0, "History");
}
