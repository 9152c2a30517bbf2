//! A delivery allocates nothing: the claim that the edge's memory and speed rest on, counted.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use appsockets_core::time::Now;
use appsockets_node::edge::{
    self, Closed, ConnId, Connections, Handler, Opening, Options, Outboxes, Peer,
    ws::{self, Kind, Subprotocols},
};
use axum::{Extension, Router, extract::Request, response::IntoResponse, routing::any};
use bytes::Bytes;

const CONNECTIONS: usize = 200;
const PATIENCE: Duration = Duration::from_secs(30);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is the system allocator's; counting touches only a plain cell of the thread.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Delivers so many frames to all at each mail, and counts from there to the turn after the flush.
struct Broadcast {
    conns: Vec<ConnId>,
    frame: Bytes,
    counting: Option<(u64, u32)>,
    tell: mpsc::Sender<u64>,
}

impl Handler for Broadcast {
    type Ticket = ();
    type Mail = usize;

    fn opened(&mut self, conn: ConnId, _: Opening<()>, _: Now, _: &mut Outboxes) {
        self.conns.push(conn);
        if self.conns.len() == CONNECTIONS {
            self.tell.send(0).unwrap();
        }
    }

    fn received(&mut self, _: ConnId, _: &[u8], _: Now, _: &mut Outboxes) {}
    fn heard(&mut self, _: ConnId, _: Now) {}
    fn drained(&mut self, _: ConnId, _: Now, _: &mut Outboxes) {}
    fn closed(&mut self, _: ConnId, _: Closed, _: Now, _: &mut Outboxes) {}

    fn mail(&mut self, frames: usize, _: Now, out: &mut Outboxes) {
        self.counting = Some((allocations(), 0));
        for conn in &self.conns {
            for _ in 0..frames {
                out.deliver(*conn, &self.frame);
            }
        }
    }

    fn turn(&mut self, now: Now, out: &mut Outboxes) -> Option<u64> {
        let (before, turns) = self.counting?;
        if turns == 0 {
            self.counting = Some((before, 1));
            return Some(now.mono_ms);
        }
        let count = allocations() - before;
        self.counting = None;
        assert!(self.conns.iter().all(|conn| out.queued_bytes(*conn) == 0), "written in the turn before");
        self.tell.send(count).unwrap();
        None
    }
}

#[test]
fn a_delivery_allocates_nothing() {
    let listener = edge::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, told) = mpsc::channel();
    let worker = edge::spawn(listener, Options::default(), Connections::new(1000), move |handle| {
        let accept = |Extension(peer): Extension<Peer>, mut request: Request| async move {
            match ws::handshake(&mut request, Subprotocols::Formats) {
                Ok(handshake) => handle.accept_websocket(handshake, &peer, ()),
                Err(refusal) => refusal.into_response(),
            }
        };
        let frame = edge::frame(Kind::Text, &[b'x'; 128]);
        (Broadcast { conns: Vec::new(), frame, counting: None, tell }, Router::new().fallback(any(accept)))
    })
    .unwrap();
    let _clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(address)).collect();
    told.recv_timeout(PATIENCE).unwrap();

    let deliver = |frames| {
        assert!(worker.handle.mail(frames).is_ok());
        told.recv_timeout(PATIENCE).unwrap()
    };
    assert!(deliver(8) > 0, "the first time the pool grows, or nothing is counted");
    for frames in [1, 8, 1] {
        assert_eq!(deliver(frames), 0, "{frames} frames for each of {CONNECTIONS}");
    }
    worker.handle.stop();
    worker.join().unwrap().unwrap();
}

fn connect(address: std::net::SocketAddr) -> TcpStream {
    let mut client = TcpStream::connect(address).unwrap();
    client
        .write_all(
            b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
            sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        )
        .unwrap();
    let mut lines = BufReader::new(&client).lines().map_while(Result::ok);
    assert!(lines.next().unwrap().starts_with("HTTP/1.1 101"));
    assert!(lines.any(|line| line.is_empty()));
    drop(lines);
    client
}
