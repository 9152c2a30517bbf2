//! Sockets: accepting, HTTP, WebSocket framing, SSE bodies, and writing without waiting.
//!
//! Each worker is one thread with its own runtime and listener. What the sockets bring is handed to a [`Handler`] on
//! the same thread; what the handler wants written goes into [`Outboxes`] and out in one write per socket and turn.

use std::net::IpAddr;

use appsockets_core::time::Now;

use crate::codec::Format;

mod outbox;
pub mod ws;

pub use outbox::{Delivered, Outboxes};

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
    pub remote: IpAddr,
    /// What the one who let it in wants the handler to know.
    pub ticket: T,
}

/// What a worker's sockets drive. Everything is called on the worker's thread, one at a time, and must not wait.
pub trait Handler {
    /// Comes with a new connection.
    type Ticket: Send + 'static;
    /// What other threads may send to this worker.
    type Mail: Send + 'static;

    fn opened(&mut self, conn: ConnId, opening: Opening<Self::Ticket>, now: Now, out: &mut Outboxes);
    /// A whole data message of a WebSocket client, unmasked, UTF-8 checked if it is text.
    fn received(&mut self, conn: ConnId, message: &[u8], now: Now, out: &mut Outboxes);
    /// Any sign of life that is not a data message.
    fn heard(&mut self, conn: ConnId, now: Now);
    /// After [`Outboxes::deliver`] said `Full`: the outbox is empty again.
    fn drained(&mut self, conn: ConnId, now: Now, out: &mut Outboxes);
    /// The connection is gone and its id means nothing any more. Not called after [`Outboxes::close`].
    fn closed(&mut self, conn: ConnId, now: Now, out: &mut Outboxes);
    fn mail(&mut self, mail: Self::Mail, now: Now, out: &mut Outboxes);
    /// The end of a turn, when everything that was ready has been handed over, before anything is written. Returns when
    /// it must be called again at the latest, in `Now::mono_ms`.
    fn turn(&mut self, now: Now, out: &mut Outboxes) -> Option<u64>;
}
