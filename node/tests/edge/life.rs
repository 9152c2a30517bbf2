//! Beginning and end of workers.

use std::net::TcpStream as Blocking;

use appsockets_core::time::Now;
use appsockets_node::edge::{self, Closed, ConnId, Connections, Handler, Opening, Options, Outboxes};
use axum::Router;
use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, until, within};

#[tokio::test]
async fn a_draining_worker_accepts_nothing_and_serves_on() {
    let mut server = Server::start(Options::default());
    let (mut client, _) = server.client().await;
    server.worker.handle.drain();
    until(|| Blocking::connect(server.address).is_err()).await;
    client.send(Message::text("still")).await.unwrap();
    assert_eq!(within(client.next()).await.unwrap().unwrap(), Message::text("still"));
    server.worker.handle.stop();
    assert!(within(client.next()).await.is_none_or(|end| end.is_err()));
    server.stop();
}

#[tokio::test]
async fn a_panic_is_surfaced() {
    let server = Server::start(Options::default());
    assert!(server.worker.handle.mail(Box::new(|_| panic!("meant by the test"))).is_ok());
    until(|| server.worker.is_finished()).await;
    assert!(server.worker.join().is_err());
}

#[tokio::test]
async fn workers_share_an_address() {
    let first = edge::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = first.local_addr().unwrap();
    let second = edge::listen(address).unwrap();
    assert_eq!(second.local_addr().unwrap(), address);
}

/// Asks to be called again a millisecond later.
struct Clock(mpsc::UnboundedSender<Now>);

impl Handler for Clock {
    type Ticket = ();
    type Mail = ();

    fn opened(&mut self, _: ConnId, _: Opening<()>, _: Now, _: &mut Outboxes) {}
    fn received(&mut self, _: ConnId, _: &[u8], _: Now, _: &mut Outboxes) {}
    fn heard(&mut self, _: ConnId, _: Now) {}
    fn drained(&mut self, _: ConnId, _: Now, _: &mut Outboxes) {}
    fn closed(&mut self, _: ConnId, _: Closed, _: Now, _: &mut Outboxes) {}
    fn mail(&mut self, (): (), _: Now, _: &mut Outboxes) {}

    fn turn(&mut self, now: Now, _: &mut Outboxes) -> Option<u64> {
        _ = self.0.send(now);
        Some(now.mono_ms + 1)
    }
}

#[tokio::test]
async fn a_turn_comes_when_it_was_asked_for() {
    let (tell, mut told) = mpsc::unbounded_channel();
    let listener = edge::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let worker =
        edge::spawn(listener, Options::default(), Connections::new(1), |_| (Clock(tell), Router::new())).unwrap();
    let mut times = Vec::new();
    while times.len() < 10 {
        times.push(within(told.recv()).await.unwrap().mono_ms);
    }
    assert!(times.windows(2).all(|pair| pair[0] < pair[1]), "early: {times:?}");
    worker.handle.stop();
    worker.join().unwrap().unwrap();
}
