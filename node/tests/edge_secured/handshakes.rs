//! What only TLS has: handshakes with their time and room, new keys, records that are broken.

use std::time::Duration;

use appsockets_node::edge::{Closed, ConnId, Options};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use crate::{
    certificate::{self, HOST},
    support::{Event, Server, until, within},
};

#[tokio::test]
async fn a_handshake_must_come_in_time() {
    let mut server = Server::start(Options { header_timeout_ms: 100, ..Options::default() });
    for begun in [&[][..], &[22, 3, 1, 2, 0]] {
        let mut client = TcpStream::connect(server.address).await.unwrap();
        client.write_all(begun).await.unwrap();
        let mut answer = Vec::new();
        within(client.read_to_end(&mut answer)).await.unwrap();
        assert!(answer.is_empty(), "{answer:?}");
    }
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.connections.late(), 2);
    server.client().await;
    server.stop();
}

#[tokio::test]
async fn what_is_not_tls_is_closed() {
    let server = Server::start(Options::default());
    let mut client = TcpStream::connect(server.address).await.unwrap();
    client.write_all(b"GET /ws HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    within(client.read_to_end(&mut answer)).await.expect("an end, and not a reset");
    assert_eq!(answer.first(), Some(&21), "an alert and nothing else: {answer:?}");
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.connections.late(), 0);
    server.stop();
}

#[tokio::test]
async fn there_are_only_so_many_handshakes() {
    let mut server = Server::start(Options { handshakes_max: 1, ..Options::default() });
    let (established, _) = server.client().await;
    let slow = TcpStream::connect(server.address).await.unwrap();
    until(|| server.connections.open() == 2).await;
    let waits = timeout(Duration::from_millis(200), server.client()).await;
    assert!(waits.is_err(), "the next one waits");
    drop(slow);
    // The one that gave up is accepted first, and found to have ended.
    server.client().await;
    drop(established);
    server.stop();
}

/// A client whose TLS can be reached.
async fn client(server: &mut Server) -> (WebSocketStream<TlsStream<TcpStream>>, ConnId) {
    let stream = TcpStream::connect(server.address).await.unwrap();
    let stream = certificate::shake(server.connector.as_ref().unwrap(), stream).await.unwrap();
    let (client, _) = client_async(format!("wss://{HOST}/ws"), stream).await.unwrap();
    let conn = server.opened().await;
    (client, conn)
}

#[tokio::test]
async fn keys_may_change() {
    let mut server = Server::start(Options::default());
    let (mut client, _) = client(&mut server).await;
    for round in 0..10 {
        client.get_mut().get_mut().1.refresh_traffic_keys().unwrap();
        let text = format!("{round}");
        client.send(Message::text(text.as_str())).await.unwrap();
        assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text(text));
    }
    server.stop();
}

#[tokio::test]
async fn a_broken_record_ends_the_connection() {
    let mut server = Server::start(Options::default());
    let (mut client, conn) = client(&mut server).await;
    let raw = client.get_mut().get_mut().0;
    // A record of application data that nobody encrypted.
    raw.write_all(b"\x17\x03\x03\x00\x20 it would be thirty-two bytes...").await.unwrap();
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    assert!(within(client.next()).await.unwrap().is_err(), "it is told");
    until(|| server.connections.open() == 0).await;
    server.stop();
}
