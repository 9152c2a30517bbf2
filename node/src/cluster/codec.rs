//! How nodes write what they say: postcard, from the types of the core themselves (`docs/decisions/0011`). Both sides of a
//! link speak the same [`PROTOCOL`].

use appsockets_core::{cluster::views::message::Message, shard::peer::PeerMessage};
use bytes::Bytes;
use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;

/// Rises whenever a type that travels changes.
pub const PROTOCOL: u32 = 6;

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
    let written = postcard::serialize_with_flavor(message, End(bytes));
    debug_assert!(written.is_ok());
}

/// Writes at the end of what is there, without a call into a writer for each byte of a number.
struct End<'a>(&'a mut Vec<u8>);

impl Flavor for End<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

fn next<T: DeserializeOwned>(bytes: &mut &[u8]) -> Result<Option<T>, Undecodable> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let (message, rest) = postcard::take_from_bytes(bytes).map_err(|_| Undecodable)?;
    *bytes = rest;
    Ok(Some(message))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use appsockets_core::{
        channel::ChannelKey,
        cluster::{
            view::{ClusterId, Member, NodeId, View},
            views::{
                message::{Ballot, Message, Told, Vote},
                side::Said,
            },
        },
        code::ErrorCode,
        serial::{Epoch, Serial},
        shard::{
            peer::{Body, Part, PeerMessage, Say, SayAll, ToOwner, ToRelay},
            request::Notice,
        },
    };
    use proptest::prelude::*;

    use super::{append_peer, decode_view, encode_view, next_peer};

    const ID: NodeId = NodeId { node: 3, generation: u64::MAX };

    fn view() -> Arc<View> {
        let members = vec![Member { id: ID, points: 128 }, Member { id: NodeId { node: 1, generation: 2 }, points: 0 }];
        let lost = View::new(ClusterId { founded_ms: 6, chance: 9 }, 4, members.clone());
        Arc::new(View::founding(ClusterId { founded_ms: 7, chance: 9 }, members, vec![Arc::new(lost)]))
    }

    fn of_views() -> Vec<Message> {
        let ballot = Ballot { round: 4, by: ID };
        let told = Told { view: view(), open: vec![view()], settled: 4, gone: vec![ID] };
        vec![
            Message::NoView(None),
            Message::NoView(Some(told.clone())),
            Message::Is(told),
            Message::Ask { number: 6, ballot },
            Message::Promise { number: 6, ballot, accepted: Some(Vote { ballot, view: view() }) },
            Message::Accept { ballot, view: view() },
            Message::Refused { number: 6, ballot, promised: ballot },
            Message::Settled { number: 1 << 40 },
            Message::Side(Said { alone: true, follows: Some(ID), last: 3, stands: None }),
            Message::Aside { number: 5, view: view() },
        ]
    }

    fn of_shards() -> Vec<PeerMessage> {
        let key = ChannelKey::new("shop", "caf\u{e9}");
        let serial = Serial { epoch: Epoch { view: 1, node: 2, generation: 3, counter: 4 }, sequence: 5 };
        let channel = |say| Body::Channel { key: key.clone(), say };
        let bodies = [
            Body::All { from: Part { index: 1, count: 2 }, say: SayAll::End { known_since: Some(3) } },
            channel(Say::Owner(ToOwner::Listen {
                position: Some(serial),
                presence: 1,
                subscribers: 2,
                members: Vec::new(),
                astray: 300,
                uncertain: true,
            })),
            channel(Say::Relay(ToRelay::Published { counter: 7, outcome: Err(ErrorCode::TryAgain) })),
            channel(Say::Relay(ToRelay::Published { counter: 8, outcome: Ok(serial) })),
            channel(Say::Relay(ToRelay::Notice { notice: Notice::Occupancy(12), presence: 1 })),
        ];
        let sides = [false, true, true, false, false];
        bodies.into_iter().zip(sides).map(|(body, side)| PeerMessage { view: 5, side, body }).collect()
    }

    #[test]
    fn what_is_written_is_read_again() {
        for message in of_views() {
            assert_eq!(decode_view(&encode_view(&message)), Ok(message));
        }
        let mut bytes = Vec::new();
        of_shards().iter().for_each(|message| append_peer(message, &mut bytes));
        let mut rest = &bytes[..];
        let read: Vec<_> = std::iter::from_fn(|| next_peer(&mut rest).expect("it is whole")).collect();
        assert_eq!(read, of_shards());
    }

    #[test]
    fn what_is_cut_off_is_no_message() {
        for message in &of_views() {
            let bytes = encode_view(message);
            (0..bytes.len()).for_each(|length| assert!(decode_view(&bytes[..length]).is_err()));
        }
    }

    #[test]
    fn a_view_has_no_more_points_than_a_ring() {
        let members = (0..17).map(|node| Member { id: NodeId { node, generation: 1 }, points: u16::MAX }).collect();
        let view = Arc::new(View::new(ClusterId { founded_ms: 7, chance: 9 }, 5, members));
        let bytes = encode_view(&Message::Accept { ballot: Ballot { round: 1, by: ID }, view });
        assert!(decode_view(&bytes).is_err());
    }

    proptest! {
        #[test]
        fn nothing_that_comes_makes_it_panic(bytes: Vec<u8>, at: prop::sample::Index, bit in 0..8u8) {
            let _ = decode_view(&bytes);
            let _ = next_peer(&mut &*bytes);
            let mut changed = Vec::new();
            of_shards().iter().for_each(|message| append_peer(message, &mut changed));
            let at = at.index(changed.len());
            changed[at] ^= 1 << bit;
            let mut rest = &changed[..];
            while let Ok(Some(_)) = next_peer(&mut rest) {}
        }
    }
}
