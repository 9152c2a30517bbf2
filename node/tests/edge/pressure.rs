//! What happens at the bounds.

use appsockets_node::edge::{self, Closed, Delivered, MailError, Options, ws::Kind};
use futures_util::{SinkExt, StreamExt};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    SECURED,
    support::{Event, Order, Server, until, within},
};

const FRAME_BYTES: usize = 10_000;

/// Frames of distinct first bytes until the outbox is full; how many were taken. Far more than kernels buffer.
async fn fill(server: &Server, conn: edge::ConnId) -> usize {
    let mut taken = 0;
    while taken < 100_000 {
        let more = server.order(move |out| {
            let mut taken = 0;
            while taken < 100 && out.deliver(conn, &numbered(taken)) == Delivered::Queued {
                taken += 1;
            }
            taken
        });
        match more.await {
            100 => taken += 100,
            more => return taken + more,
        }
    }
    panic!("the outbox has no bound");
}

fn numbered(number: usize) -> bytes::Bytes {
    let mut payload = vec![b'x'; FRAME_BYTES];
    payload[0] = b'0' + (number % 10) as u8;
    edge::frame(Kind::Text, &payload)
}

#[tokio::test]
async fn a_slow_reader_is_full_and_then_drained() {
    let mut server = Server::start(Options { outbox_bytes_max: 100_000, ..Options::default() });
    let (mut client, conn) = server.client().await;
    let taken = fill(&server, conn).await;
    let (small, queued) =
        server.order(move |out| (out.deliver(conn, &edge::frame(Kind::Text, b"small")), out.queued_bytes(conn))).await;
    assert_eq!(small, Delivered::Full, "nothing is taken out of order");
    assert!(queued <= 100_000, "{queued}");
    for number in 0..taken {
        let message = within(client.next()).await.unwrap().unwrap().into_data();
        assert_eq!((message.len(), message[0]), (FRAME_BYTES, b'0' + (number % 10) as u8));
    }
    assert_eq!(server.telling_event().await, Event::Drained(conn));
    let small = server.order(move |out| out.deliver(conn, &edge::frame(Kind::Text, b"small"))).await;
    assert_eq!(small, Delivered::Queued);
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("small"));
    server.stop();
}

#[tokio::test]
async fn who_takes_nothing_is_dropped() {
    let options = Options { outbox_bytes_max: 100_000, write_timeout_ms: 100, ..Options::default() };
    let mut server = Server::start(options);
    let (_client, conn) = server.client().await;
    fill(&server, conn).await;
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    assert_eq!(server.connections.stalled(), 1);
    until(|| server.connections.open() == 0).await;
    server.stop();
}

#[tokio::test]
async fn who_takes_nothing_of_a_plain_answer_is_dropped() {
    let server = Server::start(Options { write_timeout_ms: 100, ..Options::default() });
    let mut client = server.dial().await;
    client.write_all(b"GET /large HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    until(|| server.connections.stalled() == 1 && server.connections.open() == 0).await;
    server.stop();
}

#[tokio::test]
async fn more_than_the_bound_is_told_and_so_is_its_end() {
    let mut server = Server::start(Options { outbox_bytes_max: 100_000, ..Options::default() });
    let (mut client, conn) = server.client().await;
    let told = server.order(move |out| {
        let before = out.is_full(conn);
        (0..20).for_each(|number| out.reply(conn, numbered(number)));
        (before, out.is_full(conn))
    });
    assert_eq!(told.await, (false, true));
    for _ in 0..20 {
        assert_eq!(within(client.next()).await.unwrap().unwrap().len(), FRAME_BYTES);
    }
    assert_eq!(server.telling_event().await, Event::Drained(conn));
    assert!(!server.order(move |out| out.is_full(conn)).await);
    server.stop();
}

#[tokio::test]
async fn who_does_not_read_its_answers_is_not_read() {
    const REQUESTS: usize = 3000;
    let options = Options { outbox_bytes_max: 100_000, ..Options::default() };
    let mut server = Server::start_with(options, 100, Some(numbered(1)));
    let (client, conn) = server.client().await;
    let (mut send, mut receive) = client.split();
    let sender = tokio::spawn(async move {
        for _ in 0..REQUESTS {
            send.send(Message::text("ask")).await.unwrap();
        }
        send
    });
    // The server has stopped reading when it holds more than its bound.
    while server.order(move |out| out.queued_bytes(conn)).await <= 100_000 {}
    let held = server.order(move |out| out.queued_bytes(conn)).await;
    assert!(held <= 100_000 + 2 * FRAME_BYTES, "{held}");
    for _ in 0..REQUESTS {
        assert_eq!(within(receive.next()).await.unwrap().unwrap().len(), FRAME_BYTES);
    }
    drop(within(sender).await.unwrap());
    let received = server.events_so_far().iter().filter(|event| matches!(event, Event::Received(..))).count();
    assert_eq!(received, REQUESTS);
    server.stop();
}

#[tokio::test]
async fn a_header_must_come_in_time() {
    let server = Server::start(Options { header_timeout_ms: 100, ..Options::default() });
    let mut client = server.dial().await;
    client.write_all(b"GET /ws HTTP/1.1\r\nhost:").await.unwrap();
    let mut answer = Vec::new();
    // Cut off, which TLS takes for an error.
    drop(within(client.read_to_end(&mut answer)).await);
    until(|| server.connections.open() == 0).await;
    assert_eq!(server.connections.late(), 1);
    server.stop();
}

#[tokio::test]
async fn there_are_only_so_many_connections() {
    let options = Options { full: b"full".as_slice().into(), ..Options::default() };
    let mut server = Server::start_with(options, 1, None);
    let (first, conn) = server.client().await;
    let mut second = TcpStream::connect(server.address).await.unwrap();
    let mut answer = Vec::new();
    within(second.read_to_end(&mut answer)).await.unwrap();
    assert_eq!(answer, if SECURED { b"".as_slice() } else { b"full" });
    assert_eq!((server.connections.open(), server.connections.refused()), (1, 1));
    drop(first);
    assert_eq!(server.telling_event().await, Event::Closed(conn, Closed::Broken));
    until(|| server.connections.open() == 0).await;
    server.client().await;
    server.stop();
}

#[tokio::test]
async fn a_full_mailbox_takes_no_mail() {
    const MAIL_MAX: usize = 3;
    let server = Server::start(Options { mail_max: MAIL_MAX, ..Options::default() });
    let (started, has_started) = std::sync::mpsc::channel();
    let (go_on, may_go_on) = std::sync::mpsc::channel::<()>();
    let wait: Order = Box::new(move |_| {
        started.send(()).unwrap();
        may_go_on.recv().unwrap();
    });
    assert!(server.worker.handle.mail(wait).is_ok());
    has_started.recv().unwrap();
    for _ in 0..MAIL_MAX {
        assert!(server.worker.handle.mail(Box::new(|_| ())).is_ok());
    }
    assert!(matches!(server.worker.handle.mail(Box::new(|_| ())), Err(MailError::Full(_))));
    go_on.send(()).unwrap();
    until(|| server.worker.handle.mail(Box::new(|_| ())).is_ok()).await;
    let handle = server.worker.handle.clone();
    server.stop();
    assert!(matches!(handle.mail(Box::new(|_| ())), Err(MailError::Gone(_))));
}

#[tokio::test]
async fn a_flood_does_not_starve_others() {
    let mut server = Server::start(Options::default());
    let (flood, _) = server.client().await;
    let (mut send, mut receive) = flood.split();
    let flooding = tokio::spawn(async move { while send.send(Message::text("x".repeat(50_000))).await.is_ok() {} });
    let taking = tokio::spawn(async move { while let Some(Ok(_)) = receive.next().await {} });
    let (mut other, _) = server.connect("").await;
    for _ in 0..20 {
        other.send(Message::text("hello")).await.unwrap();
        assert_eq!(within(other.next()).await.unwrap().unwrap(), Message::text("hello"));
    }
    flooding.abort();
    taking.abort();
    server.stop();
}
