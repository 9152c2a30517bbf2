//! The whole cluster in one thread: processes, links between them, clients, and everything that goes wrong.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use appsockets_core::{
    bucket::SharedBucket,
    channel::ChannelKey,
    cluster::{
        view::NodeId,
        views::message::{Effect as ViewEffect, Known},
    },
    fanout::Subscriber,
    session::{self, Context, Opening, Session, effect::Effect as SessionEffect, request::Request},
    settings::hub::Hub,
    shard::request::Effect,
};

use crate::{
    aimed::Round,
    chance::Chance,
    client::{At, Client},
    copied::Copied,
    counting::Counting,
    hubs,
    leaves::Leave,
    ledger::Ledger,
    net::{Event, Net, Payload},
    plan::Plan,
    process::{Held, Process, RESTORE_MS},
};

/// What is left to do within a process.
pub(crate) enum Work {
    Shard(usize, Effect),
    Session(usize, Subscriber, SessionEffect),
}

#[derive(Debug)]
pub struct World {
    pub plan: Plan,
    pub now_ms: u64,
    pub chance: Chance,
    pub net: Net,
    pub processes: BTreeMap<u64, Process>,
    pub generations: BTreeMap<u64, u64>,
    pub restart_ms: BTreeMap<u64, u64>,
    /// When processes ended, and whether they were leaving.
    pub ended: BTreeMap<NodeId, (u64, bool)>,
    /// Nodes that an observer takes for dead although they live, until then.
    pub suspected: BTreeMap<(u64, u64), u64>,
    pub cut_since: BTreeMap<(u64, u64), u64>,
    pub clients: Vec<Client>,
    pub hubs: Vec<Arc<Hub>>,
    pub ledger: Ledger,
    pub mistakes: Vec<String>,
    pub counts: BTreeMap<&'static str, u64>,
    pub counting: Counting,
    pub copied: Copied,
    pub said_leaves: Vec<Leave>,
    pub config: session::Config,
    pub ids: u64,
    pub trace: bool,
    pub round: Round,
    /// A majority was lost, and its cluster is not in its place again.
    pub founding_anew: bool,
    pub(crate) meter: SharedBucket,
}

impl World {
    pub fn new(plan: Plan) -> World {
        let mut chance = Chance::new(plan.seed);
        let hubs = hubs::hubs(plan.redundancy, plan.copies("c0"), plan.required);
        let mut world = World {
            now_ms: 10_000,
            net: Net::new(plan.delay_ms),
            processes: BTreeMap::new(),
            generations: BTreeMap::new(),
            restart_ms: BTreeMap::new(),
            ended: BTreeMap::new(),
            suspected: BTreeMap::new(),
            cut_since: BTreeMap::new(),
            clients: (0..plan.clients).map(|client| Client::new(&hubs[client % hubs.len()].id)).collect(),
            hubs,
            ledger: Ledger::default(),
            mistakes: Vec::new(),
            counts: BTreeMap::new(),
            counting: Counting::default(),
            copied: Copied::default(),
            said_leaves: Vec::new(),
            config: hubs::session_config(),
            ids: 0,
            trace: false,
            round: Round::default(),
            founding_anew: false,
            meter: SharedBucket::default(),
            chance: Chance::new(chance.number()),
            plan,
        };
        for node in 0..world.plan.nodes + world.plan.edges {
            world.start(node);
        }
        world
    }

    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub fn note(&mut self, outcome: Result<(), String>) {
        if let Err(mistake) = outcome {
            self.mistakes.push(format!("at {} ms: {mistake}", self.now_ms));
        }
    }

    pub fn living(&self) -> Vec<NodeId> {
        self.processes.values().map(|process| process.id).collect()
    }

    /// Lets so much time pass.
    pub fn pass(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            self.ledger.now_ms = self.now_ms;
            if self.now_ms.is_multiple_of(10) {
                self.tick();
            }
            while let Some(event) = self.net.next(self.now_ms) {
                if let Some(event) = self.net.passes(event) {
                    self.arrive(event);
                }
            }
        }
    }

    pub fn start(&mut self, node: u64) {
        let generation = self.generations.entry(node).or_default();
        *generation += 1;
        let process = Process::new(&self.plan, node, *generation, self.now_ms, &self.hubs, &mut self.chance);
        self.processes.insert(node, process);
    }

    /// The process ends without a word.
    pub fn crash(&mut self, node: u64) {
        let reached = self.is_reached(node);
        let Some(process) = self.processes.remove(&node) else { return };
        self.net.end(self.now_ms, process.id, &mut self.chance);
        self.ended.insert(process.id, (self.now_ms, process.leaving));
        for client in 0..self.clients.len() {
            if self.clients[client].at.is_some_and(|at| at.node == process.id) {
                self.clients[client].broken(self.now_ms, reached);
            }
        }
        // Where only the process ended, its machine refuses connections.
        if self.chance.per_mille(600) {
            for at in self.living() {
                let ms = self.now_ms + self.chance.between(5, 80);
                self.net.at(ms, Event::Gone { at, node: process.id });
            }
        }
        let back_ms = self.now_ms + self.chance.between(100, 2_500);
        self.restart_ms.insert(node, back_ms);
    }

    /// Whether nothing stands between a node and the others.
    fn is_reached(&self, node: u64) -> bool {
        let paused = self.processes.get(&node).is_some_and(|process| process.paused_until_ms.is_some());
        let newest = self.processes.values().map(|process| process.view_number()).max();
        let links = self.processes.get(&node).is_some_and(|process| {
            Some(process.view_number()) == newest && process.links.len() + 1 == self.processes.len()
        });
        !paused && links && !self.net.cuts.iter().any(|(from, to)| *from == node || *to == node)
    }

    fn tick(&mut self) {
        let due: Vec<_> = self.restart_ms.iter().filter(|(_, ms)| **ms <= self.now_ms).map(|(node, _)| *node).collect();
        for node in due {
            self.restart_ms.remove(&node);
            self.start(node);
        }
        let living = self.living();
        let now_ms = self.now_ms;
        let stuck: BTreeSet<_> =
            self.processes.values().filter(|process| process.paused_until_ms.is_some()).map(|p| p.id).collect();
        self.net.poll(now_ms, &living, |id| stuck.contains(&id), &mut self.chance);
        for node in living {
            self.tick_process(node.node);
        }
    }

    fn tick_process(&mut self, node: u64) {
        let now_ms = self.now_ms;
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.paused_until_ms.is_some_and(|until_ms| until_ms > now_ms) {
            return;
        }
        process.paused_until_ms = None;
        for event in std::mem::take(&mut process.inbox) {
            self.arrive(event);
        }
        if now_ms.is_multiple_of(50) {
            self.gossip(node);
        }
        self.views(node, |views, now, effects| {
            if views.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms) {
                views.tick(now, effects);
            }
        });
        self.shards(node, |shard, now, effects| {
            if shard.next_tick_ms().is_some_and(|ms| ms <= now.mono_ms) {
                shard.tick(now, effects);
            }
        });
        self.tick_sessions(node);
    }

    fn tick_sessions(&mut self, node: u64) {
        let Some(process) = self.processes.get(&node) else { return };
        let now = process.now(self.now_ms);
        let mut ended = Vec::new();
        for (worker, hosted) in process.workers.iter().enumerate() {
            for (subscriber, held) in &hosted.held {
                if held.parked_until_ms.is_some_and(|until_ms| until_ms <= now.mono_ms) {
                    ended.push(At { node: process.id, worker, subscriber: *subscriber });
                }
            }
        }
        ended.into_iter().for_each(|at| self.leave(at));
    }

    /// What this process hears of the others by gossip.
    fn gossip(&mut self, node: u64) {
        let Some(observer) = self.processes.get(&node) else { return };
        let now_ms = self.now_ms;
        let hears = |other: &Process| {
            let stale = |since_ms: &u64| since_ms + 200 < now_ms;
            let cut = self.cut_since.get(&(other.id.node, node)).is_some_and(stale);
            let paused = other.paused_until_ms.is_some();
            let suspected = self.suspected.get(&(node, other.id.node)).is_some_and(|until_ms| *until_ms > now_ms);
            !(cut || paused || suspected)
        };
        let unreachable = |process: &Process| {
            let others = self.processes.values().filter(|other| other.id != process.id);
            others.filter(|other| !self.net.is_up(other.id, process.id)).map(|other| other.id).collect()
        };
        let known: Vec<_> = self
            .processes
            .values()
            .map(|process| Known {
                id: process.id,
                core: process.core,
                leaving: process.leaving,
                alive: process.id == observer.id || hears(process),
                unreachable: unreachable(process),
            })
            .collect();
        let dead = self.ended.iter().filter(|(id, _)| !self.processes.values().any(|process| process.id == **id));
        let dead = dead.map(|(id, (ended_ms, leaving))| Known {
            id: *id,
            core: id.node < self.plan.nodes,
            leaving: *leaving,
            alive: ended_ms + 200 > now_ms,
            unreachable: Vec::new(),
        });
        let known: Vec<_> = known.iter().cloned().chain(dead).collect();
        let alive: BTreeSet<_> = known.iter().filter(|known| known.alive).map(|known| known.id).collect();
        self.views(node, |views, now, effects| views.gossip(now, known.clone(), effects));
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.alive != alive {
            process.alive = alive.clone();
            self.shards(node, |shard, now, effects| shard.set_alive(now, alive.clone(), effects));
        }
    }

    fn arrive(&mut self, event: Event) {
        let to = event.receiver();
        let Some(process) = self.processes.get_mut(&to.node).filter(|process| process.id == to) else { return };
        if process.paused_until_ms.is_some() {
            process.inbox.push_back(event);
            return;
        }
        match event {
            Event::Message { from, link, payload, .. } => {
                if process.links.get(&from) != Some(&link) {
                    return;
                }
                match payload {
                    Payload::View(message) => {
                        self.views(to.node, |views, now, effects| views.receive(now, from, message.clone(), effects));
                    }
                    Payload::Shard(message) => self.take(to.node, from, message),
                }
            }
            Event::Up { peer, link, .. } => {
                process.links.insert(peer, link);
                self.views(to.node, |views, now, effects| views.link_up(now, peer, effects));
            }
            Event::Down { peer, link, .. } => {
                if process.links.get(&peer) == Some(&link) {
                    process.links.remove(&peer);
                    self.views(to.node, |views, now, effects| views.link_down(now, peer, effects));
                }
            }
            Event::Gone { node, .. } => self.views(to.node, |views, now, effects| views.gone(now, node, effects)),
        }
    }

    fn take(&mut self, node: u64, from: NodeId, message: appsockets_core::shard::peer::PeerMessage) {
        use appsockets_core::shard::peer::Body;
        let workers = self.plan.workers;
        let only = match &message.body {
            Body::Channel { key, .. } => Some(key.point() % workers),
            Body::All { .. } => None,
        };
        let mut index = 0;
        let arrival = self.watch_arrival(node, from, &message);
        self.shards(node, |shard, now, effects| {
            if only.is_none_or(|only| only == index) {
                shard.receive(now, from, message.clone(), effects);
            }
            index += 1;
        });
        self.watch_taken(arrival);
    }

    /// Lets the views of a process take an input, and does what follows.
    pub(crate) fn views(
        &mut self,
        node: u64,
        input: impl FnOnce(&mut appsockets_core::cluster::views::Views, appsockets_core::time::Now, &mut Vec<ViewEffect>),
    ) {
        let mut effects = Vec::new();
        let Some(process) = self.processes.get_mut(&node) else { return };
        let now = process.now(self.now_ms);
        input(&mut process.views, now, &mut effects);
        let news = |id: &&NodeId| process.views.is_gone(**id) && !process.gone.contains(*id);
        let gone: Vec<_> = self.ended.keys().filter(news).copied().collect();
        process.gone.extend(&gone);
        for id in gone {
            self.shards(node, |shard, now, effects| shard.gone(now, id, effects));
        }
        // What follows from one effect comes after all that were wanted with it.
        let Some(process) = self.processes.get_mut(&node) else { return };
        let busy = !process.wanted.is_empty();
        process.wanted.extend(effects);
        while !busy && let Some(effect) = self.processes.get(&node).and_then(|process| process.wanted.front().cloned())
        {
            self.carry_out_view(node, effect);
            self.processes.get_mut(&node).and_then(|process| process.wanted.pop_front());
        }
    }

    fn carry_out_view(&mut self, node: u64, effect: ViewEffect) {
        self.watch_views(node, &effect);
        match effect {
            ViewEffect::Send { to, message } => self.transmit(node, to, Payload::View(message)),
            ViewEffect::Install { view, open } => {
                if self.trace {
                    println!("{} node {node} installs {view:?} after {open:?}", self.now_ms);
                }
                self.count("views installed");
                self.shards(node, |shard, now, effects| shard.install(now, view.clone(), open.clone(), effects));
            }
            ViewEffect::Settled { number } => {
                self.count("views settled");
                self.shards(node, |shard, _, _| shard.settled(number));
            }
            ViewEffect::Session { peer, on } => {
                let workers = self.plan.workers;
                if self.trace {
                    println!("{} node {node} session with {peer:?}: {on}", self.now_ms);
                }
                self.shards(node, |shard, now, effects| shard.session(now, peer, on.then_some(workers), effects));
            }
            ViewEffect::Side(view) => {
                if self.trace {
                    println!("{} node {node} stands aside: {view:?}", self.now_ms);
                }
                if view.is_some() {
                    self.count("side views stood at");
                }
                self.shards(node, |shard, now, effects| shard.set_side(now, view.clone(), effects));
            }
            ViewEffect::SideSession { peer, on } => {
                let workers = self.plan.workers;
                if self.trace {
                    println!("{} node {node} side session with {peer:?}: {on}", self.now_ms);
                }
                self.shards(node, |shard, now, effects| shard.side_session(now, peer, on.then_some(workers), effects));
            }
            ViewEffect::Dissolve => {
                self.count("clusters dissolved");
                self.crash(node);
                self.restart_ms.insert(node, self.now_ms + 10);
            }
        }
    }

    /// Lets every shard of a process take an input, and does what follows.
    pub fn shards(
        &mut self,
        node: u64,
        mut input: impl FnMut(&mut appsockets_core::shard::sides::Sides, appsockets_core::time::Now, &mut Vec<Effect>),
    ) {
        let mut work = VecDeque::new();
        let Some(process) = self.processes.get_mut(&node) else { return };
        let now = process.now(self.now_ms);
        for (index, shard) in process.shards.iter_mut().enumerate() {
            let mut effects = Vec::new();
            input(shard, now, &mut effects);
            work.extend(effects.into_iter().map(|effect| Work::Shard(index, effect)));
        }
        self.settle(node, work);
    }

    /// Carries out what is left to do, and what follows, until the turn is over.
    pub(crate) fn settle(&mut self, node: u64, mut work: VecDeque<Work>) {
        loop {
            while let Some(item) = work.pop_front() {
                match item {
                    Work::Shard(index, effect) => self.carry_out_shard(node, index, effect, &mut work),
                    Work::Session(worker, subscriber, effect) => {
                        self.carry_out_session(node, worker, subscriber, effect, &mut work);
                    }
                }
            }
            let Some(process) = self.processes.get_mut(&node) else { return };
            let now = process.now(self.now_ms);
            for (index, shard) in process.shards.iter_mut().enumerate() {
                let mut effects = Vec::new();
                shard.end_turn(now, &mut effects);
                work.extend(effects.into_iter().map(|effect| Work::Shard(index, effect)));
            }
            self.keep_changed(node, &mut work);
            if work.is_empty() {
                return;
            }
        }
    }

    /// Connects a client that has no connection.
    pub fn connect(&mut self, client: usize, node: u64) {
        let Some(process) = self.processes.get_mut(&node) else { return };
        if process.paused_until_ms.is_some() {
            return;
        }
        process.made += 1;
        let made = process.made;
        let worker = (self.chance.number() % process.workers.len() as u64) as usize;
        let subscriber = Subscriber { slot: made, generation: 1 };
        let at = At { node: process.id, worker, subscriber };
        let id = format!("{}.{}.{made}", process.id.node, process.id.generation);
        let hub = self.hubs[client % self.hubs.len()].clone();
        let key: Arc<str> = format!("key-{id}").into();
        let opening = Opening {
            subscriber,
            id: id.clone().into(),
            restore_key: key.clone(),
            hub,
            identity: None,
            one_way: false,
            channels: Vec::new(),
        };
        let now = process.now(self.now_ms);
        let mut effects = Vec::new();
        let mut cx = Context { now, config: &self.config, meter: &self.meter, effects: &mut effects };
        let session = Session::open(opening, &mut cx);
        process.workers[worker].held.insert(subscriber, Held::new(session, client, key));
        self.clients[client].at = Some(at);
        self.clients[client].began_ms = self.now_ms;
        let work = effects.into_iter().map(|effect| Work::Session(worker, subscriber, effect)).collect();
        self.settle(node, work);
    }

    /// The client sends a request, if it is connected to a process that takes something.
    pub fn request(&mut self, client: usize, request: Request) {
        let Some(at) = self.clients[client].at else { return };
        let mut work = VecDeque::new();
        self.step(at.node.node, at.worker, at.subscriber, &mut work, |session, cx| session.request(request, cx));
        self.settle(at.node.node, work);
    }

    /// The connection breaks, and the node notices.
    pub fn break_connection(&mut self, client: usize) {
        let Some(at) = self.clients[client].at else { return };
        let reached = self.is_reached(at.node.node);
        self.clients[client].broken(self.now_ms, reached);
        let Some(process) = self.processes.get_mut(&at.node.node) else { return };
        let until_ms = process.now(self.now_ms).mono_ms + RESTORE_MS;
        let worker = &mut process.workers[at.worker];
        let Some(held) = worker.held.get_mut(&at.subscriber) else { return };
        let hub = held.session.hub().id.clone();
        for channel in held.session.channels() {
            let key = ChannelKey::new(hub.clone(), channel.clone());
            worker.fanout.detach(&key, at.subscriber);
        }
        held.client = None;
        held.parked_until_ms = Some(until_ms);
    }

    /// Ends a session on purpose.
    pub fn leave(&mut self, at: At) {
        let mut work = VecDeque::new();
        self.step(at.node.node, at.worker, at.subscriber, &mut work, Session::leave_all);
        self.forget(at, &mut work);
        self.settle(at.node.node, work);
        if let Some(process) = self.processes.get_mut(&at.node.node).filter(|process| process.id == at.node) {
            process.workers[at.worker].held.remove(&at.subscriber);
        }
    }
}
