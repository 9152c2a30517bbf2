//! From the shards to the sessions of this worker.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    fanout::{Outcome, Subscriber},
    serial::Serial,
    session::event::{Event, Failure, Position},
    shard::{
        delivery::Delivery,
        request::{Effect, Notice, Reply, Token},
    },
    time::Now,
};
use bytes::Bytes;

use super::{Encoding, Engine, Mail};
use crate::{
    edge::{Delivered, Outboxes},
    store::Batch,
};

/// How often answers that lead to further requests are followed within one turn.
const ROUNDS_MAX: usize = 8;

impl Engine {
    /// Lets the shard send what the turn brought, until nothing more follows from it. False if something is left.
    pub(super) fn settle(&mut self, now: Now, out: &mut Outboxes) -> bool {
        for _ in 0..ROUNDS_MAX {
            self.shard.end_turn(now, &mut self.shard_effects);
            self.keep_changed(now);
            if self.shard_effects.is_empty() && self.changed.is_empty() {
                return true;
            }
            let mut effects = std::mem::take(&mut self.shard_effects);
            for effect in effects.drain(..) {
                self.carry_out_shard(effect, now, out);
            }
            if self.shard_effects.is_empty() {
                self.shard_effects = effects;
            }
        }
        false
    }

    pub(super) fn carry_out_shard(&mut self, effect: Effect, now: Now, out: &mut Outboxes) {
        let to = match &effect {
            Effect::Deliver { to, .. }
            | Effect::Notify { to, .. }
            | Effect::Reposition { to, .. }
            | Effect::Answer { to, .. } => *to,
            Effect::Store { .. }
            | Effect::LetGo { .. }
            | Effect::Confirm { .. }
            | Effect::Send { .. }
            | Effect::Resumed { .. }
            | Effect::Served { .. } => self.listener,
        };
        if to != self.listener {
            return self.posting.effect(to.worker, effect);
        }
        match effect {
            Effect::Deliver { delivery, .. } => self.deliver(&delivery, now, out),
            Effect::Notify { key, notice, .. } => self.notify(&key, notice, out),
            Effect::Reposition { key, position, recovered, known, .. } => {
                self.reposition(&key, position, recovered, known, out);
            }
            Effect::Answer { key, token, reply, .. } => self.answer(&key, token, reply, now, out),
            Effect::Send { to, message } => self.peers.send(to, &message),
            Effect::Resumed { view } => {
                if let Some(cluster) = &self.shared.cluster {
                    cluster.resumed(view);
                }
            }
            Effect::Served { view } => {
                if let Some(cluster) = &self.shared.cluster {
                    cluster.served(view);
                }
            }
            Effect::LetGo { place } => {
                if let Some(place) = self.pass_to_holder(place, |place| Mail::LetGo { place }) {
                    self.let_go(&place, now, out);
                }
            }
            Effect::Confirm { place } => {
                if let Some(place) = self.pass_to_holder(place, |place| Mail::Confirm { place }) {
                    self.confirm(place, now);
                }
            }
            Effect::Store { key, ticket, messages } => self.store(Batch { key, messages }, ticket),
        }
    }

    fn deliver(&mut self, delivery: &Delivery, now: Now, out: &mut Outboxes) {
        let Engine { fanout, entries, moved, counts, .. } = self;
        let mut encoded: [Option<Bytes>; Encoding::COUNT] = Default::default();
        let outcome = fanout.deliver(delivery, |subscriber| {
            let Some(entry) = entries.get_mut(subscriber.slot as usize) else { return true };
            let Some(conn) = entry.conn else { return true };
            let encoding = entry.encoding;
            let bytes = encoded[encoding as usize].get_or_insert_with(|| encoding.delivery(delivery));
            match out.deliver(conn, bytes) {
                Delivered::Queued => {
                    counts.deliveries += delivery.messages.len() as u64;
                    counts.delivered_bytes += bytes.len() as u64;
                    if encoding == Encoding::Sse {
                        moved.push(subscriber);
                    }
                    true
                }
                Delivered::Full => {
                    entry.rare().lagging.insert(delivery.key.clone());
                    false
                }
            }
        });
        if let Outcome::OutOfOrder(position) = outcome {
            tracing::error!(
                channel = &*delivery.key.channel,
                ?position,
                first = delivery.first,
                "a delivery is missing"
            );
            let missed = self.fanout.jump(&delivery.key, delivery.last());
            missed.into_iter().for_each(|subscriber| self.mark_lagging(subscriber, &delivery.key));
            for subscriber in self.fanout.subscribers(&delivery.key).collect::<Vec<_>>() {
                self.catch_up(subscriber, now, out);
            }
        }
    }

    fn notify(&mut self, key: &ChannelKey, notice: Notice, out: &mut Outboxes) {
        let channel = key.channel.clone();
        let event = match notice {
            Notice::Presence { change, members } => Event::Presence { channel, change, members },
            Notice::Occupancy(count) => Event::Occupancy { channel, count },
            Notice::Uncertain => {
                Event::Error(Failure { code: ErrorCode::Uncertain, channel: Some(channel), req_id: None })
            }
        };
        let Engine { fanout, entries, .. } = self;
        let mut encoded: [Option<Bytes>; Encoding::COUNT] = Default::default();
        for subscriber in fanout.subscribers(key) {
            let Some(entry) = entries.get_mut(subscriber.slot as usize) else { continue };
            let Some(conn) = entry.conn else { continue };
            let bytes = encoded[entry.encoding as usize].get_or_insert_with(|| entry.encoding.event(&event));
            if out.deliver(conn, bytes) == Delivered::Full {
                entry.rare().lagging.insert(key.clone());
            }
        }
    }

    fn reposition(
        &mut self,
        key: &ChannelKey,
        serial: Serial,
        recovered: bool,
        known: Option<Serial>,
        out: &mut Outboxes,
    ) {
        let position = Position { channel: key.channel.clone(), serial, recovered: Some(recovered), known };
        for subscriber in self.fanout.reposition(key, serial) {
            self.tell(subscriber, &Event::Position(position.clone()), out);
            if self.live(subscriber).is_some_and(|entry| entry.encoding == Encoding::Sse) {
                self.moved.push(subscriber);
            }
        }
    }

    fn mark_lagging(&mut self, subscriber: Subscriber, key: &ChannelKey) {
        if let Some(entry) = self.live_mut(subscriber) {
            entry.rare().lagging.insert(key.clone());
        }
    }

    /// The connection can take something again: the session asks for what it lacks.
    pub(super) fn catch_up(&mut self, subscriber: Subscriber, now: Now, out: &mut Outboxes) {
        let Some(rare) = self.live_mut(subscriber).and_then(|entry| entry.rare.as_mut()) else { return };
        for key in std::mem::take(&mut rare.lagging) {
            if let Some(reached) = self.fanout.position(&key, subscriber) {
                self.step(subscriber, now, out, |session, cx| session.catch_up(&key.channel, reached, cx));
            }
        }
    }

    fn answer(&mut self, key: &ChannelKey, token: Token, reply: Reply, now: Now, out: &mut Outboxes) {
        let Token { subscriber, number } = token;
        match reply {
            Reply::Published(outcome) if subscriber == Mail::NO_SESSION => {
                self.counts.outcome(&outcome);
                let caller = usize::try_from(number).ok().and_then(|slot| self.callers.try_remove(slot));
                // The caller may have gone meanwhile; then nobody wants to know.
                if let Some(caller) = caller {
                    let _ = caller.send(outcome);
                }
            }
            Reply::Published(outcome) => {
                self.step(subscriber, now, out, |session, cx| {
                    session.published(key.channel.clone(), number, outcome, cx);
                });
            }
            Reply::Presence(members) => {
                let reader = usize::try_from(number).ok().and_then(|slot| self.readers.try_remove(slot));
                if let Some(reader) = reader {
                    let _ = reader.send(members);
                }
            }
            Reply::Taken(outcome) => self.taken_elsewhere(subscriber, outcome, now, out),
            Reply::Subscribed(outcome) => {
                let crowded = self.is_crowded(subscriber, out);
                let outcome = outcome.map(|start| if crowded { Box::new(start.without_missed()) } else { start });
                self.step(subscriber, now, out, |session, cx| session.subscribed(&key.channel, number, outcome, cx));
                if self.live(subscriber).is_some_and(|entry| entry.encoding == Encoding::Sse) {
                    self.moved.push(subscriber);
                }
            }
        }
    }

    /// Whether so much waits for the session's client already that a channel's history has to be left out. One request
    /// can ask for those of very many channels.
    fn is_crowded(&self, subscriber: Subscriber, out: &Outboxes) -> bool {
        let conn = self.live(subscriber).and_then(|entry| entry.conn);
        conn.is_some_and(|conn| out.queued_bytes(conn) > self.shared.outbox_bytes_max)
    }

    fn store(&self, batch: Batch, ticket: u64) {
        let (shared, worker) = (self.shared.clone(), self.listener.worker);
        self.shared.runtime.spawn(async move {
            let key = batch.key.clone();
            let messages = batch.messages.len() as u64;
            let outcome = shared.store.append(batch).await;
            shared.meters.count_stored(messages, outcome.is_ok());
            if let Err(error) = &outcome {
                tracing::error!(channel = &*key.channel, hub = &*key.hub, %error, "messages were not stored");
            }
            shared.post(worker, Mail::Stored { key, ticket, ok: outcome.is_ok() }).await;
        });
    }
}
