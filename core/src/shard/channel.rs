//! One channel at its owner: its state, and what it does at the end of a turn.

use std::sync::Arc;

use crate::{
    channel::ChannelKey,
    message::Message,
    serial::{Epoch, Serial},
    session::event::PresenceChange,
    settings::hub::Rules,
    shard::{
        Config,
        delivery::Delivery,
        history::{History, HistoryBounds},
        keys::Keys,
        presence::Members,
        publish::Pipeline,
        request::{Effect, Listener, Notice},
        subscribe::Waiting,
    },
    time::Now,
};

/// A channel that this node owns.
#[derive(Debug)]
pub struct Channel {
    pub(super) key: ChannelKey,
    pub(super) rules: Arc<Rules>,
    pub(super) epoch: Epoch,
    /// Of the last message; 0 before the first.
    pub(super) sequence: u64,
    pub(super) ts_ms: u64,
    pub(super) bounds: Bounds,
    pub(super) history: History,
    pub(super) retained: Option<Retained>,
    pub(super) keys: Option<Box<Keys>>,
    pub(super) pipeline: Option<Box<Pipeline>>,
    pub(super) listeners: Vec<Listening>,
    pub(super) members: Option<Box<Members>>,
    /// What this turn brought.
    pub(super) accepted: Vec<Arc<Message>>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) touched: bool,
    pub(super) used_ms: u64,
    pub(super) wake_ms: Option<u64>,
    told: Told,
}

/// A worker that hears the channel, and for how many sessions.
#[derive(Clone, Copy, Debug)]
pub struct Listening {
    pub listener: Listener,
    pub subscribers: u64,
}

#[derive(Debug)]
pub struct Retained {
    pub message: Arc<Message>,
    pub until_ms: u64,
}

#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub history: HistoryBounds,
    pub waiting_max: usize,
    pub retain_ms: u64,
    occupancy_ms: u64,
}

/// The occupancy that listeners know, and since when.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    occupancy: u64,
    at_ms: Option<u64>,
    /// A subscriber began with another count than the others know.
    uneven: bool,
}

impl Channel {
    pub fn new(now: Now, key: ChannelKey, epoch: Epoch, rules: Arc<Rules>, config: &Config) -> Self {
        Channel {
            key,
            rules,
            epoch,
            sequence: 0,
            ts_ms: now.unix_ms,
            bounds: Bounds {
                history: config.history,
                waiting_max: config.waiting_max,
                retain_ms: config.retain_ms,
                occupancy_ms: config.occupancy_ms,
            },
            history: History::new(now.unix_ms),
            retained: None,
            keys: None,
            pipeline: None,
            listeners: Vec::new(),
            members: None,
            accepted: Vec::new(),
            waiting: Vec::new(),
            touched: false,
            used_ms: now.mono_ms,
            wake_ms: None,
            told: Told::default(),
        }
    }

    pub fn current(&self) -> Serial {
        Serial { epoch: self.epoch, sequence: self.sequence }
    }

    /// What the new rules no longer allow is dropped. Who is present when presence begins, the sessions tell.
    pub fn set_rules(&mut self, now: Now, rules: &Arc<Rules>) {
        if !rules.retain {
            self.retained = None;
        }
        if let Some(members) = self.members.as_mut().filter(|_| !rules.presence) {
            members.leave_all();
        }
        if rules.occupancy && !self.rules.occupancy {
            self.told = Told::default();
        }
        self.rules = rules.clone();
        self.used_ms = self.used_ms.max(now.mono_ms);
    }

    /// Sends what the turn brought, in the order in which a listener must hear it: messages, then who left and came and
    /// how many there are, then the answers to new subscribers, who so begin after all of it. Returns how many messages
    /// were accepted.
    pub fn end_turn(&mut self, now: Now, tickets: &mut u64, effects: &mut Vec<Effect>) -> u64 {
        self.advance_pipeline(now, tickets, effects);
        let accepted = self.accepted.len() as u64;
        self.deliver(effects);
        self.tell_presence(effects);
        self.tell_occupancy(now, effects);
        self.answer_subscribers(now, effects);
        accepted
    }

    /// When the channel wants to be looked at without anything happening.
    pub fn next_wake_ms(&mut self, now: Now, config: &Config) -> Option<u64> {
        if self.occupancy_is_due() {
            return Some(self.occupancy_due_ms(now));
        }
        self.unused().then(|| self.close_at_ms(now, config))
    }

    pub fn is_idle(&mut self, now: Now, config: &Config) -> bool {
        self.unused() && self.close_at_ms(now, config) <= now.mono_ms
    }

    /// The count with which new subscribers begin, where the rules have one.
    pub(super) fn first_occupancy(&mut self) -> Option<u64> {
        let count = self.occupancy();
        self.told.uneven |= count != self.told.occupancy;
        self.rules.occupancy.then_some(count)
    }

    pub fn occupancy(&self) -> u64 {
        self.listeners.iter().map(|listening| listening.subscribers).sum()
    }

    fn unused(&self) -> bool {
        self.listeners.is_empty() && self.pipeline.is_none() && self.waiting.is_empty()
    }

    /// Not before what clients may still ask for is gone: a retained message, and keys that must be known again.
    fn close_at_ms(&mut self, now: Now, config: &Config) -> u64 {
        let retained_ms = self.retained.as_ref().map_or(0, |retained| retained.until_ms);
        let keys_ms = self.keys.as_mut().and_then(|keys| keys.expire(now.mono_ms)).unwrap_or(0);
        (self.used_ms + config.close_ms).max(retained_ms).max(keys_ms)
    }

    fn deliver(&mut self, effects: &mut Vec<Effect>) {
        let messages = std::mem::take(&mut self.accepted);
        let Some(first) = messages.first().map(|message| message.serial.sequence) else { return };
        if self.listeners.is_empty() {
            return;
        }
        let delivery = Arc::new(Delivery { key: self.key.clone(), epoch: self.epoch, first, messages });
        for listening in &self.listeners {
            effects.push(Effect::Deliver { to: listening.listener, delivery: delivery.clone() });
        }
    }

    fn tell_presence(&mut self, effects: &mut Vec<Effect>) {
        let Some(members) = &mut self.members else { return };
        let changes = members.changes();
        if !self.rules.presence {
            self.members = None;
        }
        for (change, members) in [(PresenceChange::Leave, changes.left), (PresenceChange::Join, changes.joined)] {
            if !members.is_empty() {
                self.notify(Notice::Presence { change, members: members.into() }, effects);
            }
        }
    }

    fn tell_occupancy(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.occupancy_is_due() && self.occupancy_due_ms(now) <= now.mono_ms {
            let count = self.occupancy();
            self.told = Told { occupancy: count, at_ms: Some(now.mono_ms), uneven: false };
            self.notify(Notice::Occupancy(count), effects);
        }
    }

    fn occupancy_is_due(&self) -> bool {
        let told = self.told.occupancy == self.occupancy() && !self.told.uneven;
        self.rules.occupancy && !self.listeners.is_empty() && !told
    }

    fn occupancy_due_ms(&self, now: Now) -> u64 {
        self.told.at_ms.map_or(now.mono_ms, |at_ms| at_ms + self.bounds.occupancy_ms)
    }

    fn notify(&self, notice: Notice, effects: &mut Vec<Effect>) {
        for listening in &self.listeners {
            effects.push(Effect::Notify { to: listening.listener, key: self.key.clone(), notice: notice.clone() });
        }
    }
}
