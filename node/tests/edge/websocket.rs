use appsockets_node::{
    codec::Format,
    edge::{Closed, Options, Transport},
};
use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::{CloseFrame, frame::coding::CloseCode},
};

use crate::support::{Event, Server, until, within};

#[tokio::test]
async fn messages_come_and_go() {
    let mut server = Server::start(Options::default());
    let (mut client, response) = server.connect("appsockets.v1.json").await;
    assert_eq!(response.headers()["sec-websocket-protocol"], "appsockets.v1.json");
    let conn = server.opened().await;
    for text in ["", "a", &"ä".repeat(100), &"x".repeat(60_000)] {
        client.send(Message::text(text)).await.unwrap();
        assert_eq!(server.telling_event().await, Event::Received(conn, text.into()));
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text(text));
    }
    server.stop();
}

#[tokio::test]
async fn the_subprotocol_tells_the_kind_of_messages() {
    let mut server = Server::start(Options::default());
    for (subprotocol, format, wrong) in [
        ("appsockets.v1.protobuf", Format::Protobuf, Message::text("text")),
        ("appsockets.v1.json", Format::Json, Message::binary("binary")),
    ] {
        let (mut client, _) = server.connect(subprotocol).await;
        let Event::Opened(conn, transport) = server.event().await else { panic!("not opened") };
        assert_eq!(transport, Transport::WebSocket(format));
        client.send(wrong).await.unwrap();
        assert_eq!(close_code(&within(client.next()).await.unwrap().unwrap()), Some(CloseCode::Unsupported));
        assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    }
    server.stop();
}

#[tokio::test]
async fn a_handshake_that_is_none_is_told_why() {
    let server = Server::start(Options::default());
    let mut client = server.dial().await;
    client.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    within(client.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert!(answer.contains("RFC 6455"), "{answer}");
    server.stop();
}

#[tokio::test]
async fn what_comes_with_the_handshake_is_read() {
    let mut server = Server::start(Options::default());
    let mut client = server.dial().await;
    let mut request = b"GET /ws HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
        sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        .to_vec();
    // Two texts under a mask of zeros, the second one incomplete.
    request.extend_from_slice(b"\x81\x82\0\0\0\0hi\x81\x83\0\0\0\0tw");
    client.write_all(&request).await.unwrap();
    let conn = server.opened().await;
    assert_eq!(server.telling_event().await, Event::Received(conn, b"hi".into()));
    client.write_all(b"o").await.unwrap();
    assert_eq!(server.telling_event().await, Event::Received(conn, b"two".into()));
    server.stop();
}

#[tokio::test]
async fn pings_are_answered_and_heard() {
    let mut server = Server::start(Options::default());
    let (mut client, conn) = server.client().await;
    for payload in ["", "payload"] {
        client.send(Message::Ping(payload.into())).await.unwrap();
        assert_eq!(server.event().await, Event::Heard(conn));
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::Pong(payload.into()));
    }
    client.send(Message::Pong("unasked".into())).await.unwrap();
    assert_eq!(server.event().await, Event::Heard(conn));
    server.stop();
}

#[tokio::test]
async fn a_message_over_the_limit_ends_the_connection() {
    let mut server = Server::start(Options { message_bytes_max: 1000, ..Options::default() });
    let (mut client, conn) = server.client().await;
    client.send(Message::text("x".repeat(1000))).await.unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("x".repeat(1000)));
    client.send(Message::text("x".repeat(1001))).await.unwrap();
    assert_eq!(close_code(&within(client.next()).await.unwrap().unwrap()), Some(CloseCode::Size));
    assert!(matches!(server.telling_event().await, Event::Received(..)));
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    assert_eq!(server.connections.violated(), 1);
    server.stop();
}

#[tokio::test]
async fn a_clients_close_is_answered_and_clean() {
    let mut server = Server::start(Options::default());
    let (mut client, conn) = server.client().await;
    let frame = CloseFrame { code: CloseCode::Iana(3001), reason: "done".into() };
    client.close(Some(frame)).await.unwrap();
    assert_eq!(close_code(&within(client.next()).await.unwrap().unwrap()), Some(CloseCode::Iana(3001)));
    assert!(within(client.next()).await.is_none(), "the server ends the connection");
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Clean));
    drop(client);
    until(|| server.connections.open() == 0).await;
    server.stop();
}

#[tokio::test]
async fn the_servers_close_comes_after_what_is_queued() {
    let mut server = Server::start(Options::default());
    let (mut client, conn) = server.client().await;
    let queued = server.order(move |out| {
        out.reply(conn, appsockets_node::edge::frame(appsockets_node::edge::ws::Kind::Text, b"last"));
        out.close(conn, 4000, "drained");
        out.reply(conn, "dropped".into());
        out.queued_bytes(conn)
    });
    assert_eq!(queued.await, 6 + 11);
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("last"));
    let Message::Close(Some(frame)) = within(client.next()).await.unwrap().unwrap() else { panic!("no close frame") };
    assert_eq!((u16::from(frame.code), frame.reason.as_str()), (4000, "drained"));
    assert!(within(client.next()).await.is_none());
    drop(client);
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.order(move |out| out.queued_bytes(conn)).await, 0);
    assert_eq!(server.events_so_far(), [], "who closes is not told of it");
    server.stop();
}

#[tokio::test]
async fn a_client_that_ignores_a_close_is_dropped() {
    let mut server = Server::start(Options { close_timeout_ms: 50, ..Options::default() });
    let (_client, conn) = server.client().await;
    server.order(move |out| out.close(conn, 4000, "")).await;
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.events_so_far(), []);
    server.stop();
}

#[tokio::test]
async fn a_connection_that_just_ends_is_broken() {
    let mut server = Server::start(Options::default());
    let (client, conn) = server.client().await;
    drop(client);
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    // A slot is used again, its old name is not.
    let (_client, again) = server.client().await;
    assert_eq!(again.slot, conn.slot);
    assert_ne!(again.generation, conn.generation);
    server.stop();
}

fn close_code(message: &Message) -> Option<CloseCode> {
    match message {
        Message::Close(frame) => frame.as_ref().map(|frame| frame.code),
        _ => None,
    }
}
