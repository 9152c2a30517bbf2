//! What reaches a worker from other threads.

use std::sync::Arc;

use appsockets_core::{
    channel::{ChannelKey, ChannelName},
    code::ErrorCode,
    fanout::Subscriber,
    identity::Identity,
    serial::Serial,
    session::{
        Carried,
        event::{HistoryPage, Member},
    },
    shard::{
        self,
        request::{Ask, Publish, Request, Token},
    },
    time::Now,
};
use tokio::sync::oneshot;

use super::{Engine, RestoreKey};
use crate::{cluster::ClusterMail, edge::Outboxes};

/// One who publishes without a session and waits for the outcome.
pub type Caller = oneshot::Sender<Result<Serial, ErrorCode>>;

/// One who wants to know who is present, and waits.
pub type PresenceReader = oneshot::Sender<Result<Arc<[Member]>, ErrorCode>>;

/// A piece of mail. Mail of one sender arrives in order.
pub enum Mail {
    /// To this worker's shard.
    Ask(Vec<Request>),
    /// From another worker's shard, to this worker's sessions.
    Effects(Vec<shard::request::Effect>),
    Stored {
        key: ChannelKey,
        ticket: u64,
        ok: bool,
    },
    Authenticated {
        subscriber: Subscriber,
        outcome: Result<(Arc<Identity>, Arc<str>), ErrorCode>,
    },
    History {
        subscriber: Subscriber,
        req_id: i64,
        channel: ChannelName,
        page: Result<HistoryPage, ErrorCode>,
    },
    /// The session under this key is wanted by a connection of another worker.
    Take {
        key: RestoreKey,
        held: Option<u64>,
        to: Subscriber,
        worker: u16,
    },
    Taken {
        to: Subscriber,
        carried: Option<Box<Carried>>,
    },
    Publish {
        key: ChannelKey,
        publish: Box<Publish>,
        caller: Caller,
    },
    ReadPresence {
        key: ChannelKey,
        reader: PresenceReader,
    },
    /// The session that is kept there goes on at another node.
    LetGo {
        place: ChannelKey,
    },
    /// Does this worker still have the session that is kept there?
    Confirm {
        place: ChannelKey,
    },
    /// To this worker's shard, from other nodes and of them.
    Cluster(ClusterMail),
    /// There are new settings.
    Settings,
    /// Tell every session to connect elsewhere, spread over this time.
    Drain {
        spread_ms: u32,
    },
    /// Tell this worker's share of so many sessions to connect elsewhere, of all that are connected.
    Shed {
        sessions: u64,
        of: u64,
        spread_ms: u32,
    },
    /// End every session.
    End,
}

impl Mail {
    /// Stands where a token names a session, for one who publishes without.
    pub const NO_SESSION: Subscriber = Subscriber { slot: u32::MAX, generation: 0 };
}

impl Engine {
    pub(super) fn take_mail(&mut self, mail: Mail, now: Now, out: &mut Outboxes) {
        match mail {
            Mail::Ask(requests) => {
                self.take_settings(now, out);
                requests.into_iter().for_each(|request| self.ask_shard(request, now));
            }
            Mail::Effects(effects) => effects.into_iter().for_each(|effect| self.carry_out_shard(effect, now, out)),
            Mail::Stored { key, ticket, ok } => self.shard.stored(now, &key, ticket, ok, &mut self.shard_effects),
            Mail::Authenticated { subscriber, outcome } => self.authenticated(subscriber, outcome, now, out),
            Mail::History { subscriber, req_id, channel, page } => {
                self.tell_history(subscriber, req_id, channel, page, out);
            }
            Mail::Take { key, held, to, worker } => {
                let carried = self.take(&key, held, now, out);
                self.posting.push(worker, Mail::Taken { to, carried });
            }
            Mail::Taken { to, carried } => self.taken(to, carried, now, out),
            Mail::Publish { key, publish, caller } => self.publish_for(key, *publish, caller, now, out),
            Mail::ReadPresence { key, reader } => self.read_presence(key, reader, now, out),
            Mail::LetGo { place } => self.let_go(&place, now, out),
            Mail::Confirm { place } => self.confirm(place, now),
            Mail::Cluster(mail) => self.take_cluster_mail(mail, now, out),
            Mail::Settings => self.take_settings(now, out),
            Mail::Drain { spread_ms } => self.drain(spread_ms, now, out),
            Mail::Shed { sessions, of, spread_ms } => self.shed(sessions, of, spread_ms, now, out),
            Mail::End => self.end_all(now, out),
        }
    }

    fn read_presence(&mut self, key: ChannelKey, reader: PresenceReader, now: Now, out: &mut Outboxes) {
        self.take_settings(now, out);
        let token = Token { subscriber: Mail::NO_SESSION, number: self.readers.insert(reader) as i64 };
        self.ask_shard(Request { from: self.listener, key, ask: Ask::ReadPresence { token } }, now);
    }

    fn publish_for(&mut self, key: ChannelKey, mut publish: Publish, caller: Caller, now: Now, out: &mut Outboxes) {
        self.take_settings(now, out);
        publish.token.number = self.callers.insert(caller) as i64;
        self.ask_shard(Request { from: self.listener, key, ask: Ask::Publish(publish) }, now);
    }
}
