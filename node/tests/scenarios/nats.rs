//! Auth providers that are asked over NATS.

use futures_util::StreamExt;
use hyper::Method;
use serde_json::{Value, json};

use super::{authentication::auth, eventually, nats_server::NatsServer, server::Server, web::Call};

/// Takes the client's payload `{"user": …}` for true, on any subject, and says in the extra metadata on which.
async fn provider(server: &NatsServer) {
    let client = async_nats::connect(server.url()).await.unwrap();
    let mut questions = client.subscribe("tenants.auth.>").await.unwrap();
    client.flush().await.unwrap();
    tokio::spawn(async move {
        while let Some(question) = questions.next().await {
            let asked: Value = serde_json::from_slice(&question.payload).unwrap();
            let user = &asked["payload"]["user"];
            let extra =
                json!({"subject": question.subject.as_str(), "hub": asked["hubID"], "session": asked["sessionID"]});
            let answer = json!({"success": user.is_string(), "userID": user.as_str(), "extra": extra});
            client.publish(question.reply.unwrap(), answer.to_string().into()).await.unwrap();
        }
    });
}

#[tokio::test]
async fn a_hub_made_dynamically_has_a_provider_of_its_own() {
    let nats = NatsServer::start(&[]);
    provider(&nats).await;
    let node = Server::start_with("{kind: Hub, name: shop, spec: {}}\n", |config| {
        config.nats.url = nats.url().into();
        config.nats.auth_subjects = vec!["tenants.auth.>".to_owned()];
        config.engine.allow_dynamic_hubs = true;
        config.engine.dynamic_hub_auth_subject = Some("tenants.auth.{hub}".to_owned());
    })
    .await;
    for (hub, subject) in [("new-1", "tenants.auth.new-1"), ("a.b", "tenants.auth.a%2Eb")] {
        let mut client = node.connect(hub).await;
        let answer = auth(&mut client, json!({"user": "ann"})).await;
        assert_eq!((&answer["success"], &answer["userID"]), (&json!(true), &json!("ann")), "{answer}");
        assert_eq!(answer["extra"], json!({"subject": subject, "hub": hub, "session": client.id()}));
    }
    let mut client = node.connect("new-1").await;
    let answer = auth(&mut client, json!({"user": 1})).await;
    assert_eq!((&answer["success"], &answer["error"]["name"]), (&json!(false), &json!("auth_failed")), "{answer}");
    // A hub that was there has what it was given.
    let mut client = node.connect("shop").await;
    let answer = auth(&mut client, json!({"user": "ann"})).await;
    assert_eq!(answer["error"]["name"], "auth_not_configured", "{answer}");
}

#[tokio::test]
async fn a_node_says_whether_it_has_nats() {
    let nats = NatsServer::start(&[]);
    let (address, url) = (nats.address, nats.url());
    let node = Server::start_with("{kind: Hub, name: shop, spec: {}}\n", |config| {
        config.nats.url = url.into();
        config.admin.listen = Some(([127, 0, 0, 1], 0).into());
    })
    .await;
    let says = async |line: &str| {
        let metrics = Call::new(node.admin.unwrap(), Method::GET, "/metrics").answer().await.body;
        metrics.as_str().unwrap().lines().any(|have| have == line)
    };
    eventually(async || says("appsockets_nats_connected 1").await).await;
    drop(nats);
    eventually(async || says("appsockets_nats_connected 0").await).await;
    let _nats = NatsServer::start_at(address, &[]).unwrap();
    eventually(async || says("appsockets_nats_connected 1").await).await;
}

#[tokio::test]
async fn without_nats_a_hub_says_that_it_has_no_provider() {
    let hubs = "{kind: Hub, name: shop, spec: {allowAnonymous: true}}
---
{kind: AuthProvider, hub: shop, spec: {nats: {subject: appsockets.auth.shop}}}
";
    let node = Server::start(hubs).await;
    let mut client = node.connect("shop").await;
    let answer = auth(&mut client, json!({"user": "ann"})).await;
    assert_eq!(answer["error"]["name"], "auth_not_configured", "{answer}");
}
