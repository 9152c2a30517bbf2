use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use super::server::{PATIENCE, Server};

#[tokio::test]
async fn an_administrator_publishes_where_no_client_may_and_sees_who_is_there() {
    let server = Server::start().await;
    server.put("/v1/hubs/shop", r#"{"defaultPublic": true, "allowAnonymous": true, "defaultRules": "read"}"#).await;
    let rules = r#"{"presence": true, "clientPublish": false, "allowAnonymous": true}"#;
    server.put("/v1/hubs/shop/channel-rules/read", rules).await.is_done();
    let empty = server.get("/v1/hubs/shop/presence?channel=news").await;
    assert_eq!(empty.body, json!({"channel": "news", "members": []}));

    let mut request = format!("ws://{}/hubs/shop/ws", server.address).into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "appsockets.v1.json".parse().unwrap());
    let (mut client, _) = tokio_tungstenite::connect_async(request).await.unwrap();
    let subscribe = r#"{"event":"Subscribe","payload":{"reqID":1,"channels":[{"channel":"news"}]}}"#;
    client.send(Message::text(subscribe)).await.unwrap();
    let mut next = async |event: &str| -> Value {
        let search = async {
            loop {
                let message = client.next().await.unwrap().unwrap();
                let Message::Text(text) = message else { continue };
                let envelope: Value = serde_json::from_str(&text).unwrap();
                if envelope["event"] == event {
                    return envelope["payload"].clone();
                }
            }
        };
        tokio::time::timeout(PATIENCE, search).await.expect("it comes")
    };
    let session = next("SessionInfo").await["sessionID"].clone();
    next("Subscribe").await;

    let present = server.get("/v1/hubs/shop/presence?channel=news").await;
    assert_eq!(present.body["members"][0]["sessionID"], session, "{}", present.text);
    let body = json!({"publishes": [{"reqID": 1, "channel": "news", "event": "e", "text": "t"}]});
    let published = server.post("/v1/hubs/shop/publish", body).await;
    assert_eq!(published.body["published"][0]["success"], true, "{}", published.text);
    let heard = next("Publish").await;
    assert_eq!((&heard["channel"], &heard["text"]), (&json!("news"), &json!("t")));

    let metrics = server.get("/metrics").await.text;
    for line in [
        "appsockets_sessions 1",
        "appsockets_hub_connections{hub=\"shop\"} 1",
        "appsockets_deliveries_total 1",
        // This node is alone.
        "appsockets_publishes_uncopied_total 1",
    ] {
        assert!(metrics.lines().any(|have| have == line), "{line} in {metrics}");
    }
}

#[tokio::test]
async fn what_can_not_be_asked_is_refused() {
    let server = Server::start().await;
    let body = json!({"publishes": [{"reqID": 1, "channel": "c", "event": "e"}]});
    server.post("/v1/hubs/none/publish", &body).await.is_refusal(404, "hub_not_found");
    server.post("/v1/hubs/filed/publish", "x").await.is_refusal(400, "bad_message");
    let many = json!({"publishes": vec![json!({"channel": "c"}); 1_001]});
    server.post("/v1/hubs/filed/publish", many).await.is_refusal(413, "message_too_large");
    server.get("/v1/hubs/none/presence?channel=c").await.is_refusal(404, "hub_not_found");
    server.get("/v1/hubs/filed/presence").await.is_refusal(400, "bad_message");
    server.get("/v1/hubs/filed/presence?channel=%00").await.is_refusal(400, "bad_channel");
}
