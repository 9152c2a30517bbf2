//! What a channel needs of its shard while it takes a step.

use std::collections::VecDeque;

use crate::{
    channel::ChannelKey,
    cluster::view::{NodeId, View},
    shard::{
        Config,
        peer::{Say, SentIn},
        request::Effect,
        slots::At,
        streams::{Streams, Voice},
    },
    time::Now,
};

/// Views that follow each other, all of them settled; none at first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settled {
    pub first: u64,
    pub last: u64,
}

/// The shard around a channel.
pub struct Cx<'a> {
    pub now: Now,
    /// The channel's place.
    pub at: At,
    pub config: &'a Config,
    pub view: Option<&'a View>,
    /// The last views, one after the other, of which this node knows that every channel was in its place.
    pub settled: Settled,
    /// Of a side shard: the number of the agreed view.
    pub aside_of: Option<u64>,
    pub streams: &'a mut Streams,
    /// Channels of which a node wants something that may be lost, to be looked at before the turn ends.
    pub strangers: &'a mut Vec<At>,
    pub effects: &'a mut Vec<Effect>,
    /// What is to be taken next, in order: mostly what this node says to itself.
    pub own: &'a mut VecDeque<(NodeId, At, Say)>,
    pub counters: &'a mut Counters,
}

/// What a shard counts up; none is ever used twice.
#[derive(Debug, Default)]
pub struct Counters {
    pub epochs: u64,
    pub tickets: u64,
    /// Publishes and other requests to owners.
    pub requests: u64,
    /// Messages accepted with fewer copies than the rules ask for.
    pub uncopied: u64,
}

/// How often channels changed their owner since the shard began, and how they fared; places of sessions are among them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Moves {
    /// Sealed by this node, for the next owner.
    pub handed_over: u64,
    /// Sealed by the owner before, and gone on with in the same epoch.
    pub taken_over: u64,
    /// Gone on with from a copy in a child epoch, because the owner before gave no word.
    pub taken_up: u64,
    /// Epochs that began here, child epochs among them.
    pub epochs: u64,
    /// Channels whose state is being looked for at the moment.
    pub waiting: u64,
    /// Messages accepted with fewer copies than the rules ask for, because there are too few nodes.
    pub uncopied: u64,
}

impl Settled {
    pub fn contains(self, view: u64) -> bool {
        (self.first..=self.last).contains(&view)
    }
}

impl Cx<'_> {
    pub fn me(&self) -> NodeId {
        self.config.me()
    }

    pub fn view_number(&self) -> u64 {
        self.view.map_or(0, |view| view.number)
    }

    pub fn sent_in(&self) -> SentIn {
        SentIn { view: self.view_number(), side: self.aside_of.is_some() }
    }

    /// The channel's owner, if it can be told something now.
    pub fn owner(&self, key: &ChannelKey) -> Option<NodeId> {
        self.view?.owner(key.point()).filter(|owner| self.reaches(*owner, key))
    }

    /// The same. If it can't be told now, it is told what there is to tell when the next session begins.
    pub fn owner_to_tell(&mut self, key: &ChannelKey) -> Option<NodeId> {
        let owner = self.view?.owner(key.point())?;
        if self.reaches(owner, key) {
            return Some(owner);
        }
        self.streams.note(owner, key, Voice::Relay);
        None
    }

    pub fn reaches(&self, node: NodeId, key: &ChannelKey) -> bool {
        node == self.me() || self.streams.reaches(node, key)
    }

    /// Whether a session is on with the node.
    pub fn hears(&self, node: NodeId) -> bool {
        node == self.me() || self.streams.is_on(node)
    }

    /// Whether the node is yet to be told that it has heard all that is heard here. What it believes of a channel that nothing was
    /// said of is gone then only.
    pub fn begins(&self, node: NodeId) -> bool {
        node != self.me() && !self.streams.all_met(node)
    }

    /// Something came of a node that may be lost already: it waited here, or for copies.
    pub fn came_of(&mut self, node: NodeId) {
        if !self.hears(node) {
            self.strangers.push(self.at);
        }
    }

    /// Says something to a node, or to this one. What can't reach it now is made good when the next session begins.
    pub fn say(&mut self, to: NodeId, key: &ChannelKey, say: Say) {
        if to == self.me() {
            self.own.push_back((to, self.at, say));
        } else {
            self.streams.say(self.view_number(), to, key, say, self.effects);
        }
    }

    pub fn next_request(&mut self) -> u64 {
        self.counters.requests += 1;
        self.counters.requests
    }
}
