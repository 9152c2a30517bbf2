//! Subscribing at the owner: what a new subscriber gets before the first live message.

use std::sync::Arc;

use crate::{
    code::ErrorCode,
    message::Message,
    serial::Serial,
    session::{event::Member, request::Recover},
    shard::{
        channel::{Channel, Listening},
        request::{Effect, Listener, Reply, Start, Subscribe, Token},
    },
    time::Now,
};

/// A subscriber that is answered at the end of the turn.
#[derive(Debug)]
pub struct Waiting {
    from: Listener,
    token: Token,
    recover: Option<Recover>,
}

impl Channel {
    pub fn subscribe(&mut self, from: Listener, subscribe: Subscribe) {
        let Subscribe { token, member, attachment, recover } = subscribe;
        match self.listeners.iter_mut().find(|listening| listening.listener == from) {
            Some(listening) => listening.subscribers += 1,
            None => self.listeners.push(Listening { listener: from, subscribers: 1 }),
        }
        self.enter(member, attachment);
        self.waiting.push(Waiting { from, token, recover });
    }

    pub fn enter(&mut self, member: Member, attachment: u32) {
        if self.rules.presence {
            self.members.get_or_insert_default().enter(member, attachment);
        }
    }

    pub fn unsubscribe(&mut self, from: Listener, session_id: &str, attachment: u32) {
        if let Some(members) = &mut self.members {
            members.leave(session_id, attachment);
        }
        self.listeners.retain_mut(|listening| {
            if listening.listener == from {
                listening.subscribers = listening.subscribers.saturating_sub(1);
            }
            listening.subscribers > 0
        });
    }

    /// The channel goes, with everybody who waits for it.
    pub(super) fn abandon(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        self.abandon_pipeline(code, effects);
        for Waiting { from, token, .. } in std::mem::take(&mut self.waiting) {
            let reply = Reply::Subscribed(Err(code));
            effects.push(Effect::Answer { to: from, key: self.key.clone(), token, reply });
        }
    }

    /// The messages of the turn are delivered by now, so a new subscriber begins after them.
    pub(super) fn answer_subscribers(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return;
        }
        self.retained.take_if(|retained| retained.until_ms <= now.mono_ms);
        let members = self.members.as_ref().map(|members| members.list());
        let occupancy = self.first_occupancy();
        for Waiting { from, token, recover } in waiting {
            let start = Box::new(self.start(recover, members.clone(), occupancy));
            let reply = Reply::Subscribed(Ok(start));
            effects.push(Effect::Answer { to: from, key: self.key.clone(), token, reply });
        }
    }

    fn start(&self, recover: Option<Recover>, members: Option<Arc<[Member]>>, occupancy: Option<u64>) -> Start {
        let current = self.current();
        let missed = recover.and_then(|recover| self.missed(recover, current));
        let recovered = recover.map(|_| missed.is_some());
        let missed = missed.unwrap_or_default();
        // The numbers of what was missed end at the current one, without a hole.
        let position = Serial { sequence: current.sequence - missed.len() as u64, ..current };
        let known = match recover {
            Some(Recover::Serial(serial)) if recovered == Some(false) && self.shares(serial) => Some(serial),
            _ => None,
        };
        let retained = self.retained.as_ref().map(|retained| retained.message.clone());
        Start {
            position,
            recovered,
            known,
            missed,
            current,
            // One that lacks nothing has the retained message, or gets it among what it missed.
            retained: retained.filter(|_| recovered != Some(true)),
            members,
            occupancy,
        }
    }

    fn missed(&self, recover: Recover, current: Serial) -> Option<Vec<Arc<Message>>> {
        match recover {
            Recover::Serial(serial) => self.history.after(serial, current),
            Recover::Timestamp(unix_ms) => self.history.since(unix_ms),
            Recover::BadSerial | Recover::Unknown => None,
        }
    }

    /// Whether a client's position lies on this channel's line.
    fn shares(&self, serial: Serial) -> bool {
        serial.epoch == self.epoch && serial.sequence <= self.sequence
    }
}
