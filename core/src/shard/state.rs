//! What a channel is, apart from who hears it: all that moves with it from owner to owner and is kept in copies.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    message::Message,
    serial::{Epoch, Serial},
    shard::{
        history::{History, HistoryBounds},
        keys::{Keys, Repeat},
        peer::Entry,
        presence::Members,
        senders::Senders,
        session::KeptSession,
    },
    time::Now,
};

/// Ancestors of an epoch that are remembered.
pub const LINEAGE_MAX: usize = 32;

/// Where an epoch ended and another went on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    pub epoch: Epoch,
    /// The last number of it that its child builds on.
    pub sequence: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Retained {
    pub message: Arc<Message>,
    pub until_ms: u64,
}

/// A channel's state. Deadlines in it are those of the node that holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct State {
    pub epoch: Epoch,
    /// Oldest first.
    pub lineage: Vec<Fork>,
    /// Of the last message; 0 before the first.
    pub sequence: u64,
    pub ts_ms: u64,
    /// On how many other nodes each message is to be before it counts.
    pub redundancy: u8,
    pub history: History,
    pub retained: Option<Retained>,
    pub keys: Option<Box<Keys>>,
    pub senders: Senders,
    pub members: Option<Box<Members>>,
    /// How often listeners were told of a change of presence. Comparable only within one epoch.
    pub presence_version: u64,
    /// Only of a place for sessions.
    pub session: Option<Box<KeptSession>>,
    /// Nothing is known of what was sent in views before this one: a repeat of it may have been accepted and lost.
    pub known_since: u64,
}

/// What an owner gives its state as it applies an entry.
#[derive(Clone, Copy, Debug)]
pub struct Keeping {
    pub history: HistoryBounds,
    pub retain_ms: u64,
    /// Every listening node has what is up to here.
    pub seen: u64,
}

impl State {
    /// A channel that begins, of whose past nothing is known.
    pub fn new(now: Now, epoch: Epoch, redundancy: u8, known_since: u64) -> State {
        State {
            epoch,
            lineage: Vec::new(),
            sequence: 0,
            ts_ms: now.unix_ms,
            redundancy,
            history: History::new(now.unix_ms),
            retained: None,
            keys: None,
            senders: Senders::default(),
            members: None,
            presence_version: 0,
            session: None,
            known_since,
        }
    }

    pub fn current(&self) -> Serial {
        Serial { epoch: self.epoch, sequence: self.sequence }
    }

    /// Goes on in an epoch of its own, because another may have gone on in this one.
    pub fn fork(&mut self, epoch: Epoch) {
        self.lineage.push(Fork { epoch: self.epoch, sequence: self.sequence });
        if self.lineage.len() > LINEAGE_MAX {
            self.lineage.remove(0);
        }
        self.epoch = epoch;
    }

    /// The message is the channel's next. Returns those who published the same again and wait for its outcome.
    pub fn apply(&mut self, now: Now, entry: Entry, keeping: Keeping) -> Vec<Repeat> {
        let Entry { message, retain, key, session, sender, counter } = entry;
        debug_assert_eq!(message.serial.sequence, self.sequence + 1);
        self.sequence = message.serial.sequence;
        self.ts_ms = self.ts_ms.max(message.ts_ms);
        if retain {
            self.retained = Some(Retained { message: message.clone(), until_ms: now.mono_ms + keeping.retain_ms });
        }
        self.senders.done(sender, counter, Ok(message.serial));
        if let Some(op) = session {
            self.session.get_or_insert_default().apply(op, sender, counter);
            return Vec::new();
        }
        let waiting = key.map(|key| self.keys.get_or_insert_default().done(key, message.serial, now.mono_ms));
        self.history.push(message, keeping.history, keeping.seen);
        waiting.unwrap_or_default()
    }

    /// The newest place up to which one at this position is on the channel's line; `None` if it is on no epoch of it.
    pub fn shared(&self, position: Serial) -> Option<Serial> {
        if position.epoch == self.epoch {
            return (position.sequence <= self.sequence).then_some(position);
        }
        let fork = self.lineage.iter().rev().find(|fork| fork.epoch == position.epoch)?;
        Some(Serial { sequence: position.sequence.min(fork.sequence), ..position })
    }

    /// How many epochs of the line come after this one; 0 if it is none of them.
    pub fn forks_since(&self, epoch: Epoch) -> u8 {
        let mut forks = self.lineage.iter().rev().zip(1..);
        forks.find(|(fork, _)| fork.epoch == epoch).map_or(0, |(_, count)| count)
    }

    /// What one at this position lacks; `None` if something of it is gone or the position is not on the line.
    pub fn after(&self, position: Serial) -> Option<Vec<Arc<Message>>> {
        let on_the_line = self.shared(position)? == position;
        on_the_line.then(|| self.history.last(self.sequence - position.sequence)).flatten()
    }

    /// Moves all deadlines from one clock to another.
    pub fn shift(&mut self, from_ms: u64, to_ms: u64) {
        let shift = |at_ms: &mut u64| *at_ms = at_ms.saturating_sub(from_ms) + to_ms;
        if let Some(retained) = &mut self.retained {
            shift(&mut retained.until_ms);
        }
        if let Some(keys) = &mut self.keys {
            keys.deadlines().for_each(shift);
        }
        if let Some(members) = &mut self.members {
            members.deadlines().for_each(shift);
        }
        if let Some(leaves_ms) = self.session.as_mut().and_then(|session| session.leaves_ms.as_mut()) {
            shift(leaves_ms);
        }
    }

    /// The same for another node, whose clock is another.
    pub fn for_another(&self, now: Now) -> Box<State> {
        let mut state = Box::new(self.clone());
        state.forget_pending();
        state.shift(now.mono_ms, 0);
        state
    }

    /// What is not decided is as if it had never come.
    pub fn forget_pending(&mut self) {
        if let Some(keys) = &mut self.keys {
            keys.forget_pending();
        }
        self.senders.forget_pending();
    }

    /// What another node has sent, by this node's clock.
    pub fn taken_in(mut self: Box<State>, now: Now) -> Box<State> {
        self.shift(0, now.mono_ms);
        self
    }
}
