use appsockets_node::edge::{Closed, ConnId, Delivered, Options, Transport};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Event, Server, Wire, until, within};

async fn subscribe(server: &mut Server) -> (Wire, ConnId) {
    let mut client = server.dial().await;
    client.write_all(b"GET /sse HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let Event::Opened(conn, Transport::Sse) = server.event().await else { panic!("no stream") };
    (client, conn)
}

async fn read_until(client: &mut Wire, end: &str) -> String {
    let mut text = Vec::new();
    while !text.ends_with(end.as_bytes()) {
        text.push(within(client.read_u8()).await.unwrap());
    }
    String::from_utf8(text).unwrap()
}

#[tokio::test]
async fn what_is_queued_in_a_turn_is_one_chunk() {
    let mut server = Server::start(Options::default());
    let (mut client, conn) = subscribe(&mut server).await;
    let head = read_until(&mut client, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    for line in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(head.contains(line), "{line} is not in {head}");
    }
    server
        .order(move |out| {
            assert_eq!(out.deliver(conn, &Bytes::from_static(b"data: 1\n\n")), Delivered::Queued);
            out.reply(conn, Bytes::from_static(b"data: 2\n\n"));
            assert_eq!(out.queued_bytes(conn), 18);
        })
        .await;
    assert_eq!(read_until(&mut client, "2\n\n\r\n").await, "12\r\ndata: 1\n\ndata: 2\n\n\r\n");
    server
        .order(move |out| {
            out.reply(conn, Bytes::from_static(b"data: 3\n\n"));
            out.close(conn, 4000, "drained");
        })
        .await;
    assert_eq!(read_until(&mut client, "0\r\n\r\n").await, "9\r\ndata: 3\n\n\r\n0\r\n\r\n");
    assert_eq!(server.events_so_far(), [], "who closes is not told of it");
    server.stop();
}

#[tokio::test]
async fn a_client_that_goes_away_is_noticed() {
    let mut server = Server::start(Options::default());
    let (client, conn) = subscribe(&mut server).await;
    drop(client);
    assert_eq!(server.event().await, Event::Closed(conn, Closed::Broken));
    until(|| server.connections.open() == 0).await;
    server.stop();
}

/// Blocks until the outbox is full; how many bytes were taken.
async fn fill(server: &Server, conn: ConnId) -> usize {
    let block = Bytes::from(vec![b'x'; 10_000]);
    for taken in 0..100_000 {
        let block = block.clone();
        if server.order(move |out| out.deliver(conn, &block)).await == Delivered::Full {
            return taken * 10_000;
        }
    }
    panic!("the outbox has no bound");
}

#[tokio::test]
async fn a_slow_stream_is_full_and_then_drained() {
    let mut server = Server::start(Options { sse_outbox_bytes_max: 50_000, ..Options::default() });
    let (mut client, conn) = subscribe(&mut server).await;
    let taken = fill(&server, conn).await;
    assert!(server.order(move |out| out.queued_bytes(conn)).await <= 50_000);
    let mut received = 0;
    let mut buffer = vec![0; 100_000];
    while received < taken {
        let count = within(client.read(&mut buffer)).await.unwrap();
        received += buffer[..count].iter().filter(|byte| **byte == b'x').count();
    }
    assert_eq!(server.event().await, Event::Drained(conn));
    server.stop();
}

#[tokio::test]
async fn a_stream_that_takes_nothing_is_dropped() {
    let options = Options { sse_outbox_bytes_max: 50_000, write_timeout_ms: 100, ..Options::default() };
    let mut server = Server::start(options);
    let (_client, conn) = subscribe(&mut server).await;
    // What hyper and the kernel still take drains it, until they take no more.
    loop {
        fill(&server, conn).await;
        match server.event().await {
            Event::Drained(_) => {}
            event => break assert_eq!(event, Event::Closed(conn, Closed::Broken)),
        }
    }
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.connections.stalled(), 1);
    server.stop();
}
