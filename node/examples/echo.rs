//! Sends every message back, for `cargo xtask autobahn`: the edge alone, without sessions.

use std::net::SocketAddr;

use appsockets_core::time::Now;
use appsockets_node::edge::{
    self, Closed, ConnId, Connections, Handler, Opening, Options, Outboxes, Peer, WorkerHandle,
    ws::{Kind, Subprotocols, handshake},
};
use axum::{Extension, Router, extract::Request, response::IntoResponse, routing::any};
use clap::Parser;

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long, default_value_t = 32 << 20)]
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

fn main() -> anyhow::Result<()> {
    let Arguments { listen, message_bytes_max } = Arguments::parse();
    let options = Options { message_bytes_max, outbox_bytes_max: 2 * message_bytes_max as usize, ..Options::default() };
    let listener = edge::listen(listen)?;
    println!("listening on http://{}", listener.local_addr()?);
    let worker = edge::spawn(listener, options, Connections::new(1024), |handle| (Echo, router(handle)))?;
    worker.join().map_err(|_| anyhow::anyhow!("the worker panicked"))??;
    Ok(())
}

fn router(handle: WorkerHandle<(), ()>) -> Router {
    let upgrade = |Extension(peer): Extension<Peer>, mut request: Request| async move {
        match handshake(&mut request, Subprotocols::Any) {
            Ok(handshake) => handle.accept_websocket(handshake, &peer, ()),
            Err(refusal) => refusal.into_response(),
        }
    };
    Router::new().fallback(any(upgrade))
}
