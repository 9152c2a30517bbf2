use std::sync::Arc;

use crate::tls::Tls;

/// The bounds of a worker, and how it speaks to clients. Bytes count encoded frames, times are milliseconds.
#[derive(Clone, Debug)]
pub struct Options {
    /// The largest data message that a WebSocket client may send; a larger one ends the connection with 1009.
    pub message_bytes_max: u32,
    /// What may wait for one WebSocket client.
    pub outbox_bytes_max: usize,
    /// What may wait for one SSE client, besides what hyper holds (16 KiB).
    pub sse_outbox_bytes_max: usize,
    /// From accepting a connection, or from its last answer, to the last byte of a request's header.
    pub header_timeout_ms: u64,
    /// How long a client may take nothing while something waits for it. Checked ten times a second.
    pub write_timeout_ms: u64,
    /// How long a connection may linger after its close frame was queued.
    pub close_timeout_ms: u64,
    /// How much mail may wait for the worker.
    pub mail_max: usize,
    /// What TLS is spoken with; none: no TLS.
    pub tls: Option<Arc<Tls>>,
    /// TLS handshakes that may be under way; while there are so many, no connection is accepted.
    pub handshakes_max: u32,
    /// What one hears for whom there is no place; nothing where TLS is spoken.
    pub full: Arc<[u8]>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            message_bytes_max: 64 << 10,
            outbox_bytes_max: 256 << 10,
            sse_outbox_bytes_max: 256 << 10,
            header_timeout_ms: 10_000,
            write_timeout_ms: 20_000,
            close_timeout_ms: 5_000,
            mail_max: 64 << 10,
            tls: None,
            handshakes_max: 1_000,
            full: Arc::default(),
        }
    }
}
