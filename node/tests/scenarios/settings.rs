//! Settings that change while the node runs.

use appsockets_node::apply;
use serde_json::{Value, json};

use super::{
    client::{Client, names},
    eventually,
    presence::members,
    server::{Server, channel_at},
};

/// One hub whose channels have rules of which these are a part.
fn hub(rules: &str) -> String {
    format!(
        "{{kind: Hub, name: shop, spec: {{defaultPublic: true, allowAnonymous: true, defaultRules: open}}}}
---
{{kind: ChannelRules, hub: shop, name: open, spec: {{allowAnonymous: true, {rules}}}}}
"
    )
}

#[tokio::test]
async fn who_may_no_longer_subscribe_is_told_and_hears_nothing_more() {
    let server = Server::start(&hub("public: true")).await;
    let channels = [channel_at("shop", 0), channel_at("shop", 1)];
    for worker in [0, 1] {
        let mut client = server.connect_at("shop", worker).await;
        client.subscribe(&[&channels[0], &channels[1]]).await;
        let mut stream = server.listen("shop", &format!("channel={}", channels[0]), None).await;
        stream.until("Position").await;
        server.edit(&hub("public: false"));
        let told = client.expect("Unsubscribe").await;
        assert_eq!(told["error"]["name"], "subscription_revoked");
        let left = told["unsubscribedChannels"].as_array().unwrap();
        assert!(left.len() == 2 && channels.iter().all(|channel| left.contains(&json!(channel))), "{told}");
        assert_eq!(stream.until("Unsubscribe").await["unsubscribedChannels"], json!([channels[0]]));
        assert_eq!(client.publish(&channels[0], "x").await["error"]["name"], "channel_denied");
        server.edit(&hub("public: true"));
        eventually(async || client.publish(&channels[0], "x").await["success"] == true).await;
        assert!(client.settled().await.is_empty());
        client.subscribe(&[&channels[0]]).await;
    }
}

#[tokio::test]
async fn rules_take_effect_on_open_channels() {
    let server = Server::start(&hub("")).await;
    let mut client = server.connect("shop").await;
    client.subscribe(&["a"]).await;
    let retain = json!({"channel": "a", "text": "kept", "extra": {"retain": true}});
    assert_eq!(client.publish_with(retain.clone()).await["error"]["name"], "retain_not_allowed");
    server.edit(&hub("allowRetain: true"));
    eventually(async || client.publish_with(retain.clone()).await["success"] == true).await;
    let mut other = server.connect("shop").await;
    assert_eq!(names(&other.subscribe(&["a"]).await), ["Position", "Publish"]);
    server.edit(&hub("allowRetain: true, clientPublish: false"));
    eventually(async || client.publish("a", "x").await["error"]["name"] == "channel_denied").await;
    let mut other = server.connect("shop").await;
    assert_eq!(names(&other.subscribe(&["a"]).await), ["Position", "Publish"], "what is retained stays");
    server.edit(&hub(""));
    eventually(async || client.publish("a", "x").await["success"] == true).await;
    let mut other = server.connect("shop").await;
    assert_eq!(names(&other.subscribe(&["a"]).await), ["Position"], "and goes when it is no longer allowed");
}

/// Again and again, because the workers take over settings one after the other while sessions come.
#[tokio::test]
async fn presence_is_complete_however_often_it_is_switched() {
    let server = Server::start(&hub("presence: false")).await;
    let channels = [channel_at("shop", 0), channel_at("shop", 1)];
    let mut looker = server.connect("shop").await;
    let mut sessions = Vec::new();
    for round in 0..25 {
        for edit in [false, true] {
            // The second may be subscribed before or after the change.
            if edit {
                server.edit(&hub("presence: true"));
            }
            let mut session = server.connect_at("shop", (round + u16::from(edit)) % 2).await;
            session.subscribe(&[&channels[0], &channels[1]]).await;
            sessions.push(session);
        }
        let mut ids: Vec<_> = sessions.iter().map(Client::id).collect();
        ids.sort();
        for channel in &channels {
            eventually(async || look(&mut looker, channel).await == Some(ids.clone())).await;
        }
        server.edit(&hub("presence: false"));
        for channel in &channels {
            eventually(async || look(&mut looker, channel).await.is_none()).await;
        }
    }
}

/// Who is present besides the one who looks; none where there is no presence.
async fn look(looker: &mut Client, channel: &str) -> Option<Vec<String>> {
    let events = looker.subscribe(&[channel]).await;
    looker.send("Unsubscribe", json!({"reqID": 1, "channels": [channel]})).await;
    looker.until("Unsubscribe").await;
    looker.settled().await;
    let own = looker.id();
    let (_, list) = events.into_iter().find(|(event, _)| event == "Presence")?;
    Some(members(&list).into_iter().filter(|id| *id != own).collect())
}

#[tokio::test]
async fn a_hub_that_is_removed_closes_its_sessions() {
    let other = "{kind: Hub, name: other, spec: {defaultPublic: true, allowAnonymous: true}}\n";
    let server = Server::start(&format!("{}---\n{other}", hub(""))).await;
    let mut sessions = [server.connect_at("shop", 0).await, server.connect_at("shop", 1).await];
    let mut stays = server.connect("other").await;
    for session in &mut sessions {
        session.subscribe(&["a"]).await;
    }
    let mut stream = server.listen("shop", "channel=a", None).await;
    server.edit(other);
    for session in &mut sessions {
        let (close, code) = session.closed().await;
        let close = close.unwrap();
        assert_eq!(
            (&close["code"], &close["name"], &close["reconnect"], code),
            (&json!(4100), &json!("hub_closed"), &json!(false), 4100)
        );
    }
    assert_eq!(stream.until("Close").await["code"], 4100);
    assert!(stream.next().await.is_none(), "the stream ends");
    assert_eq!(server.dial("shop").refused().await.0, 404);
    assert_eq!(stays.publish("a", "x").await["success"], true);
}

#[tokio::test]
async fn a_file_with_a_mistake_changes_nothing() {
    let server = Server::start(&hub("")).await;
    let mut client = server.connect("shop").await;
    client.subscribe(&["a"]).await;
    server.edit("{kind: Hub, nam: shop}");
    // Shows that the node has looked at a file since.
    apply_here(&server, "{kind: Hub, name: later, spec: {allowAnonymous: true}}").await;
    eventually(async || server.dial("later").handshake().await.is_ok()).await;
    assert_eq!(client.publish("a", "x").await["success"], true);
    client.until("Publish").await;
    server.connect("shop").await;
}

#[tokio::test]
async fn what_is_applied_to_the_database_takes_effect_but_for_hubs_of_the_file() {
    let server = Server::start(&hub("")).await;
    let resources = |public| {
        format!(
            "{{kind: Namespace, hub: new, name: open, spec: {{rules: open}}}}
---
{{kind: ChannelRules, hub: new, name: open, spec: {{public: {public}, allowAnonymous: true}}}}
---
{{kind: Hub, name: new, spec: {{allowAnonymous: true}}}}
"
        )
    };
    assert_eq!(server.dial("new").refused().await.0, 404);
    apply_here(&server, &resources(true)).await;
    eventually(async || server.dial("new").handshake().await.is_ok()).await;
    let mut client = server.connect("new").await;
    eventually(async || client.publish("open:a", "x").await["success"] == true).await;
    client.subscribe(&["open:a"]).await;
    apply_here(&server, &resources(false)).await;
    assert_eq!(client.until("Unsubscribe").await["error"]["name"], "subscription_revoked");

    // The file's hub stays as the file says.
    apply_here(&server, "{kind: Hub, name: shop, spec: {allowAnonymous: false}}").await;
    apply_here(&server, "{kind: Hub, name: mark, spec: {allowAnonymous: true}}").await;
    eventually(async || server.dial("mark").handshake().await.is_ok()).await;
    assert_eq!(server.connect("shop").await.info["hubAllowAnonymous"], Value::Bool(true));
}

async fn apply_here(server: &Server, resources: &str) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), resources).unwrap();
    apply::apply(&server.data(), file.path()).await.unwrap();
}
