//! What travels between workers, and the shard on the first of them.

use std::collections::VecDeque;

use appsockets_core::{
    fanout::{Outcome, Subscriber},
    session::{Carried, event::Event, request::SubscribeInfo},
    shard::{
        delivery::Delivery,
        request::{Ask, Effect as ShardEffect, Listener, Notice, Reply, Request as ShardRequest},
    },
};

use super::{At, Worker, World};

/// What travels between workers.
#[derive(Debug)]
pub(super) enum Letter {
    Ask(ShardRequest),
    Effect(ShardEffect),
    Take { old: Subscriber, taker: At, positions: Vec<SubscribeInfo> },
    Taken { taker: At, carried: Option<Box<Carried>>, positions: Vec<SubscribeInfo> },
}

impl World {
    /// Lets some letters of one link arrive.
    pub fn arrive(&mut self, link: usize, letters: usize) {
        let Some(link) = self.links.keys().copied().cycle().nth(link % self.links.len().max(1)) else { return };
        for _ in 0..letters {
            let Some(letter) = self.links.get_mut(&link).and_then(VecDeque::pop_front) else { return };
            self.receive(link.1, letter);
        }
    }

    /// Lets everything arrive between workers, which learn nothing new meanwhile.
    pub fn arrive_between(&mut self) {
        while let Some(link) = self.links.iter().find(|(_, letters)| !letters.is_empty()).map(|(link, _)| *link) {
            if let Some(letter) = self.links.get_mut(&link).and_then(VecDeque::pop_front) {
                self.receive(link.1, letter);
            }
        }
    }

    /// Lets arrive what waits on the worker of the shard, and nothing between workers.
    pub fn arrive_at_the_shard(&mut self) {
        while let Some(letter) = self.links.get_mut(&(0, 0)).and_then(VecDeque::pop_front) {
            self.receive(0, letter);
        }
    }

    /// Lets everything arrive and be answered, but for stores.
    pub fn settle(&mut self) {
        loop {
            self.learn_all();
            while !self.auths.is_empty() {
                self.answer_auth();
            }
            self.arrive_between();
            self.turn();
            if self.links.values().all(VecDeque::is_empty) && self.auths.is_empty() {
                return;
            }
        }
    }

    /// The shard's turn ends.
    pub fn turn(&mut self) {
        let mut effects = Vec::new();
        self.shard.end_turn(self.now, &mut effects);
        self.route(effects);
    }

    /// Answers the oldest store.
    pub fn answer_store(&mut self, ok: bool) {
        let Some((key, ticket, messages)) = self.stores.pop_front() else { return };
        if ok {
            self.ledger.stored(&key, &messages);
        }
        let mut effects = Vec::new();
        self.shard.stored(self.now, &key, ticket, ok, &mut effects);
        self.route(effects);
    }

    pub(super) fn post(&mut self, from: usize, to: usize, letter: Letter) {
        self.links.entry((from, to)).or_default().push_back(letter);
    }

    pub(super) fn receive(&mut self, worker: usize, letter: Letter) {
        match letter {
            Letter::Ask(request) => self.handle(request),
            Letter::Effect(effect) => self.hear(worker, effect),
            Letter::Take { old, taker, positions } => {
                // A session is handed over only after its own requests are on their way, or the owner would hear of the
                // subscription that was taken over after it has heard of its end.
                if worker == 0 {
                    self.arrive_at_the_shard();
                }
                let carried = self.take(worker, old);
                self.post(worker, taker.worker, Letter::Taken { taker, carried, positions });
            }
            Letter::Taken { taker, carried, positions } => self.taken(taker, carried, &positions),
        }
    }

    pub(super) fn handle(&mut self, request: ShardRequest) {
        if let Ask::Publish(publish) = &request.ask {
            self.ledger.handled(publish.token.number, self.now);
        }
        self.notices.asked(&request);
        let mut effects = Vec::new();
        self.shard.handle(self.now, request, &mut effects);
        self.route(effects);
    }

    /// Sends the shard's effects to the workers, and judges them.
    pub(super) fn route(&mut self, effects: Vec<ShardEffect>) {
        for effect in self.fault.spoil(effects) {
            self.said.push(effect.clone());
            let outcome = self.notices.told(&effect, self.now);
            self.note(outcome);
            if let Some((to, effect)) = self.judge(effect) {
                self.post(0, usize::from(to.worker), Letter::Effect(effect));
            }
        }
    }

    pub(super) fn judge(&mut self, effect: ShardEffect) -> Option<(Listener, ShardEffect)> {
        match effect {
            ShardEffect::Store { key, ticket, messages } => {
                self.stores.push_back((key, ticket, messages));
                None
            }
            ShardEffect::Answer { to, key, mut token, reply: Reply::Published(outcome) } => {
                let answer = self.ledger.answer(token.number, outcome, self.now);
                let asked = answer.unwrap_or_else(|mistake| {
                    self.mistakes.push(mistake);
                    None
                });
                token = asked?;
                Some((to, ShardEffect::Answer { to, key, token, reply: Reply::Published(outcome) }))
            }
            ShardEffect::Answer { to, .. } | ShardEffect::Notify { to, .. } | ShardEffect::Reposition { to, .. } => {
                Some((to, effect))
            }
            ShardEffect::LetGo { .. }
            | ShardEffect::Confirm { .. }
            | ShardEffect::Send { .. }
            | ShardEffect::Resumed { .. }
            | ShardEffect::Served { .. } => None,
            ShardEffect::Deliver { to, ref delivery } => {
                let outcome = self.ledger.deliver(delivery);
                self.note(outcome);
                Some((to, effect))
            }
        }
    }

    pub(super) fn hear(&mut self, worker: usize, effect: ShardEffect) {
        match effect {
            ShardEffect::Deliver { delivery, .. } => self.deliver(worker, &delivery),
            ShardEffect::Notify { key, notice, .. } => {
                for subscriber in self.workers[worker].fanout.subscribers(&key).collect::<Vec<_>>() {
                    let channel = key.channel.clone();
                    let event = match notice.clone() {
                        Notice::Presence { change, members } => Event::Presence { channel, change, members },
                        Notice::Occupancy(count) => Event::Occupancy { channel, count },
                        Notice::Uncertain => panic!("a node that is alone is certain"),
                    };
                    self.tell(At { worker, subscriber }, event);
                }
            }
            ShardEffect::Answer { key, token, reply, .. } => {
                self.step(At { worker, subscriber: token.subscriber }, |session, cx| match reply {
                    Reply::Published(outcome) => session.published(key.channel, token.number, outcome, cx),
                    Reply::Subscribed(outcome) => session.subscribed(&key.channel, token.number, outcome, cx),
                    Reply::Presence(_) | Reply::Taken(_) => panic!("no session asks for it here"),
                });
            }
            ShardEffect::Store { .. } => {}
            ShardEffect::Reposition { .. }
            | ShardEffect::LetGo { .. }
            | ShardEffect::Confirm { .. }
            | ShardEffect::Send { .. }
            | ShardEffect::Resumed { .. }
            | ShardEffect::Served { .. } => {
                self.mistakes.push(format!("a node that is alone wants {effect:?}"));
            }
        }
    }

    pub(super) fn deliver(&mut self, worker: usize, delivery: &Delivery) {
        let Worker { fanout, held, .. } = &mut self.workers[worker];
        let mut takers = Vec::new();
        let hides_gap = self.fault.hides_gap();
        let outcome = fanout.deliver(delivery, |subscriber| match held.get_mut(&subscriber) {
            Some(held) if !held.full => {
                takers.extend(held.client);
                true
            }
            Some(held) => {
                held.lagging.insert(delivery.key.channel.clone());
                hides_gap
            }
            None => false,
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

    pub(super) fn note(&mut self, outcome: Result<(), String>) {
        self.mistakes.extend(outcome.err());
    }
}
