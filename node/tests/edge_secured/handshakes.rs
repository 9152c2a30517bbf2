//! The time and the room that handshakes get.

use std::time::Duration;

use appsockets_node::edge::Options;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Server, until, within};

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
