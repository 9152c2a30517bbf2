//! Authenticating in an open session.

use std::sync::atomic::{AtomicI64, Ordering};

use appsockets_node::config::Config;
use serde_json::{Value, json};

use super::{
    client::{Client, text},
    eventually,
    presence::is_of,
    provider::Provider,
    server::Server,
};

const HUBS: &str =
    "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, userChannel: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, presence: true}}
---
{kind: ChannelRules, hub: shop, name: closed, spec: {public: false}}
---
{kind: Namespace, hub: shop, name: order, spec: {rules: closed}}
---
{kind: Hub, name: strict, spec: {defaultPublic: true, defaultRules: open}}
---
{kind: ChannelRules, hub: strict, name: open, spec: {}}
---
{kind: Hub, name: bare, spec: {allowAnonymous: true}}
";

pub async fn server_with(change: impl FnOnce(&mut Config)) -> (Server, Provider) {
    let provider = Provider::start().await;
    let hubs = format!("{HUBS}{}{}", provider.resource("shop"), provider.resource("strict"));
    (Server::start_with(&hubs, change).await, provider)
}

pub async fn server() -> (Server, Provider) {
    server_with(|_| {}).await
}

/// Authenticates with what the provider takes for true.
pub async fn auth(client: &mut Client, payload: Value) -> Value {
    static REQUEST: AtomicI64 = AtomicI64::new(1_000);
    let id = REQUEST.fetch_add(1, Ordering::Relaxed);
    client.send("Auth", json!({"reqID": id, "payload": payload})).await;
    client.until_one(|event, payload| event == "Auth" && payload["reqID"] == id).await
}

#[tokio::test]
async fn the_provider_says_who_a_session_is() {
    let (server, provider) = server().await;
    let mut client = server.connect("shop").await;
    let channels = json!([{"channel": "order:*", "publish": false, "subscribe": true}]);
    let answer = auth(&mut client, json!({"user": "ann", "channels": channels})).await;
    assert_eq!((&answer["success"], &answer["userID"]), (&json!(true), &json!("ann")));
    assert_eq!(answer["channelAuthorizations"], channels);
    assert_eq!(answer["rpcAuthorizations"], json!([{"method": "cart:*"}]));
    assert_eq!(answer["extra"], json!({"name": "ANN"}));
    let (question, key) = provider.asked.lock().unwrap().pop().unwrap();
    let expected = json!({"hubID": "shop", "sessionID": client.id(), "payload": {"user": "ann", "channels": channels}});
    assert_eq!((question, key.as_str()), (expected, "hush"));

    client.subscribe(&["order:1:state"]).await;
    let refused = client.publish("order:1:state", "x").await;
    assert_eq!(refused["error"]["name"], "channel_denied");
    let mut anonymous = server.connect("shop").await;
    anonymous.send("Subscribe", json!({"reqID": 1, "channels": [{"channel": "order:1:state"}]})).await;
    assert_eq!(anonymous.expect("Subscribe").await["errors"][0]["name"], "channel_denied");
}

#[tokio::test]
async fn its_token_works_wherever_a_token_is_taken() {
    let (server, _provider) = server().await;
    let mut client = server.connect("strict").await;
    let channels = json!([{"channel": "order:#:state", "publish": true, "subscribe": true}]);
    let answer = auth(&mut client, json!({"user": "ann", "channels": channels})).await;
    let token = text(&answer["token"]);
    client.subscribe(&["order:1:state"]).await;
    let body = json!({"publishes": [{"channel": "order:1:state", "text": "by HTTP"}]});
    let published = server.post("strict").token(&token).send(&body).await;
    assert_eq!((published.status, &published.body["published"][0]["success"]), (200, &json!(true)));
    assert_eq!(client.expect("Publish").await["text"], "by HTTP");
    let history = format!("/hubs/strict/history?channel=order:1:state&token={token}");
    assert_eq!(server.get(&history).answer().await.status, 200);

    let by_header = server.dial("strict").token(&token).open().await;
    let by_query = server.dial("strict").query(&format!("token={token}")).open().await;
    for mut other in [by_header, by_query] {
        assert_eq!(other.info["authenticated"], true);
        assert_eq!(other.publish("order:1:state", "x").await["success"], true);
        assert_eq!(client.expect("Publish").await["text"], "x");
    }
    let mut stream = server.listen("strict", &format!("channel=order:1:state&token={token}"), None).await;
    stream.until("Position").await;
    let (status, problem) = server.dial("shop").token(&token).refused().await;
    assert_eq!((status, &problem["name"]), (401, &json!("token_invalid")), "it is for its hub alone");
    let mut tampered = token.clone();
    tampered.replace_range(
        token.len() - 5..token.len() - 4,
        if &token[token.len() - 5..token.len() - 4] == "A" { "B" } else { "A" },
    );
    assert_eq!(server.dial("strict").token(&tampered).refused().await.0, 401);

    let mut again = server.connect("strict").await;
    again.send("Auth", json!({"reqID": 1, "token": token})).await;
    assert_eq!(again.expect("Auth").await["userID"], "ann");
}

#[tokio::test]
async fn a_failure_ends_a_session_only_where_all_must_authenticate() {
    let (server, _provider) = server().await;
    let mut free = server.connect("shop").await;
    for payload in [json!({}), json!({"status": 401}), json!({"status": 403})] {
        let answer = auth(&mut free, payload.clone()).await;
        assert_eq!((&answer["success"], &answer["error"]["name"]), (&json!(false), &json!("auth_failed")));
        assert_eq!(free.publish("a", "x").await["success"], true);
        let mut strict = server.connect("strict").await;
        let answer = auth(&mut strict, payload).await;
        assert_eq!(answer["error"]["code"], 130);
        let (close, code) = strict.closed().await;
        assert_eq!((close.unwrap()["name"].clone(), code), (json!("auth_refused"), 4102));
    }
    let mut bare = server.connect("bare").await;
    assert_eq!(auth(&mut bare, json!({"user": "ann"})).await["error"]["name"], "auth_not_configured");
    bare.send("Auth", json!({"payload": 1})).await;
    assert_eq!(bare.expect("Auth").await["error"]["code"], 132, "it is answered without a request id too");
}

/// That the provider is away says nothing about the client.
#[tokio::test]
async fn a_provider_that_fails_ends_nobody() {
    let (server, _provider) = server().await;
    let mut client = server.connect("strict").await;
    let answer = auth(&mut client, json!({"status": 500})).await;
    assert_eq!((&answer["error"]["name"], &answer["error"]["retry"]), (&json!("auth_unavailable"), &json!(true)));
    let refused = client.publish("a", "x").await;
    assert_eq!(refused["error"]["name"], "not_authenticated");
    client.send("Subscribe", json!({"reqID": 1, "channels": [{"channel": "a"}]})).await;
    assert_eq!(client.expect("Subscribe").await["errors"][0]["name"], "not_authenticated");
    assert_eq!(auth(&mut client, json!({"user": "ann"})).await["success"], true);
    assert_eq!(client.publish("a", "x").await["success"], true);
}

#[tokio::test]
async fn who_does_not_authenticate_in_time_is_ended_where_all_must() {
    let (server, provider) = server_with(|config| config.hub.authenticate_request_timeout_ms = 100).await;
    provider.answers.forget_permits(1_000);
    let mut asking = server.connect("strict").await;
    asking.send("Auth", json!({"reqID": 1, "payload": {"user": "ann"}})).await;
    let mut free = server.connect("shop").await;
    for client in [&mut server.connect("strict").await, &mut asking] {
        let (close, code) = client.closed().await;
        assert_eq!((close.unwrap()["name"].clone(), code), (json!("auth_timeout"), 4101));
    }
    assert_eq!(free.publish("a", "x").await["success"], true);
}

#[tokio::test]
async fn one_authentication_is_under_way_at_a_time() {
    let (server, provider) = server().await;
    provider.answers.forget_permits(1_000);
    let mut client = server.connect("shop").await;
    client.send("Auth", json!({"reqID": 1, "payload": {"user": "ann"}})).await;
    eventually(async || provider.asked.lock().unwrap().len() == 1).await;
    assert_eq!(auth(&mut client, json!({"user": "bob"})).await["error"]["name"], "auth_in_progress");
    provider.answers.add_permits(1);
    assert_eq!(client.until("Auth").await["userID"], "ann");
}

/// Another user has other rights, another channel, and is another one to those who look on.
#[tokio::test]
async fn a_session_may_become_somebody_else() {
    let (server, _provider) = server().await;
    let mut watcher = server.connect("shop").await;
    watcher.subscribe(&["a"]).await;
    let mut client = server.connect("shop").await;
    let id = client.id();
    client.subscribe(&["a"]).await;
    assert!(is_of(&watcher.expect("Join").await, &id));
    let may = |channel| json!([{"channel": channel, "publish": true, "subscribe": true}]);
    for (user, before, own, other) in [("ann", "", "order:1", "order:2"), ("bob", "ann", "order:2", "order:1")] {
        auth(&mut client, json!({"user": user, "channels": may(own)})).await;
        let left = watcher.expect("Leave").await;
        let joined = watcher.expect("Join").await;
        assert_eq!((is_of(&left, &id), &left["members"][0]["userID"]), (true, &json!(before)));
        assert_eq!((is_of(&joined, &id), &joined["members"][0]["userID"]), (true, &json!(user)));
        assert_eq!(joined["members"][0]["extra"], json!({"name": user.to_uppercase()}));
        if !before.is_empty() {
            let mut revoked = Vec::new();
            for _ in 0..2 {
                let told = client.until("Unsubscribe").await;
                assert_eq!(
                    (&told["error"]["name"], told["reqID"].as_i64().unwrap_or(0)),
                    (&json!("subscription_revoked"), 0)
                );
                revoked.extend(told["unsubscribedChannels"].as_array().unwrap().iter().map(text));
            }
            revoked.sort();
            assert_eq!(revoked, [other.to_owned(), format!("u:{before}")]);
        }
        let is_users = |event: &str, payload: &Value| event == "Position" && payload["channel"] == format!("u:{user}");
        client.until_one(is_users).await;
        client.settled().await;
        client.subscribe(&[own]).await;
        client.send("Subscribe", json!({"reqID": 5, "channels": [{"channel": other}]})).await;
        assert_eq!(client.until("Subscribe").await["errors"][0]["name"], "channel_denied");
    }
}
