//! What a client may ask, after decoding and before anything is decided.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{message::Payload, serial::Serial};

/// One message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    Pong,
    /// The client leaves on purpose.
    Close,
    Restore {
        key: Arc<str>,
        positions: Vec<SubscribeInfo>,
    },
    Auth {
        req_id: Option<i64>,
        credentials: Credentials,
    },
    Publish(Vec<PublishInfo>),
    Subscribe {
        req_id: Option<i64>,
        channels: Vec<SubscribeInfo>,
    },
    Unsubscribe {
        req_id: Option<i64>,
        channels: Vec<Arc<str>>,
    },
    History(HistoryQuery),
}

/// What a client shows to prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// Goes to the hub's auth provider as it is.
    Opaque(Payload),
    /// A JWT of AppSockets or of the tenant.
    Token(Arc<str>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishInfo {
    pub req_id: Option<i64>,
    pub channel: Arc<str>,
    pub event: Arc<str>,
    pub payload: Payload,
    pub store: bool,
    pub push: bool,
    pub retain: bool,
    /// The idempotency key.
    pub key: Option<Arc<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscribeInfo {
    pub channel: Arc<str>,
    pub recover: Option<Recover>,
}

/// The last that a client knows of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Recover {
    Serial(Serial),
    /// A text that no node has sent: the request is refused with `bad_serial`, but only for this channel.
    BadSerial,
    /// Something, but nobody knows what any more: always answered as not recovered.
    Unknown,
    /// Unix milliseconds. Messages stamped with this very millisecond are sent again, because one of them may be missing.
    Timestamp(u64),
}

/// A page of stored messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// 0 if the client gave none, which is refused.
    pub req_id: i64,
    pub channel: Arc<str>,
    pub bound: HistoryBound,
    pub limit: Option<u32>,
}

/// Where a page begins. Bounds are exclusive; `Before` pages run from new to old, `After` pages from old to new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HistoryBound {
    Newest,
    BeforeTimestamp(u64),
    AfterTimestamp(u64),
    BeforeSerial(Serial),
    AfterSerial(Serial),
    /// More than one bound, or one that can't be read.
    Bad,
}
