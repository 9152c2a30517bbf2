//! How a session begins, speaks and is kept alive (R-201, R-204, R-205).

use appsockets_proto::client as proto;
use futures_util::{SinkExt, StreamExt};
use prost::Message as _;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{
    client::Socket,
    in_time,
    raw::{CLOSE, PING, Raw, TEXT},
    server::Server,
};

const OPEN: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true}}";
const PROTOCOL: &str = "sec-websocket-protocol";

#[tokio::test]
async fn info_comes_first_and_then_the_restore_key() {
    let server = Server::start(OPEN).await;
    let client = server.connect("shop").await;
    let mut info = client.info.clone();
    assert!(info["sessionID"].take().as_str().is_some_and(|id| id.len() >= 16));
    let expected = json!({
        "hubID": "shop", "sessionID": null, "hubAllowAnonymous": true, "hubAllowUserChannel": false,
        "defaultPublic": true, "authenticated": false, "pingIntervalMs": 25000, "maxMessageSize": 65536,
    });
    assert_eq!(info, expected);
    assert!(client.key.len() >= 32);
    assert_ne!(server.connect("shop").await.id(), client.id());
}

#[tokio::test]
async fn a_client_chooses_the_wire_format() {
    let server = Server::start(OPEN).await;
    let both = "appsockets.v1.protobuf, appsockets.v1.json";
    for (offer, chosen) in [
        (None, None),
        (Some("appsockets.v1.json"), Some("appsockets.v1.json")),
        (Some("appsockets.v1.protobuf"), Some("appsockets.v1.protobuf")),
        (Some("other, appsockets.v1.json"), Some("appsockets.v1.json")),
        (Some(both), Some("appsockets.v1.protobuf")),
    ] {
        let mut dial = server.dial("shop");
        if let Some(offer) = offer {
            dial = dial.header(PROTOCOL, offer);
        }
        let (mut socket, response) = dial.handshake().await.unwrap();
        assert_eq!(response.headers().get(PROTOCOL).map(|value| value.to_str().unwrap()), chosen);
        let first = in_time(socket.next()).await.unwrap().unwrap();
        assert_eq!(first.is_binary(), chosen == Some("appsockets.v1.protobuf"), "{offer:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused() {
    let server = Server::start(OPEN).await;
    let (status, _) = server.dial("shop").header(PROTOCOL, "mqtt").refused().await;
    assert_eq!(status, 400);
    for hub in ["nobody", "%00", "%FF"] {
        let (status, problem) = server.dial(hub).refused().await;
        assert_eq!((status, &problem["code"], &problem["name"]), (404, &json!(140), &json!("hub_not_found")), "{hub}");
    }
    let (status, problem) = server.dial("shop").token("nonsense").refused().await;
    assert_eq!((status, &problem["code"], &problem["status"]), (401, &json!(134), &json!(401)));
    assert_eq!(server.get("/hubs/shop/ws").answer().await.status, 400);
    server.get("/elsewhere").answer().await.is_refusal(404, 146, "not_found");
}

#[tokio::test]
async fn protobuf_and_json_meet_in_a_channel() {
    let server = Server::start(OPEN).await;
    let mut json = server.connect("shop").await;
    json.subscribe(&["news"]).await;
    let (mut socket, _) = server.dial("shop").header(PROTOCOL, "appsockets.v1.protobuf").handshake().await.unwrap();
    let info: proto::SessionInfo = receive(&mut socket, proto::EventType::SessionInfo).await;
    assert_eq!(info.hub_id, "shop");
    let _: proto::SessionRestore = receive(&mut socket, proto::EventType::SessionRestore).await;

    let publish = |payload: &[u8], req_id| proto::PubRequestInfo {
        channel: "news".into(),
        event: "price".into(),
        payload: payload.to_vec().into(),
        req_id: Some(req_id),
        ..Default::default()
    };
    let publishes = vec![publish(br#"{"eur":1.5}"#, 1), publish("é".as_bytes(), 2), publish(&[0xff], 3)];
    send(&mut socket, proto::EventType::Publish, &proto::ChannelPubRequest { publishes }).await;
    let mut published = Vec::new();
    while published.len() < 3 {
        let ack: proto::ChannelPubResponse = receive(&mut socket, proto::EventType::Ack).await;
        published.extend(ack.published);
    }
    assert!(published.iter().all(|result| result.success && result.error.is_none()), "{published:?}");

    for (field, value, result) in [
        ("payload", json!({"eur": 1.5}), &published[0]),
        ("text", json!("é"), &published[1]),
        ("base64", json!("/w=="), &published[2]),
    ] {
        let message = json.expect("Publish").await;
        assert_eq!((&message["event"], &message[field]), (&json!("price"), &value));
        assert_eq!(message["msgID"], json!(result.msg_id));
        assert_eq!(message["channelSerial"], json!(result.channel_serial));
    }
}

#[tokio::test]
async fn a_client_that_falls_silent_is_ended() {
    let server = Server::start_with(OPEN, |config| {
        config.connection.ws.ping_interval_ms = 50;
        config.connection.ws.pong_interval_ms = 50;
    })
    .await;
    let mut raw = Raw::open(server.address, "shop").await;
    let mut frames = Vec::new();
    while let Some(frame) = raw.next().await {
        frames.push(frame);
    }
    let [info, key, ping, ping_frame, close, close_frame] = &frames[..] else { panic!("{frames:?}") };
    let event = |frame: &super::raw::Frame| serde_json::from_str::<Value>(frame.text()).unwrap();
    assert_eq!(
        (event(info)["event"].as_str(), event(key)["event"].as_str()),
        (Some("SessionInfo"), Some("SessionRestore"))
    );
    assert_eq!((event(ping)["event"].as_str(), ping_frame.opcode), (Some("Ping"), PING));
    let expected = json!({"code": 4001, "name": "heartbeat_missed", "reconnect": true});
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(event(close)["payload"][field], *value);
    }
    assert_eq!((event(close)["event"].as_str(), close_frame.close_code()), (Some("Close"), Some(4001)));
}

/// Whoever answers each Ping in whatever way stays, for many intervals.
#[tokio::test]
async fn any_frame_keeps_a_client() {
    let server = Server::start_with(OPEN, |config| {
        config.connection.ws.ping_interval_ms = 20;
        config.connection.ws.pong_interval_ms = 2_000;
    })
    .await;
    const PONG: u8 = 10;
    for (opcode, payload) in [(PONG, &b""[..]), (TEXT, br#"{"event":"Pong"}"#), (PING, b"x"), (TEXT, b"{nonsense")] {
        let mut raw = Raw::open(server.address, "shop").await;
        let mut pings = 0;
        while pings < 5 {
            let frame = raw.next().await.expect("it stays open");
            assert_ne!(frame.opcode, CLOSE, "{opcode} {payload:?}");
            if frame.opcode == PING {
                pings += 1;
                raw.send(opcode, payload).await;
            }
        }
    }
}

async fn send(socket: &mut Socket, event: proto::EventType, message: &impl prost::Message) {
    let envelope = proto::Envelope { event: event.into(), payload: message.encode_to_vec().into() };
    socket.send(Message::binary(envelope.encode_to_vec())).await.unwrap();
}

async fn receive<M: prost::Message + Default>(socket: &mut Socket, event: proto::EventType) -> M {
    let frame = in_time(socket.next()).await.unwrap().unwrap();
    let envelope = proto::Envelope::decode(frame.into_data()).unwrap();
    assert_eq!(envelope.event(), event);
    M::decode(&*envelope.payload).unwrap()
}
