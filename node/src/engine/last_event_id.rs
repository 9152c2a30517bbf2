//! The ids of SSE events: the session's restore key, and how far it has come in each of its channels.
//!
//! Told: `KEY?CHANNEL=SERIAL&CHANNEL=SERIAL`, channels percent-encoded. Where that would be too long for a header, the
//! node holds the positions and the id names them: `KEY#NUMBER`.

use std::sync::Arc;

use appsockets_core::{channel::ChannelName, serial::Serial, session::request::Recover};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// The longest id that is told, in bytes.
const ID_BYTES_MAX: usize = 1024;

/// The session that a client had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resume {
    pub key: String,
    /// The number of positions that the node holds.
    pub held: Option<u64>,
}

/// The last id that a client got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LastEventId {
    pub resume: Resume,
    positions: Vec<(ChannelName, Serial)>,
}

/// The id that tells all positions; `None` if it would be too long.
pub fn told(key: &str, positions: &[(ChannelName, Serial)]) -> Option<String> {
    let mut id = format!("{key}?");
    for (channel, serial) in positions {
        if !id.ends_with('?') {
            id.push('&');
        }
        id.extend(utf8_percent_encode(channel, NON_ALPHANUMERIC));
        id.push_str(&format!("={serial}"));
        if id.len() > ID_BYTES_MAX {
            return None;
        }
    }
    Some(id)
}

/// The id that names positions which the node holds.
pub fn held(key: &str, number: u64) -> String {
    format!("{key}#{number}")
}

impl LastEventId {
    /// What a client sent back. `None` if no node has made it.
    pub fn parse(id: &str) -> Option<LastEventId> {
        let id = id.get(..id.len().min(2 * ID_BYTES_MAX))?;
        if let Some((key, number)) = id.split_once('#') {
            let resume = Resume { key: key.to_owned(), held: Some(number.parse().ok()?) };
            return Some(LastEventId { resume, positions: Vec::new() });
        }
        let (key, positions) = id.split_once('?')?;
        let positions = positions.split('&').filter(|pair| !pair.is_empty()).map(position).collect::<Option<_>>()?;
        Some(LastEventId { resume: Resume { key: key.to_owned(), held: None }, positions })
    }

    /// What the client is known to have of a channel. Held positions are not known here, and neither is that of a
    /// channel which was catching up when the id was told.
    pub fn recover(&self, channel: &str) -> Recover {
        let told = self.positions.iter().find(|(other, _)| &**other == channel);
        told.map_or(Recover::Unknown, |(_, serial)| Recover::Serial(*serial))
    }
}

fn position(pair: &str) -> Option<(ChannelName, Serial)> {
    let (channel, serial) = pair.split_once('=')?;
    let channel = percent_decode_str(channel).decode_utf8().ok()?;
    Some((Arc::from(&*channel), serial.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use appsockets_core::{
        serial::{Epoch, Serial},
        session::request::Recover,
    };
    use proptest::prelude::*;

    use super::{ID_BYTES_MAX, LastEventId, held, told};

    fn serial(sequence: u64) -> Serial {
        Serial { epoch: Epoch { view: 1, node: 2, generation: 3, counter: 4 }, sequence }
    }

    proptest! {
        #[test]
        fn what_is_told_comes_back(channels in prop::collection::btree_map("\\PC{1,40}", 0u64..1000, 0..12)) {
            let positions: Vec<_> = channels.iter().map(|(c, n)| (c.as_str().into(), serial(*n))).collect();
            if let Some(id) = told("key", &positions) {
                prop_assert!(id.len() <= ID_BYTES_MAX && id.is_ascii() && !id.contains('\n'));
                let parsed = LastEventId::parse(&id).unwrap();
                prop_assert_eq!(&parsed.resume.key, "key");
                for (channel, number) in &channels {
                    prop_assert_eq!(parsed.recover(channel), Recover::Serial(serial(*number)));
                }
            }
        }

        #[test]
        fn nothing_makes_it_panic(id in "\\PC{0,200}") {
            let _ = LastEventId::parse(&id);
        }
    }

    #[test]
    fn held_positions_are_unknown_here() {
        let parsed = LastEventId::parse(&held("key", 7)).unwrap();
        assert_eq!(parsed.resume.held, Some(7));
        assert_eq!(parsed.recover("any"), Recover::Unknown);
    }

    #[test]
    fn a_channel_that_was_not_told_may_lack_something() {
        let parsed = LastEventId::parse(&told("key", &[("a".into(), serial(1))]).unwrap()).unwrap();
        assert_eq!(parsed.recover("b"), Recover::Unknown);
    }

    #[test]
    fn many_channels_are_too_long_to_be_told() {
        let positions: Vec<_> = (0..100).map(|n| (format!("channel-{n}").into(), serial(n))).collect();
        assert_eq!(told("key", &positions), None);
    }
}
