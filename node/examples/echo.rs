//! Sends every WebSocket message back as it came: what the Autobahn test suite talks to.

use std::net::SocketAddr;

use appsockets_core::time::Now;
use appsockets_node::edge::{
    self, Closed, ConnId, Connections, Handler, Opening, Options, Outboxes, Peer, WorkerHandle,
    ws::{self, Kind, Subprotocols},
};
use axum::{Extension, Router, extract::Request, response::IntoResponse, routing::any};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    /// Where to listen, as IP:PORT.
    #[arg(long, default_value = "127.0.0.1:9001")]
    listen: SocketAddr,
    /// The largest message that is taken, in bytes.
    #[arg(long, default_value_t = 16 << 20)]
    message_bytes_max: u32,
}

struct Echo;

impl Handler for Echo {
    type Ticket = ();
    type Mail = ();

    fn opened(&mut self, _: ConnId, _: Opening<()>, _: Now, _: &mut Outboxes) {}

    fn received(&mut self, _: ConnId, _: &[u8], _: Now, _: &mut Outboxes) {}

    fn received_any(&mut self, conn: ConnId, kind: Kind, message: &[u8], _: Now, out: &mut Outboxes) {
        out.reply(conn, edge::frame(kind, message));
    }

    fn heard(&mut self, _: ConnId, _: Now) {}

    fn drained(&mut self, _: ConnId, _: Now, _: &mut Outboxes) {}

    fn closed(&mut self, _: ConnId, _: Closed, _: Now, _: &mut Outboxes) {}

    fn mail(&mut self, (): (), _: Now, _: &mut Outboxes) {}

    fn turn(&mut self, _: Now, _: &mut Outboxes) -> Option<u64> {
        None
    }
}

fn start(handle: WorkerHandle<(), ()>) -> (Echo, Router) {
    let accept = |Extension(peer): Extension<Peer>, mut request: Request| async move {
        match ws::handshake(&mut request, Subprotocols::Any) {
            Ok(handshake) => handle.accept_websocket(handshake, &peer, ()),
            Err(refusal) => refusal.into_response(),
        }
    };
    (Echo, Router::new().fallback(any(accept)))
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let options = Options { message_bytes_max: arguments.message_bytes_max, ..Options::default() };
    let listener = edge::listen(arguments.listen)?;
    println!("listening on {}", listener.local_addr()?);
    let worker = edge::spawn(listener, options, Connections::new(10_000), start)?;
    worker.join().map_err(|_| anyhow::anyhow!("the worker panicked"))??;
    Ok(())
}
