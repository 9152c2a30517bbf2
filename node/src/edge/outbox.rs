//! What waits to be written, for each connection of a worker.

use bytes::Bytes;

use super::ConnId;

/// Whether a delivery was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Queued,
    /// The outbox holds more than its bound: the frame was not taken. [`super::Handler::drained`] follows.
    Full,
}

/// The outboxes of all connections of a worker.
#[derive(Debug, Default)]
pub struct Outboxes {}

impl Outboxes {
    /// Queues bytes that are ready to be written (one or more whole WebSocket frames, or SSE blocks) and shared with others.
    pub fn deliver(&mut self, _conn: ConnId, _bytes: &Bytes) -> Delivered {
        Delivered::Queued
    }

    /// Queues the answer to a request, whatever waits already: while more waits than the bound, nothing more is read
    /// from the connection, so a client bounds its answers by its own requests.
    pub fn reply(&mut self, _conn: ConnId, _bytes: Bytes) {}

    /// Ends the connection after what is queued: for a WebSocket with a close frame of this code and reason.
    pub fn close(&mut self, _conn: ConnId, _code: u16, _reason: &str) {}
}
