//! Stepping a session, and carrying out what it wants.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    code::{CloseCode, ErrorCode},
    fanout::Subscriber,
    identity::Identity,
    session::{Context, Session, effect::Effect, event::Event, request::Credentials},
    shard::request::{Ask, Listener, Request},
    time::Now,
};

use super::{Engine, Mail, entry::Entry};
use crate::{edge::Outboxes, random};

impl Engine {
    pub(super) fn live(&self, subscriber: Subscriber) -> Option<&Entry> {
        self.entries
            .get(subscriber.slot as usize)
            .filter(|entry| entry.key.subscriber.generation == subscriber.generation)
    }

    pub(super) fn live_mut(&mut self, subscriber: Subscriber) -> Option<&mut Entry> {
        self.entries
            .get_mut(subscriber.slot as usize)
            .filter(|entry| entry.key.subscriber.generation == subscriber.generation)
    }

    /// Lets a session take one input, and does what follows from it. Nothing, if the session is gone.
    pub(super) fn step(
        &mut self,
        subscriber: Subscriber,
        now: Now,
        out: &mut Outboxes,
        input: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let mut effects = std::mem::take(&mut self.session_effects);
        let shared = self.shared.clone();
        let Some(entry) = self.live_mut(subscriber) else { return };
        // A session without a connection has no seat, and sends nothing that would be metered.
        let unmetered = Default::default();
        let meter = entry.seat.as_ref().map_or(&unmetered, |seat| seat.meter());
        input(&mut entry.session, &mut Context { now, config: &shared.session, meter, effects: &mut effects });
        self.carry_out_all(subscriber, effects, now, out);
    }

    pub(super) fn carry_out_all(
        &mut self,
        subscriber: Subscriber,
        mut effects: Vec<Effect>,
        now: Now,
        out: &mut Outboxes,
    ) {
        for effect in effects.drain(..) {
            self.carry_out(subscriber, effect, now, out);
        }
        self.session_effects = effects;
    }

    fn carry_out(&mut self, subscriber: Subscriber, effect: Effect, now: Now, out: &mut Outboxes) {
        match effect {
            Effect::Tell(event) => self.tell(subscriber, &event, out),
            Effect::Ack(published) => {
                self.counts.outcome(&published.outcome);
                let Some(entry) = self.live_mut(subscriber) else { return };
                entry.acks.push(published);
                if entry.acks.len() == 1 {
                    self.acked.push(subscriber);
                }
            }
            Effect::Refuse(failure) => {
                self.counts.refuse(failure.code);
                self.tell(subscriber, &Event::Error(failure), out);
            }
            Effect::Ask { key, ask } => self.ask(self.listener, key, ask, now),
            Effect::AskFor { listener, key, ask } => self.ask(listener, key, ask, now),
            Effect::Attach { key, position } => {
                // One whose connection broke meanwhile subscribes anew when it comes back.
                if self.live(subscriber).is_some_and(|entry| entry.conn.is_some()) {
                    self.fanout.attach(&key, subscriber, position);
                }
            }
            Effect::Detach { key } => drop(self.fanout.detach(&key, subscriber)),
            Effect::Changed => self.mark_changed(subscriber),
            Effect::Authenticate(credentials) => self.authenticate(subscriber, credentials),
            Effect::Restore { restore_key, positions } => {
                self.begin_restore(subscriber, &restore_key, None, positions, now, out);
            }
            Effect::ReadHistory(query) => self.read_history(subscriber, query, out),
            Effect::End(code) => self.end(subscriber, code, now, out),
        }
    }

    /// To the channel's shard, on whichever worker it is.
    pub(super) fn ask(&mut self, from: Listener, key: ChannelKey, ask: Ask, now: Now) {
        let worker = self.shared.worker_of(&key);
        let request = Request { from, key, ask };
        if worker == self.listener.worker {
            self.ask_shard(request, now);
        } else {
            self.posting.ask(worker, request);
        }
    }

    pub(super) fn ask_shard(&mut self, request: Request, now: Now) {
        self.shard.handle(now, request, &mut self.shard_effects);
    }

    pub(super) fn tell(&mut self, subscriber: Subscriber, event: &Event, out: &mut Outboxes) {
        if let Some((conn, encoding)) = self.live(subscriber).and_then(|entry| Some((entry.conn?, entry.encoding))) {
            out.reply(conn, encoding.event(event));
        }
    }

    /// The session ends by the node's will.
    pub(super) fn end(&mut self, subscriber: Subscriber, code: CloseCode, now: Now, out: &mut Outboxes) {
        self.tell(subscriber, &Event::Close(code), out);
        if let Some(conn) = self.live_mut(subscriber).and_then(|entry| entry.conn.take()) {
            self.bind(conn, None);
            out.close(conn, code.code(), code.name());
        }
        // One that fell silent may only have lost its connection, and come back; one that was told to go, elsewhere.
        match code {
            CloseCode::HeartbeatMissed | CloseCode::Drained => self.park(subscriber, now, out),
            _ => self.remove(subscriber, now, out),
        }
    }

    /// The session ends by the client's will.
    pub(super) fn left(&mut self, subscriber: Subscriber, now: Now, out: &mut Outboxes) {
        if let Some(conn) = self.live_mut(subscriber).and_then(|entry| entry.conn.take()) {
            self.bind(conn, None);
            out.close(conn, 1000, "");
        }
        self.remove(subscriber, now, out);
    }

    /// The session is over: it leaves its channels, and nothing of it is kept.
    pub(super) fn remove(&mut self, subscriber: Subscriber, now: Now, out: &mut Outboxes) {
        self.step(subscriber, now, out, |session, cx| session.leave_all(cx));
        if let Some(entry) = self.live(subscriber) {
            let place = entry.place();
            self.parked -= usize::from(entry.parked_until_ms().is_some());
            self.entries.remove(subscriber.slot as usize);
            place.into_iter().for_each(|place| self.forget(place, now));
        }
    }

    pub(super) fn drain(&mut self, spread_ms: u32, now: Now, out: &mut Outboxes) {
        self.draining = true;
        for subscriber in self.all_sessions(|entry| entry.conn.is_some()) {
            self.send_elsewhere(subscriber, spread_ms, now, out);
        }
    }

    /// Of so many sessions among all of the node's, the part that this worker has, chosen by chance.
    pub(super) fn shed(&mut self, sessions: u64, of: u64, spread_ms: u32, now: Now, out: &mut Outboxes) {
        let mut stay = self.all_sessions(|entry| entry.conn.is_some() && !entry.session.is_draining());
        let share = u128::from(sessions) * stay.len() as u128 / u128::from(of.max(1));
        for _ in 0..share.min(stay.len() as u128) {
            let chosen = (random::number() % stay.len() as u64) as usize;
            self.send_elsewhere(stay.swap_remove(chosen), spread_ms, now, out);
        }
    }

    fn send_elsewhere(&mut self, subscriber: Subscriber, spread_ms: u32, now: Now, out: &mut Outboxes) {
        let delay_ms = (random::number() % (u64::from(spread_ms) + 1)) as u32;
        self.step(subscriber, now, out, |session, cx| session.drain(delay_ms, cx));
        self.schedule(subscriber, now);
    }

    pub(super) fn end_all(&mut self, now: Now, out: &mut Outboxes) {
        for subscriber in self.all_sessions(|_| true) {
            self.end(subscriber, CloseCode::Drained, now, out);
        }
    }

    pub(super) fn authenticated(
        &mut self,
        subscriber: Subscriber,
        outcome: Result<(Arc<Identity>, Arc<str>), ErrorCode>,
        now: Now,
        out: &mut Outboxes,
    ) {
        self.step(subscriber, now, out, |session, cx| session.authenticated(outcome, cx));
        self.schedule(subscriber, now);
    }

    fn authenticate(&self, subscriber: Subscriber, credentials: Credentials) {
        let Some(entry) = self.live(subscriber) else { return };
        let (hub, id) = (entry.session.hub().clone(), entry.session.id().clone());
        let (shared, worker) = (self.shared.clone(), self.listener.worker);
        self.shared.runtime.spawn(async move {
            let outcome = shared.authenticate(&hub, &id, &credentials).await;
            shared.post(worker, Mail::Authenticated { subscriber, outcome }).await;
        });
    }

    /// Sees to it that the session is looked at when it is due.
    pub(super) fn schedule(&mut self, subscriber: Subscriber, now: Now) {
        let config = self.shared.session;
        let (entries, timers) = (&mut self.entries, &mut self.timers);
        let Some(entry) = entries.get_mut(subscriber.slot as usize) else { return };
        if entry.key.subscriber.generation == subscriber.generation {
            let due_ms = entry.parked_until_ms().unwrap_or_else(|| entry.session.due_ms(now, &config));
            timers.set(subscriber, &mut entry.scheduled, due_ms);
        }
    }

    /// Does what is due by now, of sessions and channels.
    pub(super) fn run_due(&mut self, now: Now, out: &mut Outboxes) {
        self.shard.tick(now, &mut self.shard_effects);
        while let Some((bucket, subscribers)) = self.timers.pop_due(now.mono_ms) {
            for subscriber in subscribers {
                self.run_due_session(subscriber, bucket, now, out);
            }
        }
    }

    fn run_due_session(&mut self, subscriber: Subscriber, bucket: u64, now: Now, out: &mut Outboxes) {
        let config = self.shared.session;
        let Some(entry) = self.live_mut(subscriber).filter(|entry| entry.scheduled == bucket) else { return };
        entry.scheduled = super::timers::NEVER;
        match entry.parked_until_ms() {
            Some(until_ms) if until_ms <= now.mono_ms => return self.remove(subscriber, now, out),
            None if entry.session.due_ms(now, &config) <= now.mono_ms => {
                self.step(subscriber, now, out, |session, cx| session.tick(cx));
            }
            _ => {}
        }
        self.schedule(subscriber, now);
    }
}
