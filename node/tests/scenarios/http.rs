//! Publishing and reading without a connection, and what pages of other origins may do.

use hyper::Method;
use serde_json::{Value, json};

use super::server::{Server, channel_at};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open, allowedOrigins: ['https://shop.example', 'https://*.shop.example']}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, allowStore: true}}
---
{kind: ChannelRules, hub: shop, name: closed, spec: {public: false}}
---
{kind: Channel, hub: shop, name: closed, spec: {rules: closed}}
---
{kind: Hub, name: strict, spec: {defaultPublic: true}}
---
{kind: Hub, name: own, spec: {defaultPublic: true, allowAnonymous: true}}
";

#[tokio::test]
async fn a_publish_without_a_connection_is_heard() {
    let server = Server::start(HUBS).await;
    let mut listener = server.connect("shop").await;
    let (one, two) = (channel_at("shop", 0), channel_at("shop", 1));
    listener.subscribe(&[&one, &two]).await;
    let publishes = json!([
        {"channel": one, "event": "price", "payload": {"eur": 1.5}, "reqID": 3},
        {"channel": "closed"},
        {"channel": two, "text": "x"},
    ]);
    let answer = server.post("shop").send(json!({"publishes": publishes})).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "application/json"));
    let results = &answer.body["published"];
    assert_eq!((&results[0]["reqID"], &results[1]["reqID"], &results[2]["reqID"]), (&json!(3), &json!(0), &json!(0)));
    assert_eq!((&results[0]["success"], &results[1]["error"]["name"]), (&json!(true), &json!("channel_denied")));
    for (channel, result) in [(&one, &results[0]), (&two, &results[2])] {
        let message = listener.until_one(|event, payload| event == "Publish" && payload["channel"] == **channel).await;
        assert_eq!(message["msgID"], result["msgID"]);
    }
}

#[tokio::test]
async fn refusals_are_problem_details() {
    let server = Server::start_with(HUBS, |config| config.session.message_bytes_max = 10_000).await;
    let good = json!({"publishes": [{"channel": "a"}]}).to_string();
    let large = json!({"publishes": [{"channel": "a", "text": "x".repeat(10_000)}]}).to_string();
    for (hub, token, body, status, code, name) in [
        ("nobody", None, &good, 404, 140, "hub_not_found"),
        ("%FF", None, &good, 404, 140, "hub_not_found"),
        ("strict", None, &good, 401, 147, "unauthorized"),
        ("shop", Some("x"), &good, 401, 134, "token_invalid"),
        ("shop", None, &"{}".to_owned(), 400, 100, "bad_message"),
        ("shop", None, &"x".to_owned(), 400, 100, "bad_message"),
        ("shop", None, &large, 413, 102, "message_too_large"),
    ] {
        let mut call = server.post(hub);
        if let Some(token) = token {
            call = call.token(token);
        }
        call.send(body).await.is_refusal(status, code, name);
    }
    for (path, status, code, name) in [
        ("/hubs/shop/history?channel=closed", 403, 111, "channel_denied"),
        ("/hubs/shop/history?channel=", 400, 110, "bad_channel"),
        ("/hubs/shop/history?channel=a&beforeTs=1&afterTs=1", 400, 115, "bad_serial"),
        ("/hubs/shop/history?channel=a&afterSerial=x", 400, 115, "bad_serial"),
        ("/hubs/shop/history?channel=a&limit=x", 400, 100, "bad_message"),
        ("/hubs/shop/history", 400, 100, "bad_message"),
        ("/hubs/strict/history?channel=a", 401, 147, "unauthorized"),
        ("/hubs/nobody/history?channel=a", 404, 140, "hub_not_found"),
        ("/hubs/shop", 404, 146, "not_found"),
    ] {
        server.get(path).answer().await.is_refusal(status, code, name);
    }
    let other = server.call(Method::PUT, "/hubs/shop/publish").answer().await;
    other.is_refusal(405, 148, "method_not_allowed");
    assert!(other.header("allow").contains("POST"));
}

#[tokio::test]
async fn stored_messages_are_read_page_by_page() {
    let server = Server::start(HUBS).await;
    let publishes: Vec<_> =
        (0..10).map(|number| json!({"channel": "a b", "payload": number, "extra": {"store": true}})).collect();
    let published = server.post("shop").send(json!({"publishes": publishes})).await;
    let newest = published.body["published"][9]["channelSerial"].clone();
    let (mut serial, mut found) = (newest.as_str().unwrap().to_owned(), vec![]);
    loop {
        let query = url::form_urlencoded::Serializer::new(String::new())
            .extend_pairs([("channel", "a b"), ("limit", "4"), ("beforeSerial", &serial)])
            .finish();
        let answer = server.get(&format!("/hubs/shop/history?{query}")).answer().await;
        let page = answer.body["messages"].as_array().unwrap().clone();
        serial = page.last().unwrap()["channelSerial"].as_str().unwrap().to_owned();
        found.extend(page.iter().map(|message| message["payload"].as_u64().unwrap()));
        if answer.body["more"] == false {
            break;
        }
    }
    assert!(found.into_iter().eq((0..9).rev()));
    let empty = server.get("/hubs/shop/history?channel=never").answer().await;
    assert_eq!((&empty.body["messages"], &empty.body["more"]), (&json!([]), &json!(false)));
}

#[tokio::test]
async fn pages_of_allowed_origins_may_read_the_answers() {
    let server = Server::start(HUBS).await;
    let body = json!({"publishes": [{"channel": "a"}]});
    for origin in ["https://shop.example", "https://www.shop.example"] {
        let preflight = server
            .call(Method::OPTIONS, "/hubs/shop/publish")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "authorization,content-type")
            .answer()
            .await;
        assert_eq!((preflight.status, preflight.header("access-control-allow-origin")), (204, origin));
        assert!(preflight.header("access-control-allow-methods").contains("POST"));
        assert!(preflight.header("access-control-allow-headers").contains("authorization"));
        assert!(preflight.header("access-control-allow-headers").contains("content-type"));
        let published = server.post("shop").header("origin", origin).send(&body).await;
        let history = server.get("/hubs/shop/history?channel=a").header("origin", origin).answer().await;
        for answer in [&published, &history] {
            assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, origin));
            assert_eq!(answer.header("vary"), "origin");
        }
        let stream = server.get("/hubs/shop/sse?channel=a").header("origin", origin).begin(String::new()).await;
        assert_eq!(stream.headers()["access-control-allow-origin"], origin);
        server.dial("shop").header("origin", origin).open().await;
    }
}

/// A page can't act upon a code that its browser keeps from it.
#[tokio::test]
async fn pages_of_allowed_origins_may_read_refusals() {
    let server = Server::start(HUBS).await;
    let origin = "https://shop.example";
    let paths = ["/hubs/shop/history?channel=closed", "/hubs/shop/sse", "/hubs/shop/history?channel=a&token=x"];
    for path in paths {
        let answer = server.get(path).header("origin", origin).answer().await;
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.header("access-control-allow-origin"), origin, "{path}");
    }
    let answer = server.post("shop").header("origin", origin).send("x").await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (400, origin));
}

/// Whatever a page may do with a token in a header, its browser asks about first.
#[tokio::test]
async fn a_browser_may_ask_about_every_address() {
    let server = Server::start(HUBS).await;
    for path in ["/hubs/shop/publish", "/hubs/shop/history", "/hubs/shop/sse"] {
        let preflight = server.call(Method::OPTIONS, path).header("origin", "https://shop.example").answer().await;
        assert_eq!(preflight.status, 204, "{path}");
        assert!(preflight.header("access-control-allow-headers").contains("authorization"));
    }
}

#[tokio::test]
async fn pages_of_other_origins_are_refused() {
    let server = Server::start(HUBS).await;
    let own = format!("http://{}", server.address);
    for (hub, origin, allowed) in [
        ("shop", "https://evil.example", false),
        ("shop", "https://shop.example.evil.example", false),
        ("shop", "http://shop.example", false),
        ("shop", "null", false),
        ("own", "https://shop.example", false),
        ("own", &own, true),
    ] {
        let answer = server.post(hub).header("origin", origin).send(json!({"publishes": []})).await;
        let connected = server.dial(hub).header("origin", origin).handshake().await.is_ok();
        assert_eq!(connected, allowed, "{hub} {origin}");
        if allowed {
            assert_eq!(answer.status, 200);
            continue;
        }
        answer.is_refusal(403, 142, "origin_denied");
        assert_eq!(answer.header("access-control-allow-origin"), "");
        let preflight = server.call(Method::OPTIONS, &format!("/hubs/{hub}/publish")).header("origin", origin);
        preflight.answer().await.is_refusal(403, 142, "origin_denied");
        let stream = server.get(&format!("/hubs/{hub}/sse?channel=a")).header("origin", origin);
        stream.answer().await.is_refusal(403, 142, "origin_denied");
    }
    assert_eq!(server.get("/healthz").answer().await.body, Value::from("ok\n"));
}
