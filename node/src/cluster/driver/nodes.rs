//! The other nodes: what is known of them, from gossip and from themselves, and when to try to reach them.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
};

use appsockets_core::cluster::{
    view::{NodeId, View},
    views::message::Known,
};

use appsockets_core::time::Now;

use crate::cluster::{
    gossip::Heard,
    handle::NodeStatus,
    link::{Outgoing, Peer},
};

/// How long a node counts as alive that has made itself known, until gossip has heard of it or a link is up.
const MET_MS: u64 = 1_000;
/// How long a node is tried to be reached that gossip takes for dead.
const LOST_MS: u64 = 10_000;
/// The longest time between two attempts to reach a node.
const RETRY_MS_MAX: u64 = 300;
const RETRY_MS_MIN: u64 = 10;

#[derive(Debug, Default)]
pub struct Node {
    pub address: Option<SocketAddr>,
    core: bool,
    leaving: bool,
    gossip: Gossiped,
    unreachable: Vec<NodeId>,
    view: u64,
    revision: String,
    metadata: Option<u64>,
    version: String,
    /// When it was first heard of, in Unix milliseconds.
    first_unix_ms: u64,
    /// When it last spoke for itself.
    met_ms: Option<u64>,
    pub link: Option<Link>,
    /// There has been a link: who refuses connections at this address is this very node, ended.
    pub was_linked: bool,
    trying: bool,
    failures: u32,
    next_try_ms: u64,
    /// Since when there is no sign of life.
    dead_since_ms: Option<u64>,
}

/// What gossip says of a node's life. It takes a while until it has heard enough of a new node to say that it lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gossiped {
    #[default]
    Nothing,
    Alive,
    Dead,
}

#[derive(Clone, Debug)]
pub struct Link {
    pub outgoing: Arc<Outgoing>,
    pub shards: u32,
}

/// How a node is to be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Try {
    /// This node opens the link.
    Dial,
    /// The other one does, once it knows that this node is there.
    Announce,
}

#[derive(Debug)]
pub struct Nodes {
    me: NodeId,
    others: BTreeMap<NodeId, Node>,
}

impl Nodes {
    pub fn new(me: NodeId) -> Nodes {
        Nodes { me, others: BTreeMap::new() }
    }

    pub fn get_mut(&mut self, id: NodeId) -> Option<&mut Node> {
        self.others.get_mut(&id)
    }

    pub fn link(&self, id: NodeId) -> Option<&Link> {
        self.others.get(&id)?.link.as_ref()
    }

    pub fn links(&self) -> impl Iterator<Item = &Link> {
        self.others.values().filter_map(|node| node.link.as_ref())
    }

    /// Those with a link, where they are reached, and what they say that they have: the revision of their settings, and
    /// the digest of their metadata.
    pub fn serving(&self) -> impl Iterator<Item = (NodeId, SocketAddr, &str, Option<u64>)> {
        let linked = self.others.iter().filter(|(_, node)| node.link.is_some() && !node.revision.is_empty());
        linked.filter_map(|(id, node)| Some((*id, node.address?, node.revision.as_str(), node.metadata)))
    }

    pub fn ids(&self) -> impl Iterator<Item = NodeId> {
        self.others.keys().copied()
    }

    /// The newest run of that node, linked or not.
    pub fn newest(&self, node: u64) -> Option<(NodeId, &Node)> {
        let mut runs = self.others.iter().filter(|(id, _)| id.node == node);
        runs.next_back().map(|(id, node)| (*id, node))
    }

    /// A node says who it is.
    pub fn met(&mut self, now: Now, peer: &Peer) {
        if peer.id == self.me {
            return;
        }
        let now_ms = now.mono_ms;
        let node = self.others.entry(peer.id).or_insert_with(|| Node::first_heard_of(now));
        (node.address, node.core, node.leaving) = (Some(peer.address), peer.core, peer.leaving);
        node.revision.clone_from(&peer.revision);
        node.metadata = peer.metadata;
        node.met_ms = Some(now_ms);
        node.next_try_ms = node.next_try_ms.min(now_ms);
    }

    /// All that gossip knows.
    pub fn heard(&mut self, now: Now, heard: &[Heard]) {
        let now_ms = now.mono_ms;
        for Heard { id, alive, facts, .. } in heard.iter().filter(|heard| heard.id != self.me) {
            let node = self.others.entry(*id).or_insert_with(|| Node::first_heard_of(now));
            let was_dead = node.gossip == Gossiped::Dead;
            node.gossip = match (node.gossip, alive) {
                (_, true) => Gossiped::Alive,
                (Gossiped::Nothing, false) => Gossiped::Nothing,
                (_, false) => Gossiped::Dead,
            };
            // One that is back is tried at once.
            if was_dead && *alive {
                node.next_try_ms = now_ms;
            }
            // A node without an address has said nothing of itself yet.
            let Some(address) = facts.peer else { continue };
            if node.address != Some(address) {
                (node.address, node.next_try_ms) = (Some(address), now_ms);
            }
            (node.core, node.leaving, node.view) = (facts.core, facts.leaving, facts.view);
            node.unreachable.clone_from(&facts.unreachable);
            // On a link it says so itself, and sooner.
            if node.link.is_none() {
                node.revision.clone_from(&facts.revision);
            }
            node.version.clone_from(&facts.version);
        }
        let named: BTreeSet<_> = heard.iter().map(|heard| heard.id).collect();
        for (_, node) in self.others.iter_mut().filter(|(id, _)| !named.contains(id)) {
            if node.gossip == Gossiped::Alive {
                node.gossip = Gossiped::Dead;
            }
        }
    }

    /// Members are known, also those that gossip has not named.
    pub fn installed(&mut self, now: Now, view: &View) {
        for member in view.members.iter().filter(|member| member.id != self.me) {
            self.others.entry(member.id).or_insert_with(|| Node { core: true, ..Node::first_heard_of(now) });
        }
    }

    /// Forgets those of whom nothing is left to say.
    pub fn tidy(&mut self, now_ms: u64, view: Option<&View>, is_gone: impl Fn(NodeId) -> bool) {
        for node in self.others.values_mut() {
            match node.is_alive(now_ms) {
                true => node.dead_since_ms = None,
                false => drop(node.dead_since_ms.get_or_insert(now_ms)),
            }
        }
        self.others.retain(|id, node| {
            let since_ms = node.dead_since_ms.unwrap_or(now_ms);
            let useless = node.link.is_none() && !node.trying && !view.is_some_and(|view| view.contains(*id));
            !(useless && now_ms >= since_ms + LOST_MS && (is_gone(*id) || node.gossip != Gossiped::Alive))
        });
    }

    /// What the views are told.
    pub fn known(&self, now_ms: u64) -> Vec<Known> {
        let others = self.others.iter().map(|(id, node)| Known {
            id: *id,
            core: node.core,
            leaving: node.leaving,
            alive: node.is_alive(now_ms),
            unreachable: node.unreachable.clone(),
        });
        others.collect()
    }

    /// Living nodes that this one has no link to.
    pub fn unreachable(&self, now_ms: u64) -> Vec<NodeId> {
        let apart = self.others.iter().filter(|(_, node)| node.link.is_none() && node.is_alive(now_ms));
        apart.map(|(id, _)| *id).collect()
    }

    /// Whom to try to reach now.
    pub fn due(&mut self, now_ms: u64, is_gone: impl Fn(NodeId) -> bool) -> Vec<(NodeId, SocketAddr, Try)> {
        let me = self.me;
        let mut due = Vec::new();
        for (id, node) in &mut self.others {
            let Some(address) = node.address.filter(|_| node.is_to_be_reached(now_ms) && !is_gone(*id)) else {
                continue;
            };
            if node.next_try_ms <= now_ms {
                node.trying = true;
                due.push((*id, address, if me < *id { Try::Dial } else { Try::Announce }));
            }
        }
        due
    }

    /// When [`Nodes::due`] has something next.
    pub fn next_try_ms(&self, now_ms: u64, is_gone: impl Fn(NodeId) -> bool) -> Option<u64> {
        let waits = |id: NodeId, node: &Node| node.address.is_some() && node.is_to_be_reached(now_ms) && !is_gone(id);
        let waiting = self.others.iter().filter(|(id, node)| waits(**id, node));
        waiting.map(|(_, node)| node.next_try_ms).min()
    }

    pub fn status(&self, now_ms: u64, is_gone: impl Fn(NodeId) -> bool) -> Vec<NodeStatus> {
        let others = self.others.iter().filter(|(id, _)| !is_gone(**id)).map(|(id, node)| NodeStatus {
            id: *id,
            address: node.address,
            core: node.core,
            leaving: node.leaving,
            alive: node.is_alive(now_ms),
            linked: node.link.is_some(),
            met_unix_ms: node.first_unix_ms,
            waiting: node.link.as_ref().map_or(0, |link| link.outgoing.waiting()),
            sent: node.link.as_ref().map_or(0, |link| link.outgoing.sent()),
            view: node.view,
            revision: node.revision.clone(),
            version: node.version.clone(),
        });
        others.collect()
    }
}

impl Node {
    fn first_heard_of(now: Now) -> Node {
        Node { first_unix_ms: now.unix_ms, ..Node::default() }
    }

    fn is_alive(&self, now_ms: u64) -> bool {
        match self.gossip {
            Gossiped::Alive => true,
            Gossiped::Dead => false,
            Gossiped::Nothing => self.link.is_some() || self.met_ms.is_some_and(|met_ms| now_ms < met_ms + MET_MS),
        }
    }

    fn is_to_be_reached(&self, now_ms: u64) -> bool {
        let lately = self.dead_since_ms.is_none_or(|since_ms| now_ms < since_ms + LOST_MS);
        self.link.is_none() && !self.trying && lately
    }

    /// The attempt is over.
    pub fn tried(&mut self, now_ms: u64, reached: bool) {
        self.trying = false;
        // One who was told of this node opens the link in a moment, or never.
        self.failures = if reached { 3 } else { self.failures + 1 };
        self.next_try_ms = now_ms + (RETRY_MS_MIN << self.failures.min(10)).min(RETRY_MS_MAX);
    }

    pub fn linked(&mut self, link: Link) -> Option<Link> {
        (self.was_linked, self.failures) = (true, 0);
        self.link.replace(link)
    }

    /// Ends the link, if it is this one.
    pub fn unlinked(&mut self, now_ms: u64, number: u64) -> bool {
        let is_it = self.link.as_ref().is_some_and(|link| link.outgoing.number == number);
        if is_it {
            self.link = None;
            (self.failures, self.next_try_ms) = (0, now_ms);
        }
        is_it
    }
}

#[cfg(test)]
mod tests {
    use appsockets_core::{cluster::view::NodeId, time::Now};

    use super::{LOST_MS, MET_MS, Nodes, RETRY_MS_MAX, Try};
    use crate::cluster::{
        gossip::{Facts, Heard},
        link::Peer,
    };

    const ME: NodeId = NodeId { node: 2, generation: 1 };

    fn now(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: mono_ms }
    }

    fn peer(node: u64) -> Peer {
        Peer {
            id: NodeId { node, generation: 1 },
            address: ([127, 0, 0, 1], 7000 + node as u16).into(),
            core: true,
            leaving: false,
            shards: 1,
            revision: "new".to_owned(),
            metadata: None,
        }
    }

    fn heard(node: u64, alive: bool) -> Heard {
        let Peer { id, address, core, .. } = peer(node);
        Heard { id, alive, gossip: address, facts: Facts { peer: Some(address), core, ..Facts::default() } }
    }

    fn alive(nodes: &Nodes, at_ms: u64) -> Vec<u64> {
        nodes.known(at_ms).into_iter().filter(|known| known.alive).map(|known| known.id.node).collect()
    }

    #[test]
    fn the_lesser_dials_and_the_greater_makes_itself_known() {
        let mut nodes = Nodes::new(ME);
        nodes.met(now(0), &peer(1));
        nodes.met(now(0), &peer(3));
        let due: Vec<_> = nodes.due(0, |_| false).into_iter().map(|(id, _, how)| (id.node, how)).collect();
        assert_eq!(due, [(1, Try::Announce), (3, Try::Dial)]);
        assert!(nodes.due(0, |_| false).is_empty(), "one attempt at a time");
    }

    #[test]
    fn attempts_come_less_and_less_often_and_end_with_hope() {
        let mut nodes = Nodes::new(ME);
        nodes.met(now(0), &peer(3));
        let id = peer(3).id;
        let (mut at_ms, mut waits) = (0, Vec::new());
        while waits.len() < 12 {
            nodes.due(at_ms, |_| false);
            nodes.get_mut(id).unwrap().tried(at_ms, false);
            let next_ms = nodes.next_try_ms(at_ms, |_| false).unwrap();
            waits.push(next_ms - at_ms);
            at_ms = next_ms;
        }
        assert!(waits.is_sorted() && waits.last() == Some(&RETRY_MS_MAX), "{waits:?}");
        assert_eq!(nodes.next_try_ms(at_ms, |_| true), None, "who is gone is not tried");
        nodes.tidy(MET_MS, None, |_| false);
        assert_eq!(nodes.next_try_ms(MET_MS + LOST_MS, |_| false), None);
        nodes.tidy(MET_MS + LOST_MS, None, |_| true);
        assert_eq!(nodes.ids().count(), 0);
    }

    #[test]
    fn a_new_node_is_alive_before_gossip_has_heard_enough_of_it() {
        let mut nodes = Nodes::new(ME);
        nodes.met(now(0), &peer(3));
        nodes.heard(now(1), &[heard(3, false)]);
        assert_eq!(alive(&nodes, 1), [3]);
        assert_eq!(alive(&nodes, MET_MS), [] as [u64; 0]);
        nodes.heard(now(2), &[heard(3, true)]);
        assert_eq!(alive(&nodes, MET_MS), [3]);
        nodes.heard(now(3), &[heard(3, false)]);
        assert_eq!(alive(&nodes, 4), [] as [u64; 0]);
        nodes.heard(now(5), &[heard(3, true)]);
        nodes.heard(now(6), &[]);
        assert_eq!(alive(&nodes, 6), [] as [u64; 0], "gossip no longer names it");
    }
}
