//! Sessions that go on at another connection, of this node or of another.

use std::{collections::VecDeque, sync::Arc};

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    fanout::Subscriber,
    session::{
        Carried, Session,
        record::{self, Record},
        request::SubscribeInfo,
    },
    shard::request::{Ask, Listener, Token},
};

use crate::{
    client::At,
    process::Held,
    world::{Work, World},
};

/// How long a node keeps the subscriptions of a session that it let go: until the next one has them.
const RELEASE_MS: u64 = 2_000;

impl Held {
    pub fn new(session: Session, client: usize, restore_key: Arc<str>) -> Held {
        Held {
            session,
            client: Some(client),
            parked_until_ms: None,
            restore_key,
            changed: false,
            given: false,
            restoring: None,
        }
    }
}

impl World {
    /// Looks for a session here, and else in the cluster.
    pub(crate) fn restore(
        &mut self,
        node: u64,
        worker: usize,
        taker: Subscriber,
        restore_key: &str,
        positions: Vec<SubscribeInfo>,
        work: &mut VecDeque<Work>,
    ) {
        let Some((at, carried)) = self.take_here(node, restore_key, taker) else {
            self.count("restores at another node");
            let held = self.worker(node, worker).held.get_mut(&taker);
            let Some(held) = held else { return };
            held.restoring = Some(positions);
            let place = record::place(&held.session.hub().id, restore_key);
            let token = Token { subscriber: taker, number: 0 };
            return self.ask(node, worker, place, Ask::Take { token }, work);
        };
        self.count("restores at the same node");
        let place = record::place(&carried.session.hub().id, restore_key);
        self.ask(node, at, place, Ask::Keep { record: None }, work);
        self.step(node, worker, taker, work, |session, cx| session.restored(carried, &positions, cx));
    }

    fn take_here(&mut self, node: u64, restore_key: &str, taker: Subscriber) -> Option<(usize, Carried)> {
        let process = self.processes.get_mut(&node)?;
        for (at, worker) in process.workers.iter_mut().enumerate() {
            let found = worker.held.iter().find(|(_, held)| *held.restore_key == *restore_key && !held.given);
            let Some(subscriber) = found.map(|(subscriber, _)| *subscriber).filter(|found| *found != taker) else {
                continue;
            };
            let held = worker.held.remove(&subscriber)?;
            let key = |channel: &Arc<str>| ChannelKey::new(held.session.hub().id.clone(), channel.clone());
            let reached =
                |channel: &Arc<str>| Some((channel.clone(), worker.fanout.detach(&key(channel), subscriber)?));
            let positions = held.session.channels().filter_map(reached).collect();
            let from = Listener { node, worker: at as u16 };
            return Some((at, Carried { session: held.session, positions, from }));
        }
        None
    }

    pub(crate) fn taken(
        &mut self,
        node: u64,
        worker: usize,
        taker: Subscriber,
        outcome: Result<Arc<Record>, ErrorCode>,
        work: &mut VecDeque<Work>,
    ) {
        let Some(held) = self.worker(node, worker).held.get_mut(&taker) else { return };
        let positions = held.restoring.take().unwrap_or_default();
        self.step(node, worker, taker, work, |session, cx| match outcome {
            Ok(record) => session.restored_elsewhere(&record, positions, cx),
            Err(_) => session.not_restored(cx),
        });
    }

    /// The session goes on at another node. What it heard here ends when it is heard there.
    pub(crate) fn let_go(&mut self, node: u64, place: &ChannelKey) {
        let Some(restore_key) = record::restore_key(place) else { return };
        let now_ms = self.now_ms;
        let Some(process) = self.processes.get_mut(&node) else { return };
        let until_ms = process.now(now_ms).mono_ms + RELEASE_MS;
        for worker in &mut process.workers {
            for (subscriber, held) in worker.held.iter_mut().filter(|(_, held)| *held.restore_key == *restore_key) {
                let hub = held.session.hub().id.clone();
                for channel in held.session.channels() {
                    worker.fanout.detach(&ChannelKey::new(hub.clone(), channel.clone()), *subscriber);
                }
                held.session.let_go();
                (held.given, held.parked_until_ms) = (true, Some(until_ms));
                if let Some(client) = held.client.take() {
                    self.clients[client].disconnect();
                }
            }
        }
    }

    /// Says what this node has of the session that is kept there.
    pub(crate) fn confirm(&mut self, node: u64, place: ChannelKey, work: &mut VecDeque<Work>) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        let restore_key = record::restore_key(&place).unwrap_or_default();
        let mut held = process.workers.iter_mut().flat_map(|worker| worker.held.values_mut());
        match held.find(|held| *held.restore_key == *restore_key && !held.given) {
            Some(held) => held.changed = true,
            None => self.ask(node, 0, place, Ask::Keep { record: None }, work),
        }
    }

    /// Has the cluster keep what has become of the sessions of a node.
    pub(crate) fn keep_changed(&mut self, node: u64, work: &mut VecDeque<Work>) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        let mut asks = Vec::new();
        for (at, worker) in process.workers.iter_mut().enumerate() {
            for held in worker.held.values_mut().filter(|held| held.changed) {
                held.changed = false;
                if !held.given {
                    let record = held.session.record();
                    asks.push((at, record::place(&record.hub, &held.restore_key), Arc::new(record)));
                }
            }
        }
        for (at, place, record) in asks {
            self.ask(node, at, place, Ask::Keep { record: Some(record) }, work);
        }
    }

    /// The session has ended: nobody is to find it.
    pub(crate) fn forget(&mut self, at: At, work: &mut VecDeque<Work>) {
        let held = self
            .processes
            .get_mut(&at.node.node)
            .and_then(|process| process.workers[at.worker].held.get_mut(&at.subscriber));
        let Some(held) = held.filter(|held| !held.given) else { return };
        held.given = true;
        let place = record::place(&held.session.hub().id, &held.restore_key);
        self.ask(at.node.node, at.worker, place, Ask::Keep { record: None }, work);
    }
}
