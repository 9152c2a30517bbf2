//! A message as it lies in a channel: numbered, stamped, shared by all who get it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use bytes::Bytes;

use crate::serial::Serial;

/// How a payload appears in JSON. Decided by the form in which it was published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Form {
    /// Valid JSON text, appears as such.
    Json,
    /// UTF-8, appears as a string.
    Text,
    /// Anything, appears as base64.
    Binary,
    /// Published in binary: JSON if it is valid JSON, else text if it is UTF-8, else base64. Found out when it is
    /// first needed, because it follows from the bytes alone.
    Detect,
}

/// What a publisher sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    pub bytes: Bytes,
    pub form: Form,
}

/// One numbered message of a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Also its message id: an epoch belongs to one channel of the whole cluster, so the serial is unique.
    pub serial: Serial,
    /// Unix milliseconds by the owner's clock, never decreasing within a channel.
    pub ts_ms: u64,
    /// Named by the publisher, 0 to 255 bytes.
    pub event: Arc<str>,
    pub payload: Payload,
}

impl Message {
    /// What the message counts against a bound on bytes.
    pub fn weight(&self) -> usize {
        self.payload.bytes.len() + self.event.len() + size_of::<Message>()
    }
}
