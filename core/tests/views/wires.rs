//! Links between nodes: in order and without loss while they live; a break loses the end of what was under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use appsockets_core::cluster::{view::NodeId, views::message::Message};

use crate::chance::Chance;

/// What comes out of a wire.
#[derive(Clone, Debug)]
pub enum Item {
    Up(u64),
    Message(u64, Message),
    Down(u64),
}

/// Every link that ever was. Each life of a link has a number.
#[derive(Debug, Default)]
pub struct Wires {
    wires: BTreeMap<(NodeId, NodeId), VecDeque<(u64, Item)>>,
    /// When to look at which wire; a break may have taken what was due.
    due: BTreeSet<(u64, NodeId, NodeId)>,
    lives: BTreeMap<(NodeId, NodeId), (u64, bool)>,
}

impl Wires {
    pub fn is_live(&self, a: NodeId, b: NodeId) -> bool {
        self.lives.get(&both(a, b)).is_some_and(|(_, live)| *live)
    }

    pub fn connect(&mut self, now_ms: u64, a: NodeId, b: NodeId, chance: &mut Chance) {
        let life = self.lives.entry(both(a, b)).or_insert((0, false));
        *life = (life.0 + 1, true);
        let life = life.0;
        self.push(now_ms, a, b, Item::Up(life), chance);
        self.push(now_ms, b, a, Item::Up(life), chance);
    }

    /// `life` is that of the link which the sender believes to be up.
    pub fn send(&mut self, now_ms: u64, from: NodeId, to: NodeId, life: u64, message: Message, chance: &mut Chance) {
        if self.lives.get(&both(from, to)) == Some(&(life, true)) {
            self.push(now_ms, from, to, Item::Message(life, message), chance);
        }
    }

    pub fn cut(&mut self, now_ms: u64, a: NodeId, b: NodeId, chance: &mut Chance) {
        let Some(life) = self.lives.get_mut(&both(a, b)).filter(|(_, live)| *live) else { return };
        life.1 = false;
        let life = life.0;
        for (from, to) in [(a, b), (b, a)] {
            let wire = self.wires.entry((from, to)).or_default();
            while matches!(wire.back(), Some((_, Item::Message(..)))) && chance.percent(60) {
                wire.pop_back();
            }
            self.push(now_ms, from, to, Item::Down(life), chance);
        }
    }

    pub fn peers(&self, id: NodeId) -> Vec<NodeId> {
        let live = self.lives.iter().filter(|(pair, (_, live))| *live && (pair.0 == id || pair.1 == id));
        live.map(|(pair, _)| if pair.0 == id { pair.1 } else { pair.0 }).collect()
    }

    /// What is due, in order for each pair.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(NodeId, NodeId, Item)> {
        while let Some((due_ms, from, to)) = self.due.first().copied().filter(|(due_ms, ..)| *due_ms <= now_ms) {
            self.due.pop_first();
            let Some(wire) = self.wires.get_mut(&(from, to)) else { continue };
            let item = wire.pop_front_if(|(front_ms, _)| *front_ms <= due_ms);
            if let Some((front_ms, _)) = wire.front() {
                self.due.insert((*front_ms, from, to));
            }
            if let Some((_, item)) = item {
                return Some((from, to, item));
            }
        }
        None
    }

    pub fn next_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, ..)| *due_ms)
    }

    /// Nothing arrives at a node that has ended.
    pub fn forget(&mut self, to: NodeId) {
        self.wires.retain(|pair, wire| pair.1 != to && !(wire.is_empty() && pair.0 == to));
    }

    fn push(&mut self, now_ms: u64, from: NodeId, to: NodeId, item: Item, chance: &mut Chance) {
        let wire = self.wires.entry((from, to)).or_default();
        let slow = if chance.percent(5) { 300 } else { 40 };
        let earliest_ms = wire.back().map_or(0, |(due_ms, _)| *due_ms);
        let due_ms = earliest_ms.max(now_ms + chance.within(1, slow));
        wire.push_back((due_ms, item));
        self.due.insert((due_ms, from, to));
    }
}

fn both(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    (a.min(b), a.max(b))
}
