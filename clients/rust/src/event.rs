//! What an application hears.

use std::fmt;

use appsockets_proto::client::{self as proto, ChannelPublish, Position, PresenceMember};
use bytes::Bytes;

/// What comes of a channel.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What follows continues after this serial. `recovered` of `Some(false)`: something may be missing before it.
    Position(Position),
    Message(ChannelPublish),
    /// All who are present.
    Presence(Vec<PresenceMember>),
    Join(Vec<PresenceMember>),
    Leave(Vec<PresenceMember>),
    /// The number of subscribers.
    Occupancy(u64),
    /// The last event of a subscription.
    Ended(Ended),
}

/// Why a subscription has ended by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// Also with `message_too_large`, where the channel's name or the serial is longer than the node accepts.
    #[error("{0}")]
    Refused(Failure),
    #[error("this client has a subscription to the channel already")]
    AlreadySubscribed,
    #[error("{0}")]
    Client(End),
}

/// Why a client has ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum End {
    #[error("the client was closed")]
    Closed,
    /// The node closed the session with a code that forbids to reconnect (4100 to 4199).
    #[error("the node closed the session: {name} ({code}): {message}")]
    Code { code: u16, name: String, message: String },
    /// The node refused to open a connection.
    #[error("the node refused the connection with {0}")]
    Refused(Refusal),
    /// No connection could be made in as many attempts as [`crate::Options::first_attempts`] allows, and why the last failed.
    #[error("no node could be reached: {0}")]
    Unreachable(String),
    /// The credentials of [`crate::Options`], or the last that worked, were not accepted, or are `message_too_large`.
    #[error("the credentials were not accepted: {0}")]
    Credentials(Failure),
}

/// A refusal of the node. docs/protocol.md lists the codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: u32,
    pub name: String,
    /// For people.
    pub message: String,
    /// Whether the same request may work later.
    pub retry: bool,
}

/// How a node refuses to open a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Of HTTP.
    pub status: u16,
    /// What the node says of it, unless something before the node has answered.
    pub failure: Option<Failure>,
}

/// Why a request did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the client has ended")]
    Closed,
    #[error("as many requests wait as may: try again later")]
    QueueFull,
    /// Larger than the node's `maxMessageSize`.
    #[error("the message is larger than the node accepts")]
    TooLarge,
    /// No answer came for so long that sending again could do it twice.
    #[error("no answer came in time: whether the message was accepted is not known")]
    Unknown,
    #[error("{0}")]
    Refused(Failure),
    #[error("the address is not one of a node: {0}")]
    BadUrl(String),
}

/// A message to be published.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Publish {
    pub channel: String,
    /// A name of the application's own; may be empty.
    pub event: String,
    pub payload: Bytes,
    /// Keep it for history.
    pub store: bool,
    /// Also send it to devices.
    pub push: bool,
    /// New subscribers get it.
    pub retain: bool,
    /// The idempotency key, 16 to 64 bytes, for an application that may itself publish the message again; else a random one.
    pub key: Option<String>,
}

/// A publish was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    /// Its place in the channel, which is its id too.
    pub serial: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name, self.code, self.message)
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.failure {
            Some(failure) => failure.fmt(f),
            None => write!(f, "status {}", self.status),
        }
    }
}

impl From<proto::Error> for Failure {
    fn from(error: proto::Error) -> Failure {
        let proto::Error { code, name, message, retry, channel: _, req_id: _ } = error;
        Failure { code, name, message, retry }
    }
}
