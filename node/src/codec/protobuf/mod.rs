//! The protocol in protobuf: the envelope, and in it the encoded message that its event names.

mod decode;
mod encode;
mod message;

pub(super) use decode::decode;
pub(super) use encode::encode;
pub(super) use message::encode_message;
