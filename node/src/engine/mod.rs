//! One worker's share of the node: the sessions of its connections, its shard of the channels, and its fan-out.
//!
//! Everything here runs on the worker's thread without waiting. What has to wait (authentication, the store) is started
//! on the node's other runtime and comes back as [`Mail`].

mod answers;
mod delivering;
mod encode;
mod entry;
mod hubs;
pub mod last_event_id;
pub mod mail;
pub mod meters;
mod parked;
mod peers;
mod posting;
mod shared;
mod steps;
mod timers;

use std::sync::Arc;

use appsockets_core::{
    channel::HubId,
    code::{CloseCode, ErrorCode},
    fanout::{Fanout, Subscriber},
    session::{
        self, Session,
        event::{Event, Failure},
    },
    settings::compile::Compiled,
    shard::{self, request::Listener, sides::Sides},
    time::Now,
};
use slab::Slab;

pub use encode::Encoding;
pub use hubs::{Hubs, Seat};
pub use mail::{Caller, Mail, PresenceReader};
pub use parked::RestoreKey;
pub use shared::{Handles, Shared, Ticket};

use crate::{
    codec,
    edge::{Closed, ConnId, Handler, Opening, Outboxes, Transport},
    engine::{entry::Entry, meters::Counts, peers::Peers, posting::Posting, timers::Timers},
    random,
};

/// What a worker's connections talk to.
pub struct Engine {
    listener: Listener,
    shared: Arc<Shared>,
    settings: Arc<Compiled>,
    shard: Sides,
    fanout: Fanout,
    entries: Slab<Entry>,
    generations: u32,
    /// The entry of each connection, by its slot.
    by_conn: Vec<Option<Subscriber>>,
    timers: Timers,
    /// Scratch, empty between steps.
    session_effects: Vec<session::effect::Effect>,
    shard_effects: Vec<shard::request::Effect>,
    /// Sessions with outcomes of publishes to be told at the end of the turn.
    acked: Vec<Subscriber>,
    /// SSE sessions that were sent something numbered this turn.
    moved: Vec<Subscriber>,
    callers: Slab<Caller>,
    readers: Slab<PresenceReader>,
    posting: Posting,
    peers: Peers,
    /// Sessions of which the cluster keeps what is no longer true.
    changed: Vec<Subscriber>,
    /// Sessions without a connection.
    parked: usize,
    /// The sessions were told to connect elsewhere.
    draining: bool,
    counts: Counts,
}

impl Engine {
    pub fn new(worker: u16, shared: Arc<Shared>) -> Self {
        let settings = shared.settings.current();
        let now = crate::edge::clock::now();
        let config = shared.shard_config(worker, random::number());
        let mut shard = if shared.cluster.is_some() { Sides::new(config) } else { Sides::alone(now, config) };
        // Without channels a hub's settings change nothing.
        settings.hubs.values().for_each(|hub| shard.set_hub(now, hub.clone(), &mut Vec::new()));
        Engine {
            listener: Listener { node: shared.shard.node, worker },
            settings,
            shard,
            fanout: Fanout::new(random::number()),
            entries: Slab::new(),
            generations: 0,
            by_conn: Vec::new(),
            timers: Timers::default(),
            session_effects: Vec::new(),
            shard_effects: Vec::new(),
            acked: Vec::new(),
            moved: Vec::new(),
            callers: Slab::new(),
            readers: Slab::new(),
            posting: Posting::new(shared.workers()),
            peers: Peers::default(),
            changed: Vec::new(),
            parked: 0,
            draining: false,
            counts: Counts::default(),
            shared,
        }
    }

    /// Takes over the settings in force. Every hub whose settings differ is taken over by its channels first, so that no
    /// session finds the old ones.
    ///
    /// To be called before anything is taken in from somebody who may know newer ones: a shard that is behind would drop
    /// the presence of a session that is not.
    fn take_settings(&mut self, now: Now, out: &mut Outboxes) {
        let settings = self.shared.settings.current();
        if Arc::ptr_eq(&settings, &self.settings) {
            return;
        }
        let before = std::mem::replace(&mut self.settings, settings);
        for id in self.settings.changed(&before) {
            match self.settings.hubs.get(&id) {
                Some(hub) => self.shard.set_hub(now, hub.clone(), &mut self.shard_effects),
                None => self.shard.remove_hub(now, &id, &mut self.shard_effects),
            }
            let hub = self.settings.hubs.get(&id).cloned();
            for subscriber in self.sessions_of(&id) {
                self.step(subscriber, now, out, |session, cx| session.hub_changed(hub.clone(), cx));
                self.schedule(subscriber, now);
            }
        }
    }

    fn sessions_of(&self, hub: &HubId) -> Vec<Subscriber> {
        self.all_sessions(|entry| entry.session.hub().id == *hub)
    }

    fn all_sessions(&self, filter: impl Fn(&Entry) -> bool) -> Vec<Subscriber> {
        self.entries.iter().filter(|(_, entry)| filter(entry)).map(|(slot, entry)| entry.subscriber(slot)).collect()
    }

    fn subscriber_of(&self, conn: ConnId) -> Option<Subscriber> {
        let subscriber = (*self.by_conn.get(conn.slot as usize)?)?;
        self.live(subscriber).is_some_and(|entry| entry.conn == Some(conn)).then_some(subscriber)
    }

    /// Lets others see what was counted, once for each turn.
    fn show_counts(&mut self) {
        self.counts.sessions = self.entries.len() as u64;
        self.counts.parked = self.parked as u64;
        self.counts.channels = self.shard.len() as u64;
        self.counts.accepted = self.shard.accepted();
        self.counts.moves = self.shard.moves();
        if let Some(meter) = self.shared.meters.worker(self.listener.worker) {
            meter.show(&mut self.counts);
        }
    }

    fn bind(&mut self, conn: ConnId, subscriber: Option<Subscriber>) {
        let slot = conn.slot as usize;
        if self.by_conn.len() <= slot {
            self.by_conn.resize(slot + 1, None);
        }
        self.by_conn[slot] = subscriber;
    }
}

impl Handler for Engine {
    type Ticket = Ticket;
    type Mail = Mail;

    fn opened(&mut self, conn: ConnId, opening: Opening<Ticket>, now: Now, out: &mut Outboxes) {
        let Ticket { hub, seat, identity, channels, restore } = opening.ticket;
        self.take_settings(now, out);
        let Some(hub) = self.settings.hubs.get(&hub.id).cloned() else {
            let code = CloseCode::HubClosed;
            return out.close(conn, code.code(), code.name());
        };
        self.generations = self.generations.wrapping_add(1);
        let vacant = self.entries.vacant_entry();
        let subscriber = Subscriber { slot: vacant.key() as u32, generation: self.generations };
        let node = self.shared.shard.me();
        let key = RestoreKey { node, worker: self.listener.worker, subscriber, secret: random::secret() };
        let one_way = opening.transport == Transport::Sse;
        // Who comes back to a session subscribes when it is clear whether that session is still there.
        let (now_channels, later) = if restore.is_some() { (Vec::new(), channels) } else { (channels, Vec::new()) };
        let begin = session::Opening {
            subscriber,
            id: random::id().into(),
            restore_key: key.to_string().into(),
            hub,
            identity,
            one_way,
            channels: now_channels,
        };
        let mut effects = std::mem::take(&mut self.session_effects);
        let mut cx = session::Context { now, config: &self.shared.session, meter: seat.meter(), effects: &mut effects };
        let session = Session::open(begin, &mut cx);
        vacant.insert(Entry::new(session, conn, Encoding::of(opening.transport), key, seat));
        self.bind(conn, Some(subscriber));
        self.carry_out_all(subscriber, effects, now, out);
        self.schedule(subscriber, now);
        if let Some(restore) = restore {
            self.begin_restore(subscriber, &restore.key, restore.held, later, now, out);
        }
        // One that was on its way in while the others were told.
        if self.draining {
            self.step(subscriber, now, out, |session, cx| session.drain(0, cx));
            self.schedule(subscriber, now);
        }
    }

    fn received(&mut self, conn: ConnId, message: &[u8], now: Now, out: &mut Outboxes) {
        let Some(subscriber) = self.subscriber_of(conn) else { return };
        self.counts.received += 1;
        self.counts.received_bytes += message.len() as u64;
        let Some(format) = self.live(subscriber).and_then(|entry| entry.encoding.format()) else { return };
        match codec::decode(format, message) {
            Ok(session::request::Request::Close) => self.left(subscriber, now, out),
            Ok(request) => self.step(subscriber, now, out, |session, cx| session.request(request, cx)),
            Err(error) => {
                tracing::debug!(code = error.code.name(), detail = error.detail, "a message can't be read");
                self.step(subscriber, now, out, |session, cx| session.unreadable(error.code, error.req_id, cx));
            }
        }
        // One that has answered a ping is pinged again after the interval, which may be before the answer was due.
        self.schedule(subscriber, now);
    }

    fn too_large(&mut self, conn: ConnId, out: &mut Outboxes) {
        if let Some(subscriber) = self.subscriber_of(conn) {
            let failure = Failure { code: ErrorCode::MessageTooLarge, channel: None, req_id: None };
            self.tell(subscriber, &Event::Error(failure), out);
        }
    }

    fn heard(&mut self, conn: ConnId, now: Now) {
        let Some(subscriber) = self.subscriber_of(conn) else { return };
        if let Some(entry) = self.live_mut(subscriber) {
            entry.session.heard(now);
        }
        self.schedule(subscriber, now);
    }

    fn drained(&mut self, conn: ConnId, now: Now, out: &mut Outboxes) {
        if let Some(subscriber) = self.subscriber_of(conn) {
            self.catch_up(subscriber, now, out);
            self.read_next_page(subscriber, out);
        }
    }

    fn closed(&mut self, conn: ConnId, how: Closed, now: Now, out: &mut Outboxes) {
        let Some(subscriber) = self.subscriber_of(conn) else { return };
        self.bind(conn, None);
        // Who was told to go comes back elsewhere.
        let goes = self.live(subscriber).is_some_and(|entry| entry.session.is_draining());
        match how {
            Closed::Clean if !goes => self.remove(subscriber, now, out),
            Closed::Clean | Closed::Broken => self.park(subscriber, now, out),
        }
    }

    fn mail(&mut self, mail: Mail, now: Now, out: &mut Outboxes) {
        self.take_mail(mail, now, out);
    }

    fn turn(&mut self, now: Now, out: &mut Outboxes) -> Option<u64> {
        self.run_due(now, out);
        let settled = self.settle(now, out);
        self.tell_outcomes(out);
        self.tell_positions(out);
        self.post();
        self.peers.flush();
        self.show_counts();
        let due_ms = [self.timers.next(), self.shard.next_tick_ms(), (!settled).then_some(now.mono_ms)];
        due_ms.into_iter().flatten().chain(self.posting.retry_ms(now)).min()
    }
}
