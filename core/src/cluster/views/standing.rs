//! Where this node stands: its view, and those before it that may still matter.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::cluster::{
    view::{NodeId, View},
    views::{links::Place, message::Told},
};

/// The view of a node that knows one.
#[derive(Debug)]
pub struct Standing {
    pub view: Arc<View>,
    pub settled: u64,
    /// By number: the last settled view to the one before `view`. Bounded by [`super::message::Config::open_max`] and the number
    /// of members, because beyond the former views only lose members.
    open: BTreeMap<u64, Arc<View>>,
    /// The members that have served `view`.
    served: BTreeSet<NodeId>,
}

impl Standing {
    /// Of a node that knew none before.
    pub fn new(told: Told) -> Standing {
        let Told { view, open, settled, gone: _ } = told;
        let mut standing = Standing { view, settled: 0, open: BTreeMap::new(), served: BTreeSet::new() };
        standing.learn_origin();
        standing.learn(&open);
        standing.settle(settled);
        standing
    }

    pub fn place(&self) -> Place {
        Some((self.view.cluster, self.view.number))
    }

    /// What this node says of itself, with those members that it knows to be gone.
    pub fn told(&self, is_gone: impl Fn(NodeId) -> bool) -> Told {
        let gone = self.view.members.iter().map(|member| member.id).filter(|id| is_gone(*id)).collect();
        Told { view: self.view.clone(), open: self.open(), settled: self.settled, gone }
    }

    /// The views from the last settled one to the one before this node's, oldest first.
    pub fn open(&self) -> Vec<Arc<View>> {
        self.open.values().cloned().collect()
    }

    /// How many views, this node's included, wait for being settled.
    pub fn unsettled(&self) -> u64 {
        self.view.number.saturating_sub(self.settled)
    }

    pub fn is_settled(&self) -> bool {
        self.unsettled() == 0
    }

    /// What a node with the next view would say.
    pub fn next(&self, view: Arc<View>) -> Told {
        let mut told = self.told(|_| false);
        told.open.push(std::mem::replace(&mut told.view, view));
        told
    }

    /// Goes to a higher view of the same cluster, and keeps what it had.
    pub fn advance(&mut self, told: &Told) {
        let before = std::mem::replace(&mut self.view, told.view.clone());
        self.open.insert(before.number, before);
        self.served.clear();
        self.learn_origin();
        self.learn(&told.open);
        self.settle(told.settled);
    }

    fn learn_origin(&mut self) {
        let view = self.view.clone();
        self.learn(&view.origin);
    }

    /// Takes what a node of the same cluster knows of the views before this node's.
    pub fn learn(&mut self, open: &[Arc<View>]) {
        let before = open.iter().filter(|open| open.number < self.view.number);
        self.open.extend(before.map(|open| (open.number, open.clone())));
        self.forget();
    }

    /// All members have served that view. Returns whether that is news.
    pub fn settle(&mut self, number: u64) -> bool {
        let is_news = number > self.settled && number <= self.view.number;
        if is_news {
            self.settled = number;
            self.forget();
        }
        is_news
    }

    /// A member serves all that it owns in this view. Returns whether all do.
    pub fn serves(&mut self, id: NodeId) -> bool {
        if self.view.contains(id) {
            self.served.insert(id);
        }
        self.served.len() == self.view.members.len()
    }

    pub fn has_served(&self, id: NodeId) -> bool {
        self.served.contains(&id)
    }

    /// The view before this node's always stays: whoever installs this one needs the ring that it follows.
    fn forget(&mut self) {
        let first = self.settled.min(self.view.number.saturating_sub(1));
        self.open = self.open.split_off(&first);
    }
}

/// Whether such views can exist together.
pub fn is_sound(told: &Told) -> bool {
    let View { cluster, number, members, origin, .. } = &*told.view;
    // A cluster that follows another is younger.
    let is_before = |open: &Arc<View>| open.cluster <= *cluster && open.number < *number && !open.members.is_empty();
    let mut before = told.open.iter().chain(origin);
    *number > 0 && told.settled <= *number && !members.is_empty() && before.all(is_before)
}
