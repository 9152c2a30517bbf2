//! Sockets: accepting, HTTP, WebSocket framing, SSE bodies, and writing without waiting.
//!
//! Each worker is one thread with its own runtime and listener. What the sockets bring is handed to a [`Handler`] on
//! the same thread; what the handler wants written goes into [`Outboxes`] and out in one write per socket and turn.
//!
//! ```text
//! accept ─▶ hyper, axum ─▶ WorkerHandle::accept_websocket ─▶ the worker's own poll ─▶ Reader ─▶ Handler
//!                     └──▶ WorkerHandle::accept_sse ─▶ a body that stays in hyper      Handler ─▶ Outboxes ─▶ flush
//! ```
//!
//! A WebSocket leaves tokio after its handshake, so an idle one costs a `Conn` here and its buffers in the kernel, and
//! neither a task nor a buffer of ours. One over TLS takes its `ServerConnection` along.

use std::net::IpAddr;

use appsockets_core::time::Now;
use bytes::Bytes;

use crate::codec::Format;

pub mod clock;
mod conn;
mod connections;
mod flush;
mod http;
mod options;
mod outbox;
mod patient;
mod queue;
mod read;
mod secured;
mod sse;
mod turn;
mod worker;
pub mod ws;

pub use connections::{Connections, Peer};
pub use http::listen;
pub use options::Options;
pub use outbox::{Delivered, Outboxes};
pub use worker::{Worker, WorkerHandle, spawn};

/// A connection of one worker. Slots are reused and generations are not, so a late answer reaches nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConnId {
    pub slot: u32,
    pub generation: u32,
}

/// What carries a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    WebSocket(Format),
    /// Server to client only; JSON in `data:` lines.
    Sse,
}

/// A connection that has been let in.
#[derive(Debug)]
pub struct Opening<T> {
    pub transport: Transport,
    /// The other end of the socket, which may be a proxy.
    pub remote: IpAddr,
    /// What the one who let it in wants the handler to know.
    pub ticket: T,
}

/// How a connection ended that the handler did not end itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The client sent a close frame.
    Clean,
    /// Anything else: the socket failed or ended without one, nothing could be written in time, or the client broke
    /// the WebSocket protocol. The end of an SSE request always counts as this, because it has no other way.
    Broken,
}

/// Mail that was not taken, with the reason.
#[derive(Debug, thiserror::Error)]
pub enum MailError<M> {
    #[error("the worker's mailbox is full")]
    Full(M),
    #[error("the worker has ended")]
    Gone(M),
}

/// What a worker's sockets drive. Everything is called on the worker's thread, one at a time, and must not wait.
pub trait Handler {
    /// Comes with a new connection.
    type Ticket: Send + 'static;
    /// What other threads may send to this worker.
    type Mail: Send + 'static;

    fn opened(&mut self, conn: ConnId, opening: Opening<Self::Ticket>, now: Now, out: &mut Outboxes);
    /// A whole data message of a WebSocket client, unmasked, UTF-8 checked if it is text. Its kind is the one of the
    /// connection's format; a message of the other kind ends the connection with 1003.
    fn received(&mut self, conn: ConnId, message: &[u8], now: Now, out: &mut Outboxes);
    /// The same for a connection that takes both kinds ([`ws::Subprotocols::Any`]).
    fn received_any(&mut self, conn: ConnId, kind: ws::Kind, message: &[u8], now: Now, out: &mut Outboxes) {
        let _ = kind;
        self.received(conn, message, now, out);
    }
    /// The client began a message that is larger than is taken. What is queued now still reaches it; then the
    /// connection ends with 1009.
    fn too_large(&mut self, conn: ConnId, out: &mut Outboxes) {
        let _ = (conn, out);
    }
    /// Any sign of life that is not a data message.
    fn heard(&mut self, conn: ConnId, now: Now);
    /// After [`Outboxes::deliver`] said `Full`: the outbox is empty again.
    fn drained(&mut self, conn: ConnId, now: Now, out: &mut Outboxes);
    /// The connection is gone and its id means nothing any more. Not called after [`Outboxes::close`].
    fn closed(&mut self, conn: ConnId, how: Closed, now: Now, out: &mut Outboxes);
    fn mail(&mut self, mail: Self::Mail, now: Now, out: &mut Outboxes);
    /// The end of a turn, when everything that was ready has been handed over, before anything is written. Returns when
    /// it must be called again at the latest, in `Now::mono_ms`.
    fn turn(&mut self, now: Now, out: &mut Outboxes) -> Option<u64>;
}

/// One whole WebSocket frame, for [`Outboxes::deliver`] and [`Outboxes::reply`].
pub fn frame(kind: ws::Kind, payload: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(payload.len() + ws::HEADER_BYTES_MAX);
    ws::write_frame(kind.opcode(), payload, &mut frame);
    frame.into()
}
