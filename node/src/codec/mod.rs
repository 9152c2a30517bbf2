//! The two wire formats of the client protocol, between bytes and the core's requests and events.
//!
//! Decoding judges only what the bytes say. Whether a channel's name is valid or a request is allowed is told by the
//! session, in the same words for both formats.

mod json;
mod protobuf;
mod request;
mod serial;
mod sse;
#[cfg(test)]
mod tests;

use appsockets_core::{
    code::ErrorCode,
    message::Message,
    session::{event::Event, request::Request},
};

pub use json::{decode_publishes, encode_history, encode_members, encode_published};
pub use request::Bounds;
pub use sse::sse_block;

/// Chosen by WebSocket subprotocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `appsockets.v1.protobuf`: binary WebSocket messages.
    Protobuf,
    /// `appsockets.v1.json`: text WebSocket messages.
    Json,
}

impl Format {
    pub const fn subprotocol(self) -> &'static str {
        match self {
            Format::Protobuf => "appsockets.v1.protobuf",
            Format::Json => "appsockets.v1.json",
        }
    }
}

/// Reads one message of a client.
///
/// Takes time linear in the input, and no stack that grows with it. Fails with `bad_message` or `unknown_event`.
pub fn decode(format: Format, data: &[u8]) -> Result<Request, DecodeError> {
    match format {
        Format::Protobuf => protobuf::decode(data),
        Format::Json => json::decode(data),
    }
}

/// Appends the envelope of one event, without any framing.
pub fn encode(format: Format, event: &Event, out: &mut Vec<u8>) {
    match format {
        Format::Protobuf => protobuf::encode(event, out),
        Format::Json => json::encode(event, out),
    }
}

/// Appends the envelope of one message of a channel: what [`encode`] does for [`Event::Message`], without an event and
/// without allocations of its own. `retained`: sent on subscribing, because it was retained.
pub fn encode_message(format: Format, channel: &str, message: &Message, retained: bool, out: &mut Vec<u8>) {
    match format {
        Format::Protobuf => protobuf::encode_message(channel, message, retained, out),
        Format::Json => json::encode_message(channel, message, retained, out),
    }
}

/// A message of a client can't be read. None of what it asked for is done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", .code.name())]
pub struct DecodeError {
    pub code: ErrorCode,
    /// The request id, where the message names exactly one and enough of it could be read to find it.
    pub req_id: Option<i64>,
    /// What is wrong, and where in the message; at most 200 bytes.
    pub detail: String,
}

const DETAIL_BYTES_MAX: usize = 200;

impl DecodeError {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        let mut detail = detail.into();
        detail.truncate(detail.floor_char_boundary(DETAIL_BYTES_MAX));
        DecodeError { code, req_id: None, detail }
    }

    fn bad(detail: impl Into<String>) -> Self {
        DecodeError::new(ErrorCode::BadMessage, detail)
    }
}
