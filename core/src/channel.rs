//! The names of hubs and channels.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

/// A tenant's name.
pub type HubId = Arc<str>;

/// A channel's name within its hub.
pub type ChannelName = Arc<str>;

/// The greatest length of a hub's or a channel's name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// A channel of the whole cluster.
#[derive(Clone, Serialize, Deserialize)]
#[serde(from = "Names")]
pub struct ChannelKey {
    pub hub: HubId,
    pub channel: ChannelName,
    /// It follows from the names, and is asked for much more often than they come.
    #[serde(skip_serializing)]
    point: u64,
}

/// A key as it travels.
#[derive(Deserialize)]
struct Names {
    hub: HubId,
    channel: ChannelName,
}

impl ChannelKey {
    pub fn new(hub: impl Into<HubId>, channel: impl Into<ChannelName>) -> Self {
        let (hub, channel) = (hub.into(), channel.into());
        let seed = xxhash_rust::xxh3::xxh3_64(hub.as_bytes());
        let point = xxhash_rust::xxh3::xxh3_64_with_seed(channel.as_bytes(), seed);
        ChannelKey { hub, channel, point }
    }

    /// Where the channel lies on the ring, and in which shard of a node. The same on every machine and in every version.
    pub fn point(&self) -> u64 {
        self.point
    }
}

impl From<Names> for ChannelKey {
    fn from(Names { hub, channel }: Names) -> Self {
        ChannelKey::new(hub, channel)
    }
}

impl PartialEq for ChannelKey {
    fn eq(&self, other: &Self) -> bool {
        self.point == other.point && self.channel == other.channel && self.hub == other.hub
    }
}

impl Eq for ChannelKey {}

/// The names alone: the point has no secret in it, so whoever likes can make many names with the same one.
impl Hash for ChannelKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.hub, &self.channel).hash(state);
    }
}

impl PartialOrd for ChannelKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ChannelKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.hub, &self.channel).cmp(&(&other.hub, &other.channel))
    }
}

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.hub, self.channel)
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
