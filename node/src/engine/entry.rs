//! What a worker keeps for each session.

use std::collections::{BTreeSet, VecDeque};

use appsockets_core::{
    channel::{ChannelKey, ChannelName},
    fanout::Subscriber,
    serial::Serial,
    session::{
        Session,
        event::Published,
        record,
        request::{HistoryQuery, SubscribeInfo},
    },
};

use super::{Encoding, RestoreKey, Seat, timers::NEVER};
use crate::edge::ConnId;

/// A session, and its connection if it has one.
pub struct Entry {
    pub session: Session,
    pub conn: Option<ConnId>,
    pub encoding: Encoding,
    pub key: RestoreKey,
    pub seat: Option<Seat>,
    /// The timer that counts; see [`super::timers::Timers`].
    pub scheduled: u64,
    /// Outcomes of publishes, told together at the end of the turn.
    pub acks: Vec<Published>,
    /// The cluster keeps something of it.
    pub kept: bool,
    /// What the cluster keeps is no longer true.
    pub changed: bool,
    /// It goes on at another node.
    pub given: bool,
    /// What most sessions never have.
    pub rare: Option<Box<Rare>>,
}

#[derive(Default)]
pub struct Rare {
    /// Channels of which the connection could not take something.
    pub lagging: BTreeSet<ChannelKey>,
    /// A restore that is under way: the last serials that the client knows.
    pub restoring: Option<Vec<SubscribeInfo>>,
    /// Until when a session without a connection is kept, and what had been sent of each channel.
    pub parked: Option<(u64, Vec<(ChannelName, Serial)>)>,
    /// Positions that were too long to be told to an SSE client, by the number that it was told instead.
    pub held: VecDeque<(u64, Vec<(ChannelName, Serial)>)>,
    pub held_number: u64,
    /// Pages of history that were asked for and are not read yet, and whether one is being read.
    pub pages: VecDeque<HistoryQuery>,
    pub reading: bool,
}

impl Entry {
    pub fn new(session: Session, conn: ConnId, encoding: Encoding, key: RestoreKey, seat: Seat) -> Self {
        Entry {
            session,
            conn: Some(conn),
            encoding,
            key,
            seat: Some(seat),
            scheduled: NEVER,
            acks: Vec::new(),
            kept: false,
            changed: false,
            given: false,
            rare: None,
        }
    }

    pub fn subscriber(&self, slot: usize) -> Subscriber {
        Subscriber { slot: slot as u32, generation: self.key.subscriber.generation }
    }

    pub fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Where the cluster keeps the session, if it is this node that says what becomes of it.
    pub fn place(&self) -> Option<ChannelKey> {
        (self.kept && !self.given).then(|| record::place(&self.session.hub().id, &self.key.to_string()))
    }

    pub fn parked_until_ms(&self) -> Option<u64> {
        self.rare.as_ref()?.parked.as_ref().map(|(until_ms, _)| *until_ms)
    }
}
