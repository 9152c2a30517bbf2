//! What fits into one message.

use prost::length_delimiter_len;

use crate::event::Failure;

/// Channels in one request, however short their names: the node refuses a message of too many.
const BATCH_MAX: usize = 64;
/// An envelope's event, and the tag of its payload. The numbers of events stay below 128.
const ENVELOPE_BYTES: usize = 3;

/// Whether the node takes a message of this encoded length, which its envelope makes longer.
pub fn fits(length: usize, bytes_max: usize) -> bool {
    ENVELOPE_BYTES + length_delimiter_len(length) + length <= bytes_max
}

/// How many of these items go into one request that has a length already: none if there is no room for the first.
pub fn batch(request: usize, items: impl Iterator<Item = usize>, bytes_max: usize) -> usize {
    let mut length = request;
    let has_room = |item: &usize| {
        length += 1 + length_delimiter_len(*item) + item;
        fits(length, bytes_max)
    };
    items.take(BATCH_MAX).take_while(has_room).count()
}

/// What the node says of a message that does not fit. It is not sent one: it would end the connection.
pub fn too_large() -> Failure {
    let message = "The message is larger than the node accepts.".into();
    Failure { code: 102, name: "message_too_large".into(), message, retry: false }
}

#[cfg(test)]
mod tests {
    use appsockets_proto::client::{ChannelSubscribeInfo, Envelope, EventType, SubscribeRequest};
    use prost::Message;

    use super::{batch, fits};

    #[test]
    fn what_is_said_to_fit_is_counted_to_the_byte() {
        for name_bytes in [0, 1, 100, 120, 127, 128, 200, 16_300, 16_384, 70_000] {
            let info = ChannelSubscribeInfo { channel: "x".repeat(name_bytes), ..ChannelSubscribeInfo::default() };
            let empty = SubscribeRequest { req_id: 300, channels: vec![] };
            let request = SubscribeRequest { req_id: 300, channels: vec![info.clone(), info.clone()] };
            let payload = request.encode_to_vec().into();
            let length = Envelope { event: EventType::Subscribe.into(), payload }.encoded_len();
            assert!(fits(request.encoded_len(), length) && !fits(request.encoded_len(), length - 1), "{name_bytes}");
            let items = || std::iter::repeat_n(info.encoded_len(), 3);
            assert_eq!(batch(empty.encoded_len(), items(), length), 2, "{name_bytes}");
            assert_eq!(batch(empty.encoded_len(), items(), length - 1), 1, "{name_bytes}");
        }
    }
}
