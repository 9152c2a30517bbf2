//! What a session is told. A shell encodes these in the session's wire format.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    code::{CloseCode, ErrorCode},
    identity::Identity,
    message::Message,
    serial::Serial,
};

/// One message to a client. Messages of channels do not pass through here: [`crate::fanout::Fanout`] hands them to the
/// shell as batches, so that they are encoded once for all.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    SessionInfo(SessionInfo),
    /// The key with which the session can be restored after its connection broke.
    RestoreKey(Arc<str>),
    Restored {
        session_id: Arc<str>,
        identity: Option<Arc<Identity>>,
        channels: Vec<Arc<str>>,
    },
    Ping,
    Auth {
        req_id: Option<i64>,
        outcome: Result<Authenticated, ErrorCode>,
    },
    Ack(Vec<Published>),
    Subscribed {
        req_id: i64,
        channels: Vec<Arc<str>>,
        errors: Vec<Failure>,
    },
    /// Without a request id: the node ended the subscriptions.
    Unsubscribed {
        req_id: Option<i64>,
        channels: Vec<Arc<str>>,
        error: Option<ErrorCode>,
    },
    History {
        req_id: i64,
        channel: Arc<str>,
        page: Result<HistoryPage, ErrorCode>,
    },
    Position(Position),
    Message {
        channel: Arc<str>,
        message: Arc<Message>,
        retained: bool,
    },
    Presence {
        channel: Arc<str>,
        change: PresenceChange,
        members: Arc<[Member]>,
    },
    Occupancy {
        channel: Arc<str>,
        count: u64,
    },
    Error(Failure),
    Reconnect {
        delay_ms: u32,
    },
    Close(CloseCode),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    pub hub: Arc<str>,
    pub session_id: Arc<str>,
    pub allow_anonymous: bool,
    pub user_channel: bool,
    pub default_public: bool,
    pub authenticated: bool,
    pub ping_interval_ms: u32,
    pub message_bytes_max: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authenticated {
    pub identity: Arc<Identity>,
    /// A token for the HTTP interface; empty where the node makes none.
    pub token: Arc<str>,
}

/// The outcome of one publish whose sender gave a request id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub req_id: i64,
    pub channel: Arc<str>,
    pub outcome: Result<Serial, ErrorCode>,
}

/// A refusal or a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub code: ErrorCode,
    pub channel: Option<Arc<str>>,
    pub req_id: Option<i64>,
}

/// Where the client stands in a channel: what follows continues after this serial.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    pub channel: Arc<str>,
    pub serial: Serial,
    /// None: a fresh subscription. True: nothing is missing between what the client had and this serial.
    pub recovered: Option<bool>,
    /// When something is missing: the newest serial up to which the client is known to have everything.
    pub known: Option<Serial>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// In the order of the query.
    pub messages: Vec<Message>,
    /// Whether a further page holds something.
    pub more: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum PresenceChange {
    /// The whole list, on subscribing; replaces what the client had.
    List,
    Join,
    Leave,
}

/// A session that is present in a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    pub session_id: Arc<str>,
    /// None for an anonymous session.
    pub identity: Option<Arc<Identity>>,
    /// Unix milliseconds.
    pub since_ms: u64,
}
