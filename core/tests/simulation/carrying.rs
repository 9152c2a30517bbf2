//! Carries out what shards and sessions want, and tells clients.

use std::collections::VecDeque;

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::NodeId,
    fanout::{Outcome, Subscriber},
    session::{
        Context, Session,
        effect::Effect as SessionEffect,
        event::{Event as Told, Position},
    },
    shard::request::{Ask, Effect, Listener, Notice, Reply, Request as ShardRequest},
};

use crate::{
    net::Payload,
    world::{Work, World},
};

impl World {
    pub(crate) fn transmit(&mut self, node: u64, to: NodeId, payload: Payload) {
        let Some(process) = self.processes.get(&node) else { return };
        if let Some(link) = process.links.get(&to) {
            self.net.send(self.now_ms, process.id, to, *link, payload, &mut self.chance);
        }
    }

    pub(crate) fn carry_out_shard(&mut self, node: u64, _index: usize, effect: Effect, work: &mut VecDeque<Work>) {
        self.watch(node, &effect);
        self.watch_copies(node, &effect);
        self.watch_leaves(node, &effect);
        match effect {
            Effect::Send { to, message } => {
                if self.trace {
                    println!("{} node {node} to {}: {message:?}", self.now_ms, to.node);
                }
                self.transmit(node, to, Payload::Shard(message));
            }
            Effect::Resumed { .. } => self.count("views resumed"),
            Effect::Served { view } => self.served(node, view),
            Effect::Store { key, ticket, messages } => {
                self.mistakes.push(format!("{key:?} stores {ticket}: {messages:?}"));
            }
            Effect::Deliver { to, delivery } => self.deliver(node, usize::from(to.worker), &delivery),
            Effect::Notify { to, key, notice } => {
                let channel = key.channel.clone();
                let event = match notice {
                    Notice::Presence { change, members } => Told::Presence { channel, change, members },
                    Notice::Occupancy(count) => Told::Occupancy { channel, count },
                    Notice::Uncertain => Told::Error(appsockets_core::session::event::Failure {
                        code: appsockets_core::code::ErrorCode::Uncertain,
                        channel: Some(channel),
                        req_id: None,
                    }),
                };
                let worker = usize::from(to.worker);
                let subscribers: Vec<_> = self.worker(node, worker).fanout.subscribers(&key).collect();
                for subscriber in subscribers {
                    self.tell(node, worker, subscriber, event.clone());
                }
            }
            Effect::Reposition { to, key, position, recovered, known } => {
                let worker = usize::from(to.worker);
                let told =
                    Position { channel: key.channel.clone(), serial: position, recovered: Some(recovered), known };
                for subscriber in self.worker(node, worker).fanout.reposition(&key, position) {
                    self.tell(node, worker, subscriber, Told::Position(told.clone()));
                }
            }
            Effect::LetGo { place } => self.let_go(node, &place),
            Effect::Confirm { place } => self.confirm(node, place, work),
            Effect::Answer { to, token, reply: Reply::Taken(outcome), .. } => {
                self.taken(node, usize::from(to.worker), token.subscriber, outcome, work);
            }
            Effect::Answer { to, key, token, reply } => {
                let worker = usize::from(to.worker);
                let subscriber = token.subscriber;
                self.step(node, worker, subscriber, work, |session, cx| match reply {
                    Reply::Published(outcome) => session.published(key.channel, token.number, outcome, cx),
                    Reply::Subscribed(outcome) => session.subscribed(&key.channel, token.number, outcome, cx),
                    Reply::Presence(_) | Reply::Taken(_) => {}
                });
            }
        }
    }

    fn served(&mut self, node: u64, view: u64) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        let count = process.served.entry(view).or_default();
        *count += 1;
        if *count == process.shards.len() {
            process.served.retain(|other, _| *other > view);
            self.views(node, |views, now, effects| views.served(now, view, effects));
        }
    }

    pub(crate) fn worker(&mut self, node: u64, worker: usize) -> &mut crate::process::Worker {
        &mut self.processes.get_mut(&node).expect("the process lives while it works").workers[worker]
    }

    fn deliver(&mut self, node: u64, worker: usize, delivery: &appsockets_core::shard::delivery::Delivery) {
        let crate::process::Worker { fanout, held } = self.worker(node, worker);
        let mut takers = Vec::new();
        let outcome = fanout.deliver(delivery, |subscriber| {
            takers.extend(held.get(&subscriber).and_then(|held| held.client));
            true
        });
        if let Outcome::OutOfOrder(position) = outcome {
            self.mistakes.push(format!("{delivery:?} does not follow {position}"));
        }
        for client in takers {
            for message in &delivery.messages {
                let outcome = self.clients[client].hear(&delivery.key.channel, message, &mut self.ledger);
                self.note(outcome);
            }
        }
    }

    fn tell(&mut self, node: u64, worker: usize, subscriber: Subscriber, event: Told) {
        let client = self.worker(node, worker).held.get(&subscriber).and_then(|held| held.client);
        if let Some(client) = client {
            if self.trace {
                println!("{} client {client} at {node}: {event:?}", self.now_ms);
            }
            let outcome = self.clients[client].see(event, &mut self.ledger);
            self.note(outcome.map_err(|mistake| format!("client {client}: {mistake}")));
        }
    }

    /// Lets a session take an input; what it wants is done in turn.
    pub(crate) fn step(
        &mut self,
        node: u64,
        worker: usize,
        subscriber: Subscriber,
        work: &mut VecDeque<Work>,
        act: impl FnOnce(&mut Session, &mut Context<'_>),
    ) {
        let now_ms = self.now_ms;
        let config = self.config;
        let Some(process) = self.processes.get_mut(&node) else { return };
        let now = process.now(now_ms);
        let Some(held) = process.workers[worker].held.get_mut(&subscriber) else { return };
        let mut effects = Vec::new();
        act(&mut held.session, &mut Context { now, config: &config, meter: &self.meter, effects: &mut effects });
        // What one step wants goes before all else that waits, as in a worker.
        for effect in effects.into_iter().rev() {
            work.push_front(Work::Session(worker, subscriber, effect));
        }
    }

    pub(crate) fn carry_out_session(
        &mut self,
        node: u64,
        worker: usize,
        subscriber: Subscriber,
        effect: SessionEffect,
        work: &mut VecDeque<Work>,
    ) {
        let parked = self.worker(node, worker).held.get(&subscriber).is_some_and(|held| held.parked_until_ms.is_some());
        match effect {
            SessionEffect::Tell(event) => self.tell(node, worker, subscriber, event),
            SessionEffect::Ack(published) => self.tell(node, worker, subscriber, Told::Ack(vec![published])),
            SessionEffect::Refuse(failure) => self.tell(node, worker, subscriber, Told::Error(failure)),
            SessionEffect::Ask { key, ask } => self.ask(node, worker, key, ask, work),
            SessionEffect::AskFor { listener, key, ask } => {
                self.ask(node, usize::from(listener.worker), key, ask, work);
            }
            SessionEffect::Attach { key, position } if !parked => {
                self.worker(node, worker).fanout.attach(&key, subscriber, position);
            }
            SessionEffect::Attach { .. } => {}
            SessionEffect::Detach { key } => drop(self.worker(node, worker).fanout.detach(&key, subscriber)),
            SessionEffect::Changed => {
                if let Some(held) = self.worker(node, worker).held.get_mut(&subscriber) {
                    held.changed = true;
                }
            }
            SessionEffect::Restore { restore_key, positions } => {
                self.restore(node, worker, subscriber, &restore_key, positions, work);
            }
            SessionEffect::Authenticate(_) | SessionEffect::ReadHistory(_) => {}
            SessionEffect::End(code) => self.mistakes.push(format!("a session is ended: {code:?}")),
        }
    }

    pub(crate) fn ask(&mut self, node: u64, worker: usize, key: ChannelKey, ask: Ask, work: &mut VecDeque<Work>) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        let now = process.now(self.now_ms);
        let index = (key.point() % process.shards.len() as u64) as usize;
        let from = Listener { node, worker: worker as u16 };
        let mut effects = Vec::new();
        process.shards[index].handle(now, ShardRequest { from, key, ask }, &mut effects);
        work.extend(effects.into_iter().map(|effect| Work::Shard(index, effect)));
    }
}
