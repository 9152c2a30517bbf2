//! What this worker's shard has to do with other nodes, and the sessions that go from one node to another.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::NodeId,
    code::{CloseCode, ErrorCode},
    fanout::Subscriber,
    session::{event::Event, record, record::Record},
    shard::{
        peer::{Body, PeerMessage},
        request::{Ask, Token},
    },
    time::Now,
};

use super::{Encoding, Engine, Mail, RestoreKey};
use crate::{
    cluster::{ClusterMail, Outgoing, codec},
    edge::Outboxes,
};

/// How long a node keeps the subscriptions of a session that it let go: until the next one has them.
const RELEASE_MS: u64 = 2_000;

/// The nodes that this worker's shard speaks with.
#[derive(Debug, Default)]
pub struct Peers(BTreeMap<NodeId, Link>);

/// A link, and what this turn has for each shard at its other end.
#[derive(Debug)]
struct Link {
    outgoing: Arc<Outgoing>,
    waiting: Vec<Vec<u8>>,
    any: bool,
}

impl Peers {
    /// What is said to a node out of reach is lost: it is said anew when the next session with it begins.
    pub fn send(&mut self, to: NodeId, message: &PeerMessage) {
        let Some(link) = self.0.get_mut(&to) else { return };
        let shards = link.waiting.len() as u64;
        match &message.body {
            Body::Channel { key, .. } => {
                codec::append_peer(message, &mut link.waiting[(key.point() % shards) as usize]);
            }
            Body::All { .. } => link.waiting.iter_mut().for_each(|bytes| codec::append_peer(message, bytes)),
        }
        link.any = true;
    }

    /// Sends what the turn brought.
    pub fn flush(&mut self) {
        for link in self.0.values_mut().filter(|link| link.any) {
            link.any = false;
            for (shard, bytes) in (0..).zip(&mut link.waiting).filter(|(_, bytes)| !bytes.is_empty()) {
                link.outgoing.send_to_shard(shard, std::mem::take(bytes).into());
            }
        }
    }

    fn set(&mut self, peer: NodeId, link: Option<(Arc<Outgoing>, u32)>) {
        match link {
            Some((outgoing, shards)) => {
                let waiting = vec![Vec::new(); shards as usize];
                self.0.insert(peer, Link { outgoing, waiting, any: false });
            }
            None => drop(self.0.remove(&peer)),
        }
    }
}

impl Engine {
    pub(super) fn take_cluster_mail(&mut self, mail: ClusterMail, now: Now, out: &mut Outboxes) {
        let effects = &mut self.shard_effects;
        match mail {
            ClusterMail::Install { view, open } => self.shard.install(now, view, open, effects),
            ClusterMail::Session { peer, link } => {
                let shards = link.as_ref().map(|(_, shards)| u64::from(*shards));
                self.peers.set(peer, link);
                self.shard.session(now, peer, shards, effects);
            }
            ClusterMail::Side(view) => self.shard.set_side(now, view, effects),
            ClusterMail::SideSession { peer, shards } => {
                self.shard.side_session(now, peer, shards.map(u64::from), effects);
            }
            ClusterMail::Alive(alive) => self.shard.set_alive(now, alive.iter().copied(), effects),
            ClusterMail::Gone(node) => self.shard.gone(now, node, effects),
            ClusterMail::Settled(number) => self.shard.settled(number),
            ClusterMail::Peer { from, messages } => {
                self.take_settings(now, out);
                self.take_from_peer(from, &messages, now);
            }
        }
    }

    fn take_from_peer(&mut self, from: NodeId, mut messages: &[u8], now: Now) {
        loop {
            match codec::next_peer(&mut messages) {
                Ok(Some(message)) => self.shard.receive(now, from, message, &mut self.shard_effects),
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(node = from.node, %error, "the link is closed");
                    self.peers.0.get(&from).iter().for_each(|link| link.outgoing.close());
                    return;
                }
            }
        }
    }

    /// Has the cluster keep what has become of sessions.
    pub(super) fn keep_changed(&mut self, now: Now) {
        for subscriber in std::mem::take(&mut self.changed) {
            let Some(entry) = self.live_mut(subscriber) else { continue };
            entry.changed = false;
            if entry.given {
                continue;
            }
            entry.kept = true;
            let record = entry.session.record();
            let place = record::place(&record.hub, &entry.key.to_string());
            self.ask(self.listener, place, Ask::Keep { record: Some(Arc::new(record)) }, now);
        }
    }

    pub(super) fn mark_changed(&mut self, subscriber: Subscriber) {
        if self.shared.cluster.is_none() {
            return;
        }
        if let Some(entry) = self.live_mut(subscriber).filter(|entry| !entry.changed) {
            entry.changed = true;
            self.changed.push(subscriber);
        }
    }

    /// The session that is kept there has ended: nobody is to find it.
    pub(super) fn forget(&mut self, place: ChannelKey, now: Now) {
        self.ask(self.listener, place, Ask::Keep { record: None }, now);
    }

    /// Looks in the whole cluster for a session that another node had.
    pub(super) fn take_elsewhere(&mut self, subscriber: Subscriber, key: RestoreKey, now: Now) {
        let Some(hub) = self.live(subscriber).map(|entry| entry.session.hub().id.clone()) else { return };
        let token = Token { subscriber, number: 0 };
        self.ask(self.listener, record::place(&hub, &key.to_string()), Ask::Take { token }, now);
    }

    pub(super) fn taken_elsewhere(
        &mut self,
        to: Subscriber,
        outcome: Result<Arc<Record>, ErrorCode>,
        now: Now,
        out: &mut Outboxes,
    ) {
        let Some(positions) = self.live_mut(to).and_then(|entry| entry.rare().restoring.take()) else { return };
        let one_way = self.live(to).is_some_and(|entry| entry.encoding == Encoding::Sse);
        self.step(to, now, out, |session, cx| match outcome {
            Ok(record) => session.restored_elsewhere(&record, positions, cx),
            Err(_) if one_way => session.resumed(None, positions, cx),
            Err(_) => session.not_restored(cx),
        });
        self.schedule(to, now);
    }

    /// To the worker that has the session of this place, which is this one or another.
    pub(super) fn pass_to_holder(
        &mut self,
        place: ChannelKey,
        mail: impl FnOnce(ChannelKey) -> Mail,
    ) -> Option<ChannelKey> {
        let key = record::restore_key(&place).and_then(|key| key.parse::<RestoreKey>().ok());
        match key {
            Some(key) if key.worker != self.listener.worker => {
                self.posting.push(key.worker, mail(place));
                None
            }
            _ => Some(place),
        }
    }

    fn holder_of(&self, place: &ChannelKey) -> Option<Subscriber> {
        let key: RestoreKey = record::restore_key(place)?.parse().ok()?;
        let entry = self.live(key.subscriber)?;
        (entry.key == key && !entry.given).then_some(key.subscriber)
    }

    /// The session goes on at another node. What it heard here ends when it is heard there.
    pub(super) fn let_go(&mut self, place: &ChannelKey, now: Now, out: &mut Outboxes) {
        let Some(subscriber) = self.holder_of(place) else { return };
        let positions = self.detach(subscriber);
        self.tell(subscriber, &Event::Close(CloseCode::Replaced), out);
        if let Some(conn) = self.live_mut(subscriber).and_then(|entry| entry.conn.take()) {
            self.bind(conn, None);
            out.close(conn, CloseCode::Replaced.code(), CloseCode::Replaced.name());
        }
        let Some(entry) = self.live_mut(subscriber) else { return };
        entry.session.let_go();
        (entry.given, entry.seat) = (true, None);
        let was_parked = entry.rare().parked.replace((now.mono_ms + RELEASE_MS, positions)).is_some();
        self.parked += usize::from(!was_parked);
        self.schedule(subscriber, now);
    }

    /// Says whether this node still has the session.
    pub(super) fn confirm(&mut self, place: ChannelKey, now: Now) {
        match self.holder_of(&place) {
            Some(subscriber) => self.mark_changed(subscriber),
            None => self.forget(place, now),
        }
    }
}
