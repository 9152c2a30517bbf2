//! The protocol in JSON: `{"event": "Publish", "payload": {…}}`, with the JSON names of the `.proto` file.

mod decode;
mod encode;
mod fields;
mod message;
mod object;

pub(super) use decode::decode;
pub use decode::decode_publishes;
pub(super) use encode::encode;
pub use encode::{encode_history, encode_members, encode_published};
pub(super) use message::encode_message;
