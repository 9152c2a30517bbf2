//! Sessions whose connection broke, kept for those who come back in time.

use std::{fmt, str::FromStr};

use appsockets_core::{
    bucket::SharedBucket,
    channel::{ChannelKey, ChannelName},
    cluster::view::NodeId,
    code::CloseCode,
    fanout::Subscriber,
    serial::Serial,
    session::{Carried, Context, effect::Effect, event::Event, request::SubscribeInfo},
    time::Now,
};

use super::{
    Encoding, Engine, Mail,
    entry::{Entry, Rare},
};
use crate::edge::Outboxes;

/// Finds one session and proves the right to it. It says where the session is, so nothing has to be searched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RestoreKey {
    pub node: NodeId,
    pub worker: u16,
    pub subscriber: Subscriber,
    /// 128 bits of chance.
    pub secret: u128,
}

impl fmt::Display for RestoreKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Subscriber { slot, generation } = self.subscriber;
        let NodeId { node, generation: run } = self.node;
        write!(f, "{node:x}-{run:x}-{:x}-{slot:x}-{generation:x}-{:032x}", self.worker, self.secret)
    }
}

impl FromStr for RestoreKey {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let mut parts = text.splitn(6, '-');
        let mut next = || parts.next().ok_or(());
        let (node, run) = (next()?, next()?);
        let (worker, slot, generation, secret) = (next()?, next()?, next()?, next()?);
        Ok(RestoreKey {
            node: NodeId {
                node: u64::from_str_radix(node, 16).map_err(drop)?,
                generation: u64::from_str_radix(run, 16).map_err(drop)?,
            },
            worker: u16::from_str_radix(worker, 16).map_err(drop)?,
            subscriber: Subscriber {
                slot: u32::from_str_radix(slot, 16).map_err(drop)?,
                generation: u32::from_str_radix(generation, 16).map_err(drop)?,
            },
            secret: u128::from_str_radix(secret, 16).map_err(drop)?,
        })
    }
}

impl Engine {
    /// The connection broke: the session stays for a while, present in its channels but hearing nothing.
    pub(super) fn park(&mut self, subscriber: Subscriber, now: Now, out: &mut Outboxes) {
        let worth_keeping =
            |entry: &Entry| entry.session.channels().next().is_some() || entry.session.identity().is_some();
        let until_ms = now.mono_ms + self.shared.restore_window_ms;
        if self.parked >= self.shared.parked_max || !self.live(subscriber).is_some_and(worth_keeping) {
            return self.remove(subscriber, now, out);
        }
        let positions = self.detach(subscriber);
        let Some(entry) = self.live_mut(subscriber) else { return };
        entry.conn = None;
        entry.seat = None;
        entry.rare().parked = Some((until_ms, positions));
        self.parked += 1;
        self.schedule(subscriber, now);
    }

    /// Looks for the session under a restore key, here or at another worker. `held` names positions that were kept for
    /// an SSE client.
    pub(super) fn begin_restore(
        &mut self,
        subscriber: Subscriber,
        key: &str,
        held: Option<u64>,
        positions: Vec<SubscribeInfo>,
        now: Now,
        out: &mut Outboxes,
    ) {
        let own_node = self.shared.shard.me();
        // Each worker counts its own slots and generations, so those alone name nobody.
        let own =
            |key: &RestoreKey| (key.node, key.worker, key.subscriber) == (own_node, self.listener.worker, subscriber);
        let key = key.parse::<RestoreKey>().ok().filter(|key| !own(key));
        let Some(entry) = self.live_mut(subscriber) else { return };
        // One at a time: the answer to the first must not be taken for that to a second.
        if entry.rare().restoring.is_some() {
            return self.step(subscriber, now, out, |session, cx| session.not_restored(cx));
        }
        entry.rare().restoring = Some(positions);
        match key {
            Some(key) if key.node != own_node && self.shared.cluster.is_some() => {
                self.take_elsewhere(subscriber, key, now);
            }
            Some(key) if key.node != own_node => self.taken(subscriber, None, now, out),
            Some(key) if key.worker == self.listener.worker => {
                let carried = self.take(&key, held, now, out);
                self.taken(subscriber, carried, now, out);
            }
            Some(key) if usize::from(key.worker) < self.shared.workers() => {
                let take = Mail::Take { key, held, to: subscriber, worker: self.listener.worker };
                self.posting.push(key.worker, take);
            }
            _ => self.taken(subscriber, None, now, out),
        }
    }

    /// Gives away a session, with or without a connection.
    pub(super) fn take(
        &mut self,
        key: &RestoreKey,
        held: Option<u64>,
        now: Now,
        out: &mut Outboxes,
    ) -> Option<Box<Carried>> {
        let subscriber = key.subscriber;
        let place = self.live(subscriber).filter(|entry| entry.key == *key && !entry.given)?.place();
        let sent = self.detach(subscriber);
        let code = CloseCode::Replaced;
        self.tell(subscriber, &Event::Close(code), out);
        if let Some(conn) = self.live_mut(subscriber).and_then(|entry| entry.conn.take()) {
            self.bind(conn, None);
            out.close(conn, code.code(), code.name());
        }
        let mut entry = self.entries.try_remove(subscriber.slot as usize)?;
        place.into_iter().for_each(|place| self.forget(place, now));
        let Rare { parked, held: kept, .. } = entry.rare.take().map(|rare| *rare).unwrap_or_default();
        self.parked -= usize::from(parked.is_some());
        let positions = match held {
            None => parked.map_or(sent, |(_, positions)| positions),
            Some(number) => {
                kept.into_iter().find(|(other, _)| *other == number).map(|(_, kept)| kept).unwrap_or_default()
            }
        };
        Some(Box::new(Carried { session: entry.session, positions, from: self.listener }))
    }

    /// What came of looking for a session.
    pub(super) fn taken(&mut self, to: Subscriber, carried: Option<Box<Carried>>, now: Now, out: &mut Outboxes) {
        let restoring = self.live_mut(to).and_then(|entry| entry.rare().restoring.take());
        let Some(positions) = restoring else {
            return self.drop_carried(carried, now);
        };
        let one_way = self.live(to).is_some_and(|entry| entry.encoding == Encoding::Sse);
        self.step(to, now, out, |session, cx| match carried {
            carried if one_way => session.resumed(carried.map(|carried| *carried), positions, cx),
            Some(carried) => session.restored(*carried, &positions, cx),
            None => session.not_restored(cx),
        });
        self.schedule(to, now);
    }

    /// The connection that wanted the session broke meanwhile, and its restore key is used up.
    fn drop_carried(&mut self, carried: Option<Box<Carried>>, now: Now) {
        let Some(carried) = carried else { return };
        let mut effects = Vec::new();
        let meter = SharedBucket::default();
        let shared = self.shared.clone();
        carried.drop_session(&mut Context { now, config: &shared.session, meter: &meter, effects: &mut effects });
        for effect in effects {
            if let Effect::AskFor { listener, key, ask } = effect {
                self.ask(listener, key, ask, now);
            }
        }
    }

    /// Ends the deliveries to a session. Returns how far it has come.
    pub(super) fn detach(&mut self, subscriber: Subscriber) -> Vec<(ChannelName, Serial)> {
        let positions = self.positions(subscriber);
        let Some(hub) = self.live(subscriber).map(|entry| entry.session.hub().id.clone()) else { return positions };
        for (channel, _) in &positions {
            self.fanout.detach(&ChannelKey::new(hub.clone(), channel.clone()), subscriber);
        }
        positions
    }
}
