//! Hubs that nobody uses, and those who come just then.

use serde_json::json;

use super::{
    client::Client,
    server::{Server, channel_at},
};

const HUBS: &str =
    "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, limits: {connections: 3}}}";

/// A node on which everything that is idle is closed as soon as it can be.
async fn server() -> Server {
    Server::start_with(HUBS, |config| {
        config.hub.close_timeout_ms = 0;
        config.channel.close_timeout_ms = 0;
        config.session.restore_window_ms = 0;
    })
    .await
}

async fn close(mut client: Client) {
    client.send("Close", json!({})).await;
    assert_eq!(client.closed().await.1, 1000);
}

/// Hub and channels are closed again and again, at any moment of those who come and go.
#[tokio::test]
async fn who_comes_while_a_hub_closes_is_served() {
    let server = server().await;
    let channels = [channel_at("shop", 0), channel_at("shop", 1)];
    let lane = async |lane: usize| {
        for round in 0..120 {
            let channel = &channels[(lane + round) % 2];
            let mut client = loop {
                // The seats of those who have just left may not be free yet.
                match server.dial("shop").handshake().await {
                    Ok((socket, _)) => break Client::begin(socket).await,
                    Err(_) => tokio::task::yield_now().await,
                }
            };
            if round % 3 != 0 {
                client.subscribe(&[channel]).await;
            }
            let text = format!("{lane} {round}");
            let result = client.publish(channel, &text).await;
            assert_eq!(result["success"], true, "{result}");
            if round % 3 != 0 {
                let message = client.until_one(|event, payload| event == "Publish" && payload["text"] == text).await;
                assert_eq!(message["channelSerial"], result["channelSerial"]);
            }
            close(client).await;
        }
    };
    tokio::join!(lane(0), lane(1), lane(2));
}

/// The places of a hub are all given back, whatever became of their holders.
#[tokio::test]
async fn no_seat_of_a_hub_is_lost() {
    let server = server().await;
    for round in 0..50 {
        let mut clients = Vec::new();
        while clients.len() < 3 {
            match server.dial("shop").handshake().await {
                Ok((socket, _)) => clients.push(Client::begin(socket).await),
                Err(_) => tokio::task::yield_now().await,
            }
        }
        assert_eq!(server.dial("shop").refused().await.1["name"], "hub_full");
        for (at, client) in clients.into_iter().enumerate() {
            if (at + round) % 2 == 0 {
                close(client).await;
            }
        }
    }
}

/// What is closed begins anew: another epoch, of which no client believes that it knows it.
#[tokio::test]
async fn a_channel_that_was_closed_begins_a_new_epoch() {
    let server = server().await;
    let mut client = server.connect("shop").await;
    let epoch = |serial: &serde_json::Value| serial.as_str().unwrap().split_once(':').unwrap().0.to_owned();
    let first = client.publish("a", "1").await;
    let mut second = client.publish("a", "2").await;
    super::eventually(async || {
        second = client.publish("a", "2").await;
        epoch(&second["channelSerial"]) != epoch(&first["channelSerial"])
    })
    .await;
    let events = client.subscribe_from(json!([{"channel": "a", "channelSerial": first["channelSerial"]}])).await;
    assert_eq!(events[0].1["recovered"], false);
    assert!(events[0].1.get("knownSerial").is_none());
}
