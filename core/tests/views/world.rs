//! A cluster in one thread: machines, the links between them, gossip, and a clock that jumps to what comes next.

use std::collections::{BTreeMap, BTreeSet};

use appsockets_core::{
    cluster::{
        view::{NodeId, View},
        views::{
            Views,
            message::{Config, Effect, Known, Message},
        },
    },
    time::Now,
};

use crate::{
    chance::Chance,
    fault::Fault,
    judge::{Judge, Verdict},
    wires::{Item, Wires},
};

pub const POINTS: u16 = 12;

/// The first node that is an edge.
pub const EDGE: u64 = 90;

/// One running process.
#[derive(Debug)]
pub struct Node {
    pub views: Views,
    pub core: bool,
    pub leaving: bool,
    /// The life of the link to each peer, as this side sees it.
    up: BTreeMap<NodeId, u64>,
}

/// What happens at a time that was set before.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Tick(NodeId),
    Gossip(NodeId),
    Serve(NodeId, u64),
    Gone(NodeId, NodeId),
}

#[derive(Debug)]
pub struct World {
    pub chance: Chance,
    pub now_ms: u64,
    pub nodes: BTreeMap<NodeId, Node>,
    pub judge: Judge,
    /// Pairs of nodes, the lesser first, between which no link comes up.
    pub cut: BTreeSet<(u64, u64)>,
    /// How often, of a hundred, gossip is wrong about a node.
    pub rumour: u64,
    /// Whether a death becomes known for certain without luck.
    pub calm: bool,
    wires: Wires,
    agenda: BTreeSet<(u64, u64, Event)>,
    scheduled: u64,
    generations: BTreeMap<u64, u64>,
    /// Nodes that went as planned.
    left: BTreeSet<NodeId>,
    fault: Fault,
}

impl World {
    pub fn new(seed: u64, expected: usize, fault: Fault) -> World {
        World {
            chance: Chance(seed),
            now_ms: 1_000,
            nodes: BTreeMap::new(),
            judge: Judge::new(expected),
            cut: BTreeSet::new(),
            rumour: 0,
            calm: false,
            wires: Wires::default(),
            agenda: BTreeSet::new(),
            scheduled: 0,
            generations: BTreeMap::new(),
            left: BTreeSet::new(),
            fault,
        }
    }

    pub fn start(&mut self, node: u64, core: bool) {
        let generation = self.generations.entry(node).or_insert(0);
        *generation += 1;
        let id = NodeId { node, generation: *generation };
        let config = Config {
            me: id,
            expected: self.judge.expected,
            points: POINTS,
            steps: 3,
            chance: self.chance.next(),
            core,
            retry_ms: 120,
            unreachable_ms: 700,
            open_max: 8,
        };
        let views = Views::new(self.now(), config);
        self.nodes.insert(id, Node { views, core, leaving: false, up: BTreeMap::new() });
        // Whoever begins again has heard of the others before. A node that never ran may act before it hears anything.
        let knows = id.generation > 1 || self.chance.percent(50);
        self.schedule(if knows { 0 } else { 50 }, Event::Gossip(id));
        self.schedule(1, Event::Tick(id));
        if self.calm {
            self.tell_all_deaths(id);
        }
    }

    /// The process ends; the others hear of it by chance.
    pub fn crash(&mut self, id: NodeId) {
        for peer in self.wires.peers(id) {
            self.wires.cut(self.now_ms, id, peer, &mut self.chance);
        }
        self.wires.forget(id);
        self.nodes.remove(&id);
        self.judge.dead.insert(id);
        for other in self.nodes.keys().copied().collect::<Vec<_>>() {
            if self.calm || self.chance.percent(50) {
                let delay_ms = self.chance.within(1, 1_500);
                self.schedule(delay_ms, Event::Gone(other, id));
            }
        }
    }

    pub fn break_link(&mut self, a: NodeId, b: NodeId) {
        self.wires.cut(self.now_ms, a, b, &mut self.chance);
    }

    /// Breaks what may not be up, and now and then brings up what may.
    pub fn mend(&mut self, percent: u64) {
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for (a, b) in ids.iter().flat_map(|a| ids.iter().map(move |b| (*a, *b))).filter(|(a, b)| a.node < b.node) {
            match (self.cut.contains(&(a.node, b.node)), self.wires.is_live(a, b)) {
                (true, true) => self.break_link(a, b),
                (false, false) if self.chance.percent(percent) => {
                    self.wires.connect(self.now_ms, a, b, &mut self.chance);
                }
                _ => {}
            }
        }
    }

    /// From now on nothing goes wrong any more.
    pub fn calm_down(&mut self) {
        (self.calm, self.rumour) = (true, 0);
        self.cut.clear();
        let missing: Vec<u64> = self.generations.keys().copied().filter(|node| !self.runs(*node)).collect();
        for node in missing {
            if !self.has_left(node) {
                self.start(node, node < EDGE);
            }
        }
        for id in self.nodes.keys().copied().collect::<Vec<_>>() {
            self.tell_all_deaths(id);
        }
    }

    /// Whether the node left as planned, so nobody starts it again.
    pub fn has_left(&self, node: u64) -> bool {
        self.left.iter().any(|id| id.node == node)
    }

    pub fn describe(&self) -> String {
        let nodes = self.nodes.iter().map(|(id, node)| {
            let (view, settled) = (node.views.view(), node.views.settled());
            format!("\n{}.{} leaving {} settled {settled} at {view:?}", id.node, id.generation, node.leaving)
        });
        nodes.collect()
    }

    pub fn has_run(&self, node: u64) -> bool {
        self.generations.contains_key(&node)
    }

    pub fn runs(&self, node: u64) -> bool {
        self.nodes.keys().any(|id| id.node == node)
    }

    /// Lives until then.
    pub fn run_until(&mut self, end_ms: u64) -> Verdict {
        loop {
            let event_ms = self.agenda.first().map(|(at_ms, ..)| *at_ms);
            let next_ms = event_ms.into_iter().chain(self.wires.next_ms()).min();
            let Some(next_ms) = next_ms.filter(|next_ms| *next_ms <= end_ms) else {
                self.now_ms = end_ms;
                return Ok(());
            };
            self.now_ms = self.now_ms.max(next_ms);
            if let Some((from, to, item)) = self.wires.pop_due(self.now_ms) {
                self.arrive(from, to, item)?;
            } else if let Some((_, _, event)) = self.agenda.pop_first() {
                self.happen(event)?;
            }
        }
    }

    /// Whether everything is as it should be when nothing goes wrong.
    pub fn is_at_rest(&self) -> bool {
        let Some(view) = self.nodes.values().next().and_then(|node| node.views.view().cloned()) else { return false };
        self.nodes.iter().all(|(id, node)| self.is_well(*id, node, &view))
    }

    fn is_well(&self, id: NodeId, node: &Node, view: &View) -> bool {
        let points = view.member(id).map(|member| member.points);
        let others_live = view.members.iter().all(|member| self.nodes.contains_key(&member.id));
        let mut peers = self.nodes.keys().filter(|peer| **peer != id);
        others_live
            && !node.leaving
            && node.views.view().is_some_and(|own| **own == *view)
            && node.views.settled() == view.number
            && node.views.side().is_none()
            && points == node.core.then_some(POINTS)
            && peers.all(|peer| self.judge.is_on(id, *peer))
    }

    fn now(&self) -> Now {
        Now { mono_ms: self.now_ms, unix_ms: 1_700_000_000_000 + self.now_ms / 50 }
    }

    fn schedule(&mut self, delay_ms: u64, event: Event) {
        self.scheduled += 1;
        self.agenda.insert((self.now_ms + delay_ms, self.scheduled, event));
    }

    fn tell_all_deaths(&mut self, id: NodeId) {
        for dead in self.judge.dead.clone() {
            let delay_ms = self.chance.within(1, 1_500);
            self.schedule(delay_ms, Event::Gone(id, dead));
        }
    }

    fn arrive(&mut self, from: NodeId, to: NodeId, item: Item) -> Verdict {
        let Some(node) = self.nodes.get_mut(&to) else { return Ok(()) };
        match item {
            Item::Up(life) => {
                node.up.insert(from, life);
                self.judge.link(to, from);
                self.input(to, |views, now, effects| views.link_up(now, from, effects))
            }
            Item::Down(life) => {
                node.up.retain(|peer, up| *peer != from || *up != life);
                self.judge.link(to, from);
                self.input(to, |views, now, effects| views.link_down(now, from, effects))
            }
            Item::Message(life, _) if node.up.get(&from) != Some(&life) => Ok(()),
            Item::Message(_, message) => {
                self.judge.hears(to, from, &message);
                self.input(to, |views, now, effects| views.receive(now, from, message, effects))
            }
        }
    }

    fn happen(&mut self, event: Event) -> Verdict {
        match event {
            Event::Tick(id) => {
                let now_ms = self.now_ms;
                let is_due = |node: &Node| node.views.next_tick_ms().is_some_and(|due_ms| due_ms <= now_ms);
                if !self.nodes.get(&id).is_some_and(is_due) {
                    return Ok(());
                }
                self.input(id, |views, now, effects| views.tick(now, effects))?;
                if self.nodes.get(&id).is_some_and(is_due) { Err(format!("{id:?} is never done")) } else { Ok(()) }
            }
            Event::Gossip(id) => {
                let Some(known) = self.gossip_of(id) else { return Ok(()) };
                let delay_ms = self.chance.within(50, 350);
                self.schedule(delay_ms, Event::Gossip(id));
                self.input(id, |views, now, effects| views.gossip(now, known, effects))
            }
            Event::Serve(id, number) => {
                let Some(node) = self.nodes.get(&id) else { return Ok(()) };
                if let Some(view) = node.views.view().filter(|view| view.number == number) {
                    self.judge.serves(id, view);
                }
                self.input(id, |views, now, effects| views.served(now, number, effects))
            }
            Event::Gone(id, dead) => self.input(id, |views, now, effects| views.gone(now, dead, effects)),
        }
    }

    /// What that node hears of all others, right or wrong.
    fn gossip_of(&mut self, id: NodeId) -> Option<Vec<Known>> {
        self.nodes.get(&id)?;
        let ids: BTreeSet<NodeId> = self.nodes.keys().chain(&self.judge.dead).copied().collect();
        let mut known = Vec::new();
        for other in ids {
            let node = self.nodes.get(&other);
            let apart = self.cut.contains(&(id.node.min(other.node), id.node.max(other.node)));
            let wrong = other != id && self.chance.percent(self.rumour);
            let alive = (node.is_some() && !apart) != (wrong && node.is_some());
            let misses = |peer: &&NodeId| **peer != other && node.is_some_and(|node| !node.up.contains_key(peer));
            let unreachable = self.nodes.keys().filter(misses).copied().collect();
            let (core, leaving) = node.map_or((true, false), |node| (node.core, node.leaving));
            known.push(Known { id: other, core, leaving, alive, unreachable });
        }
        Some(known)
    }

    fn input(&mut self, id: NodeId, input: impl FnOnce(&mut Views, Now, &mut Vec<Effect>)) -> Verdict {
        let now = self.now();
        let Some(node) = self.nodes.get_mut(&id) else { return Ok(()) };
        let mut effects = Vec::new();
        input(&mut node.views, now, &mut effects);
        let next_ms = node.views.next_tick_ms();
        for effect in effects {
            self.judge.does(id, &effect)?;
            self.carry_out(id, effect);
        }
        let Some(node) = self.nodes.get(&id) else { return Ok(()) };
        self.judge.rests(id, |peer| node.views.is_gone(peer))?;
        if let Some(next_ms) = next_ms {
            self.schedule(next_ms.saturating_sub(self.now_ms), Event::Tick(id));
        }
        self.leave_if_out(id);
        Ok(())
    }

    fn carry_out(&mut self, id: NodeId, effect: Effect) {
        match effect {
            Effect::Send { to, message } => self.send(id, to, message),
            Effect::Install { view, .. } => {
                let delay_ms = self.chance.within(1, 200);
                self.schedule(delay_ms, Event::Serve(id, view.number));
            }
            Effect::Dissolve => {
                let core = self.nodes.get(&id).is_some_and(|node| node.core);
                self.crash(id);
                self.start(id.node, core);
            }
            Effect::Settled { .. } | Effect::Session { .. } | Effect::Side(_) | Effect::SideSession { .. } => {}
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let Some(life) = self.nodes.get(&from).and_then(|node| node.up.get(&to)).copied() else { return };
        let message = self.fault.disturb(message);
        if let Some(answer) = self.fault.fake_answer(to, &message, &mut self.chance) {
            self.judge.sent(to, &answer);
            return self.wires.send(self.now_ms, to, from, life, answer, &mut self.chance);
        }
        self.judge.sent(from, &message);
        self.wires.send(self.now_ms, from, to, life, message, &mut self.chance);
    }

    fn leave_if_out(&mut self, id: NodeId) {
        let out = |node: &Node| node.leaving && node.views.view().is_some_and(|view| !view.contains(id));
        if self.nodes.get(&id).is_some_and(out) {
            self.left.insert(id);
            self.crash(id);
        }
    }
}
