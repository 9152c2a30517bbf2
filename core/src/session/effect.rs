//! What a session wants done.

use std::sync::Arc;

use crate::{
    channel::ChannelKey,
    code::CloseCode,
    serial::Serial,
    session::{
        event::{Event, Failure, Published},
        request::{Credentials, HistoryQuery, SubscribeInfo},
    },
    shard::request::{Ask, Listener},
};

#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    Tell(Event),
    /// To be told, together with the other outcomes of the turn.
    Ack(Published),
    /// To be told as an error: a publish that asked for no outcome is refused.
    Refuse(Failure),
    /// To the channel's owner.
    Ask {
        key: ChannelKey,
        ask: Ask,
    },
    /// To the channel's owner, in the name of the worker that held the session before.
    AskFor {
        listener: Listener,
        key: ChannelKey,
        ask: Ask,
    },
    /// Live messages from here on.
    Attach {
        key: ChannelKey,
        position: Serial,
    },
    Detach {
        key: ChannelKey,
    },
    /// What others keep of the session is no longer true: see [`super::Session::record`].
    Changed,
    /// Answered by [`super::Session::authenticated`].
    Authenticate(Credentials),
    /// Answered by [`super::Session::restored`], [`super::Session::restored_elsewhere`] or
    /// [`super::Session::not_restored`].
    Restore {
        restore_key: Arc<str>,
        positions: Vec<SubscribeInfo>,
    },
    /// Told to the client by the shell.
    ReadHistory(HistoryQuery),
    End(CloseCode),
}
