//! The names of hubs and channels.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A tenant's name.
pub type HubId = Arc<str>;

/// A channel's name within its hub.
pub type ChannelName = Arc<str>;

/// The greatest length of a hub's or a channel's name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A channel of the whole cluster.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ChannelKey {
    pub hub: HubId,
    pub channel: ChannelName,
}

impl ChannelKey {
    pub fn new(hub: impl Into<HubId>, channel: impl Into<ChannelName>) -> Self {
        ChannelKey { hub: hub.into(), channel: channel.into() }
    }

    /// Where the channel lies on the ring, and in which shard of a node. The same on every machine and in every version.
    pub fn point(&self) -> u64 {
        let seed = xxhash_rust::xxh3::xxh3_64(self.hub.as_bytes());
        xxhash_rust::xxh3::xxh3_64_with_seed(self.channel.as_bytes(), seed)
    }
}

/// Whether the text can name a hub or a channel: 1 to 255 bytes without control characters.
pub fn is_valid_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.chars().any(char::is_control)
}

/// What a channel is, chosen by the prefix of its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Default,
    Document,
    Notification,
}

impl Kind {
    pub fn of(channel: &str) -> Kind {
        match namespace(channel) {
            Some("doc") => Kind::Document,
            Some("notification") => Kind::Notification,
            _ => Kind::Default,
        }
    }
}

/// The text of a channel's name up to the first `:`.
pub fn namespace(channel: &str) -> Option<&str> {
    channel.split_once(':').map(|(namespace, _)| namespace)
}

/// The channel that all sessions of a user share.
pub fn user_channel(user_id: &str) -> ChannelName {
    format!("u:{user_id}").into()
}
