//! The channel that all devices of a user share.

use serde_json::{Value, json};

use super::{
    authentication::{auth, server, server_with},
    client::text,
};

fn is_of(channel: &str) -> impl Fn(&str, &Value) -> bool {
    move |event, payload| event == "Position" && payload["channel"] == channel
}

#[tokio::test]
async fn a_users_devices_share_a_channel_that_is_closed_to_others() {
    let (server, _provider) = server().await;
    let mut devices = [server.connect_at("shop", 0).await, server.connect_at("shop", 1).await];
    for device in &mut devices {
        assert_eq!(device.info["hubAllowUserChannel"], true);
        auth(device, json!({"user": "ann"})).await;
        device.until_one(is_of("u:ann")).await;
    }
    let [phone, laptop] = &mut devices;
    assert_eq!(phone.publish("u:ann", "to my laptop").await["success"], true);
    for device in [phone, laptop] {
        assert_eq!(device.until("Publish").await["text"], "to my laptop");
    }
    let mut other = server.connect("shop").await;
    let mut bob = server.connect("shop").await;
    auth(&mut bob, json!({"user": "bob"})).await;
    for stranger in [&mut other, &mut bob] {
        stranger.send("Subscribe", json!({"reqID": 1, "channels": [{"channel": "u:ann"}]})).await;
        assert_eq!(stranger.until("Subscribe").await["errors"][0]["name"], "channel_denied");
        assert_eq!(stranger.publish("u:ann", "x").await["error"]["name"], "channel_denied");
    }
    let mut support = server.connect("shop").await;
    let channels = json!([{"channel": "u:*", "publish": true, "subscribe": false}]);
    auth(&mut support, json!({"user": "support", "channels": channels})).await;
    assert_eq!(support.publish("u:ann", "hello").await["success"], true);
    for device in &mut devices {
        assert_eq!(device.until("Publish").await["text"], "hello");
    }
}

#[tokio::test]
async fn who_connects_with_a_token_hears_it_at_once() {
    let (server, _provider) = server().await;
    let mut first = server.connect("shop").await;
    let token = text(&auth(&mut first, json!({"user": "ann"})).await["token"]);
    let mut second = server.dial("shop").token(&token).open().await;
    second.until_one(is_of("u:ann")).await;
    let mut stream = server.listen("shop", &format!("channel=a&token={token}"), None).await;
    while stream.until("Position").await["channel"] != "u:ann" {}
    first.publish("u:ann", "x").await;
    assert_eq!(second.until("Publish").await["text"], "x");
    assert_eq!(stream.until("Publish").await["text"], "x");
}

/// The user, the rights and the channel come back with the session.
#[tokio::test]
async fn a_restored_session_is_still_the_user() {
    let (server, _provider) = server_with(|config| config.session.restore_window_ms = 1_000_000).await;
    let mut publisher = server.connect("shop").await;
    auth(&mut publisher, json!({"user": "ann"})).await;
    let mut old = server.connect_at("shop", 0).await;
    let channels = json!([{"channel": "order:*", "publish": true, "subscribe": true}]);
    auth(&mut old, json!({"user": "ann", "channels": channels})).await;
    old.until_one(is_of("u:ann")).await;
    old.subscribe(&["order:1"]).await;
    let (id, key) = (old.id(), old.break_off());
    publisher.publish("u:ann", "missed").await;
    let mut new = server.connect_at("shop", 1).await;
    new.send("SessionRestore", json!({"restoreKey": key})).await;
    let restored = new.expect("SessionRestored").await;
    assert_eq!((&restored["sessionID"], &restored["userID"]), (&json!(id), &json!("ann")));
    assert_eq!((&restored["channelAuthorizations"], &restored["extra"]), (&channels, &json!({"name": "ANN"})));
    assert_eq!(restored["rpcAuthorizations"], json!([{"method": "cart:*"}]));
    assert_eq!(restored["subscribedChannels"], json!(["order:1", "u:ann"]));
    assert_eq!(new.until("Publish").await["text"], "missed");
    assert_eq!(new.publish("order:1", "x").await["success"], true);
}
