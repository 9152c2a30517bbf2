//! What a shard is asked, what it answers, and what it wants done.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    code::ErrorCode,
    fanout::Subscriber,
    message::{Message, Payload},
    serial::Serial,
    session::{
        event::{Member, PresenceChange},
        record::Record,
        request::Recover,
    },
    shard::{delivery::Delivery, peer::PeerMessage},
};

/// A worker of a node, which hears channels for all of its sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Listener {
    pub node: u64,
    pub worker: u16,
}

/// Brings an answer back to whoever asked. Means nothing to a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    pub subscriber: Subscriber,
    pub number: i64,
}

/// What a worker asks its node's shard for one channel, whichever node owns it.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub from: Listener,
    pub key: ChannelKey,
    pub ask: Ask,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Ask {
    Publish(Publish),
    Subscribe(Subscribe),
    /// A subscribed session has become present, or is somebody else now.
    Enter {
        member: Member,
        attachment: u32,
    },
    Unsubscribe {
        session_id: Arc<str>,
        attachment: u32,
        /// The session goes on at another node.
        moved: bool,
    },
    /// Who is present. Opens no channel, and keeps none open.
    ReadPresence {
        token: Token,
    },
    /// What a session is now, at its place ([`crate::session::record::place`]); none if it has ended.
    Keep {
        record: Option<Arc<Record>>,
    },
    /// The session that is kept there, for whoever comes first.
    Take {
        token: Token,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    pub token: Token,
    /// Whether success is answered; a refusal always is.
    pub ack: bool,
    pub event: Arc<str>,
    pub payload: Payload,
    pub store: bool,
    pub push: bool,
    pub retain: bool,
    /// The idempotency key, 16 to 64 bytes.
    pub key: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subscribe {
    pub token: Token,
    pub member: Member,
    /// Raised by each restore of the session, so that what its former connection still says of it is known as old.
    pub attachment: u32,
    pub recover: Option<Recover>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Published(Result<Serial, ErrorCode>),
    Subscribed(Result<Box<Start>, ErrorCode>),
    Presence(Result<Arc<[Member]>, ErrorCode>),
    Taken(Result<Arc<Record>, ErrorCode>),
}

/// What a new subscriber gets before the first live message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    /// Where the client is told that it stands; `missed` follows from here.
    pub position: Serial,
    pub recovered: Option<bool>,
    pub known: Option<Serial>,
    pub missed: Vec<Arc<Message>>,
    /// Where the channel stands; live messages follow from here.
    pub current: Serial,
    pub retained: Option<Arc<Message>>,
    pub members: Option<Arc<[Member]>>,
    pub occupancy: Option<u64>,
}

impl Start {
    /// The same for one to whom nothing more can be sent now: it is told that something may be missing, and what it has.
    pub fn without_missed(self) -> Start {
        if self.missed.is_empty() {
            return self;
        }
        Start { position: self.current, recovered: Some(false), known: Some(self.position), missed: Vec::new(), ..self }
    }
}

/// What a channel's listeners hear besides messages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Notice {
    Presence {
        change: PresenceChange,
        members: Arc<[Member]>,
    },
    Occupancy(u64),
    /// The channel's owner is not certain of its state: messages may be late, and publishes are to be tried again.
    Uncertain,
}

/// What is to be done, in this order for each receiver.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Deliver {
        to: Listener,
        delivery: Arc<Delivery>,
    },
    Notify {
        to: Listener,
        key: ChannelKey,
        notice: Notice,
    },
    /// All subscribers that stand level with the channel stand here from now on: a new epoch, or something is missing.
    Reposition {
        to: Listener,
        key: ChannelKey,
        position: Serial,
        recovered: bool,
        known: Option<Serial>,
    },
    Answer {
        to: Listener,
        key: ChannelKey,
        token: Token,
        reply: Reply,
    },
    /// The session that this node keeps under the place goes on at another node.
    LetGo {
        place: ChannelKey,
    },
    /// Whether this node still has the session is to be told by [`Ask::Keep`].
    Confirm {
        place: ChannelKey,
    },
    /// To the shards of another node, in order.
    Send {
        to: NodeId,
        message: PeerMessage,
    },
    /// Every channel that this shard owns by the view, or hears, goes on in it. Copies may be missing.
    Resumed {
        view: u64,
    },
    /// Every channel that this shard owns by the view is served, and all its copies have it.
    Served {
        view: u64,
    },
    /// Make the messages durable, all or none, and say so by [`super::Shard::stored`].
    Store {
        key: ChannelKey,
        ticket: u64,
        messages: Vec<Arc<Message>>,
    },
}
