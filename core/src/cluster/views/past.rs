//! Where nodes stood whose cluster has lost a majority for ever, and what a cluster that is founded anew takes over of it.
//!
//! Nobody alive knows whether the dead have decided another view, so the lost view gets no successor of its own. The
//! founding names a cluster of its own instead, goes on with the numbers, and carries the lost views as its origin: what
//! follows from the views before one follows from those.

use std::sync::Arc;

use super::Views;
use crate::cluster::{
    view::{ClusterId, NodeId, View},
    views::{
        acceptor::Acceptor,
        message::{Effect, Message, Told},
        proposer::Proposer,
        standing::{Standing, is_sound},
    },
};

impl Views {
    /// Whether it has left a lost view and waits for a cluster to be founded anew. It keeps what it has for that.
    pub fn is_between(&self) -> bool {
        self.past.is_some()
    }

    /// Leaves a view that can have no successor, to help to found what follows it. Should it have had one after all, that
    /// is installed when it is heard of; the view itself never again, so votes on what follows it may be forgotten.
    pub(super) fn retire(&mut self, effects: &mut Vec<Effect>) {
        self.links.end_sessions(effects);
        self.past = self.standing.take();
        (self.acceptor, self.proposer) = (Acceptor::default(), Proposer::default());
        let announcement = self.announcement();
        effects.extend(self.links.peers().map(|to| Effect::Send { to, message: announcement.clone() }));
    }

    /// A peer knows no view, or none any more.
    pub(super) fn viewless(&mut self, from: NodeId, past: Option<Told>, effects: &mut Vec<Effect>) {
        self.links.says(from, None, self.place(), effects);
        self.pasts.remove(&from);
        let Some(past) = past.filter(is_sound) else { return };
        self.note_gone(&past);
        // Who lags behind learns so that its own view has a successor, though that is lost.
        if self.standing.as_ref().is_some_and(|ours| ours.is_before(&past.view)) {
            self.install(past.clone(), effects);
        }
        self.pasts.insert(from, past);
    }

    /// A node between two clusters hears of a view.
    pub(super) fn told_between(&mut self, told: Told, effects: &mut Vec<Effect>) {
        let Some(past) = &self.past else { return };
        if past.is_before(&told.view) || past.is_continued_by(&told) {
            self.install(told, effects);
        } else if past.view.cluster != told.view.cluster {
            // What this node has is not asked for there.
            self.dissolve(effects);
        }
    }

    /// What a founding takes over: of the lost clusters that were heard of the oldest, as far as anybody here knows it. Whoever
    /// told of it may be out of reach for a moment, and is waited for then with what it has.
    pub(super) fn inheritance(&self) -> Option<Standing> {
        let pasts = self.pasts.values().cloned();
        let pasts: Vec<Told> = pasts.chain(self.past.as_ref().map(|past| past.told(|_| false))).collect();
        let cluster = pasts.iter().map(|past| past.view.cluster).min()?;
        let of_cluster = || pasts.iter().filter(|past| past.view.cluster == cluster);
        let newest = of_cluster().max_by_key(|past| past.view.number)?;
        let mut standing = Standing::new(newest.clone());
        for past in of_cluster() {
            standing.learn(&past.open);
            standing.learn(std::slice::from_ref(&past.view));
            standing.settle(past.settled);
        }
        Some(standing)
    }

    /// Whether the node comes from another lost cluster than the one that is taken over: it begins again as a new node.
    pub(super) fn comes_from_elsewhere(&self, id: NodeId, cluster: ClusterId) -> bool {
        let past = if id == self.config.me {
            self.past.as_ref().map(|past| past.view.cluster)
        } else {
            self.pasts.get(&id).map(|past| past.view.cluster)
        };
        past.is_some_and(|past| past != cluster)
    }
}

impl Standing {
    /// Whether the other is a later view of the same cluster.
    pub fn is_before(&self, other: &View) -> bool {
        self.view.cluster == other.cluster && self.view.number < other.number
    }

    /// Whether that view follows this one by way of a founding.
    pub fn is_continued_by(&self, told: &Told) -> bool {
        let View { cluster, number, .. } = *self.view;
        let before = told.open.iter().chain(&told.view.origin);
        told.view.cluster != cluster && before.into_iter().any(|view| view.cluster == cluster && view.number >= number)
    }

    /// The views that a founding begins with, oldest first: those that may still matter, and the last one.
    pub fn origin(&self) -> Vec<Arc<View>> {
        let views = self.open().into_iter().chain([self.view.clone()]);
        views.map(|view| Arc::new(View::new(view.cluster, view.number, view.members.clone()))).collect()
    }
}

/// What is said where no view is known.
pub fn no_view(past: Option<&Standing>, is_gone: impl Fn(NodeId) -> bool) -> Message {
    Message::NoView(past.map(|past| past.told(is_gone)))
}
