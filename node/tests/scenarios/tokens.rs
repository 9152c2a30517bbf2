//! Tokens that tenants make themselves, and the end of tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

use super::{
    authentication::{auth, server_with},
    client::text,
    eventually,
    server::Server,
};

const SECRET: &str = "a secret that only the tenant and the node know";

fn hubs() -> String {
    format!(
        "{{kind: Hub, name: shop, spec: {{}}}}
---
{{kind: AuthProvider, hub: shop, spec: {{jwt: {{secret: '{SECRET}', issuer: tenant, audience: shop-clients}}}}}}
"
    )
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A token with some claims that differ from those of a good one; null leaves a claim out.
fn token(changes: Value, secret: &str) -> String {
    let mut claims = json!({
        "iss": "tenant", "aud": "shop-clients", "sub": "ann", "exp": now_s() + 600,
        "channels": [
            {"channel": "product:*", "publish": false, "subscribe": true},
            {"channel": "cart:#:items", "publish": true, "subscribe": true},
        ],
        "rpcs": [{"method": "pay"}], "extra": {"name": "Ann"},
    });
    for (claim, value) in changes.as_object().unwrap() {
        claims[claim] = value.clone();
    }
    claims.as_object_mut().unwrap().retain(|_, value| !value.is_null());
    encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes())).unwrap()
}

#[tokio::test]
async fn a_tenants_token_says_who_somebody_is_and_what_is_allowed() {
    let server = Server::start(&hubs()).await;
    let good = token(json!({}), SECRET);
    let mut client = server.dial("shop").token(&good).open().await;
    assert_eq!(client.info["authenticated"], true);
    for (channel, subscribes, publishes) in [
        ("product:1", true, false),
        ("product:1:stock", true, false),
        ("cart:1:items", true, true),
        ("cart:1:2:items", false, false),
        ("product", false, false),
        ("other", false, false),
    ] {
        client.send("Subscribe", json!({"reqID": 1, "channels": [{"channel": channel}]})).await;
        let answer = client.until("Subscribe").await;
        assert_eq!(answer["errors"] == json!([]), subscribes, "{channel}");
        assert_eq!(client.publish(channel, "x").await["success"], publishes, "{channel}");
        let by_http = server.post("shop").token(&good).send(json!({"publishes": [{"channel": channel}]})).await;
        assert_eq!(by_http.body["published"][0]["success"], publishes, "{channel}");
    }
    let mut late = server.connect("shop").await;
    late.send("Auth", json!({"reqID": 1, "token": good})).await;
    let answer = late.expect("Auth").await;
    assert_eq!(
        (&answer["userID"], &answer["extra"], &answer["rpcAuthorizations"]),
        (&json!("ann"), &json!({"name": "Ann"}), &json!([{"method": "pay"}]))
    );
    let own = text(&answer["token"]);
    assert_ne!(own, good);
    server.dial("shop").token(&own).open().await;
}

#[tokio::test]
async fn a_token_with_anything_wrong_is_refused() {
    let server = Server::start(&hubs()).await;
    for (token, name) in [
        (token(json!({}), &SECRET.replace('a', "b")), "token_invalid"),
        (token(json!({"exp": now_s() - 600}), SECRET), "token_expired"),
        (token(json!({"exp": null}), SECRET), "token_invalid"),
        (token(json!({"iss": "somebody"}), SECRET), "token_invalid"),
        (token(json!({"aud": "others"}), SECRET), "token_invalid"),
        (token(json!({"sub": null}), SECRET), "token_invalid"),
        (token(json!({"sub": ""}), SECRET), "token_invalid"),
        (token(json!({"iss": "appsockets", "aud": "shop"}), SECRET), "token_invalid"),
        (String::from("x.y.z"), "token_invalid"),
    ] {
        let (status, problem) = server.dial("shop").token(&token).refused().await;
        assert_eq!((status, problem["name"].as_str()), (401, Some(name)), "{token}");
        let mut client = server.connect("shop").await;
        client.send("Auth", json!({"reqID": 1, "token": token})).await;
        assert_eq!(client.expect("Auth").await["error"]["name"], name);
        assert_eq!(client.closed().await.1, 4102);
    }
}

#[tokio::test]
async fn a_session_ends_with_what_it_was_authenticated_by() {
    let (server, _provider) = server_with(|_| {}).await;
    let mut client = server.connect("shop").await;
    let soon_ms = (now_s() + 2) * 1_000;
    let answer = auth(&mut client, json!({"user": "ann", "expiresAt": soon_ms})).await;
    let token = text(&answer["token"]);
    let mut by_token = server.dial("shop").token(&token).open().await;
    let mut renewed = server.dial("shop").token(&token).open().await;
    auth(&mut renewed, json!({"user": "ann"})).await;
    for client in [&mut client, &mut by_token] {
        let (close, code) = client.closed().await;
        assert_eq!((close.unwrap()["name"].clone(), code), (json!("token_expired"), 4105));
    }
    eventually(async || server.dial("shop").token(&token).handshake().await.is_err()).await;
    let (status, problem) = server.dial("shop").token(&token).refused().await;
    assert_eq!((status, &problem["name"]), (401, &json!("token_expired")));
    assert_eq!(renewed.publish("a", "x").await["success"], true, "who authenticated again goes on");
}
