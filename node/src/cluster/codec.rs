//! How nodes write what they say: postcard, from the types of the core themselves (`docs/decisions/0009`). Both sides of a
//! link speak the same [`PROTOCOL`].

use appsockets_core::{cluster::views::message::Message, shard::peer::PeerMessage};
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// Rises whenever a type that travels changes.
pub const PROTOCOL: u32 = 1;

/// What came is no message of this protocol. The link that brought it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a node sent what can't be read")]
pub struct Undecodable;

/// A message about views.
pub fn encode_view(message: &Message) -> Bytes {
    let mut bytes = Vec::new();
    append(message, &mut bytes);
    bytes.into()
}

pub fn decode_view(bytes: &[u8]) -> Result<Message, Undecodable> {
    match next(&mut &*bytes)? {
        Some(message) => Ok(message),
        None => Err(Undecodable),
    }
}

/// Adds one message to those for a shard.
pub fn append_peer(message: &PeerMessage, bytes: &mut Vec<u8>) {
    append(message, bytes);
}

/// The next of the messages to a shard, and none after the last.
pub fn next_peer(bytes: &mut &[u8]) -> Result<Option<PeerMessage>, Undecodable> {
    next(bytes)
}

fn append<T: serde::Serialize>(message: &T, bytes: &mut Vec<u8>) {
    // Memory can't refuse, and nothing of the core's has a form that postcard does not know.
    let written = postcard::to_io(message, &mut *bytes);
    debug_assert!(written.is_ok());
}

fn next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<Option<T>, Undecodable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| Undecodable)?;
    *bytes = rest;
    Ok(Some(message))
}
