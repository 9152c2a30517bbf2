//! What this node knows of the others, and since when.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{
    view::{NodeId, View},
    views::{
        gone::Gone,
        links::Links,
        message::Known,
        wanted::{Pair, pair},
    },
};

/// Gossip, links and certain deaths, put together.
#[derive(Debug)]
pub struct Surroundings {
    me: NodeId,
    pub gone: Gone,
    pub known: BTreeMap<NodeId, Known>,
    /// Living core nodes of which one can't reach the other.
    pub apart: Since<Pair>,
    /// Members that neither gossip speaks of nor a link reaches. While no view is known: living core nodes that have
    /// not said whether they know one, or stand at a lost one and may still take part in a founding.
    pub silent: Since<NodeId>,
}

/// Since when each of some things has been the case, without a break.
#[derive(Debug)]
pub struct Since<K>(BTreeMap<K, u64>);

impl Surroundings {
    pub fn new(me: NodeId) -> Surroundings {
        let (gone, known) = (Gone::new(me), BTreeMap::new());
        Surroundings { me, gone, known, apart: Since(BTreeMap::new()), silent: Since(BTreeMap::new()) }
    }

    /// Takes over what gossip says now, in place of what it said before.
    pub fn hear(&mut self, known: Vec<Known>) {
        self.known = known.into_iter().map(|known| (known.id, known)).collect();
        for id in self.known.keys() {
            self.gone.met(*id);
        }
    }

    /// Whether gossip says that this is no core node.
    pub fn is_edge(&self, id: NodeId) -> bool {
        self.known.get(&id).is_some_and(|known| !known.core)
    }

    /// Members that seem dead and may live.
    pub fn suspects(&self, view: &View, now_ms: u64, unreachable_ms: u64) -> BTreeSet<NodeId> {
        let silent: BTreeSet<NodeId> = self.silent.longer_than(now_ms, unreachable_ms).collect();
        let seems_dead = |id: &NodeId| match self.known.get(id) {
            Some(known) => !known.alive,
            None => silent.contains(id),
        };
        let others = view.members.iter().map(|member| member.id).filter(|id| *id != self.me);
        others.filter(|id| !self.gone.is_gone(*id)).filter(seems_dead).collect()
    }

    /// Looks at everything again.
    pub fn refresh(&mut self, now_ms: u64, view: Option<&View>, links: &Links) {
        let apart = self.pairs_apart(links);
        self.apart.update(now_ms, apart);
        let silent = match view {
            Some(view) => self.unheard_members(view, links),
            None => self.unheard_nodes(links),
        };
        self.silent.update(now_ms, silent);
        if self.gone.is_long() {
            let spoken_of: BTreeSet<u64> = self.spoken_of(view, links).map(|id| id.node).collect();
            self.gone.forget(|node| spoken_of.contains(&node));
        }
    }

    fn unheard_members(&self, view: &View, links: &Links) -> BTreeSet<NodeId> {
        let others = view.members.iter().map(|member| member.id).filter(|id| *id != self.me);
        others.filter(|id| !self.known.contains_key(id) && !links.is_up(*id)).collect()
    }

    fn unheard_nodes(&self, links: &Links) -> BTreeSet<NodeId> {
        let lives = |known: &&Known| known.alive && known.core && !self.gone.is_gone(known.id);
        let others = self.known.values().filter(lives).map(|known| known.id).filter(|id| *id != self.me);
        let lost = links.lost().filter(|id| !self.is_edge(*id) && !self.gone.is_gone(*id));
        others.filter(|id| !links.has_spoken(*id)).chain(lost).collect()
    }

    fn pairs_apart(&self, links: &Links) -> BTreeSet<Pair> {
        let lives = |id: &NodeId| self.known.get(id).is_some_and(|known| known.alive && known.core);
        let missed = self.known.keys().filter(|id| **id != self.me && !links.is_up(**id));
        let ours = missed.map(|id| (self.me, *id));
        let others = self.known.values().filter(|known| known.id != self.me);
        let theirs = others.flat_map(|known| known.unreachable.iter().map(|id| (known.id, *id)));
        let living = ours.chain(theirs).filter(|(a, b)| a != b && (*a == self.me || lives(a)));
        living.filter(|(_, b)| *b == self.me || lives(b)).map(|(a, b)| pair(a, b)).collect()
    }

    fn spoken_of<'a>(&'a self, view: Option<&'a View>, links: &'a Links) -> impl Iterator<Item = NodeId> + 'a {
        let members = view.into_iter().flat_map(|view| &view.members).map(|member| member.id);
        members.chain(self.known.keys().copied()).chain(links.peers())
    }
}

impl<K: Copy + Ord> Since<K> {
    pub fn update(&mut self, now_ms: u64, current: BTreeSet<K>) {
        self.0.retain(|key, _| current.contains(key));
        for key in current {
            self.0.entry(key).or_insert(now_ms);
        }
    }

    pub fn all(&self) -> impl Iterator<Item = K> + '_ {
        self.0.keys().copied()
    }

    pub fn longer_than(&self, now_ms: u64, ms: u64) -> impl Iterator<Item = K> + '_ {
        self.0.iter().filter(move |(_, since_ms)| since_ms.saturating_add(ms) <= now_ms).map(|(key, _)| *key)
    }

    /// When the next of them will have lasted that long.
    pub fn next_ms(&self, now_ms: u64, ms: u64) -> Option<u64> {
        let ends = self.0.values().map(|since_ms| since_ms.saturating_add(ms));
        ends.filter(|end_ms| *end_ms > now_ms).min()
    }
}
