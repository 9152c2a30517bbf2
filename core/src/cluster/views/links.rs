//! The links to other nodes, and where those at the other ends stand.

use std::collections::BTreeMap;

use crate::cluster::{
    view::{ClusterId, NodeId},
    views::message::Effect,
};

/// The view that a node stands at; `None` while it knows none.
pub type Place = Option<(ClusterId, u64)>;

/// Every link that is up. A link that comes again begins as a new one.
#[derive(Debug, Default)]
pub struct Links(BTreeMap<NodeId, Link>);

#[derive(Debug, Default)]
struct Link {
    /// What the peer last said on this link; `None` before it said anything.
    place: Option<Place>,
    session: bool,
    /// It stands at a view that can have no successor.
    lost: bool,
}

impl Links {
    pub fn up(&mut self, peer: NodeId) {
        self.0.insert(peer, Link::default());
    }

    pub fn down(&mut self, peer: NodeId, effects: &mut Vec<Effect>) {
        if self.0.remove(&peer).is_some_and(|link| link.session) {
            effects.push(Effect::Session { peer, on: false });
        }
    }

    pub fn is_up(&self, peer: NodeId) -> bool {
        self.0.contains_key(&peer)
    }

    /// Whether the peer has said where it stands.
    pub fn has_spoken(&self, peer: NodeId) -> bool {
        self.0.get(&peer).is_some_and(|link| link.place.is_some())
    }

    pub fn peers(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.keys().copied()
    }

    /// Those that have said that they stand there.
    pub fn at(&self, place: Place) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().filter(move |(_, link)| link.place == Some(place)).map(|(peer, _)| *peer)
    }

    pub fn is_at(&self, peer: NodeId, place: Place) -> bool {
        self.0.get(&peer).is_some_and(|link| link.place == Some(place))
    }

    /// Notes where the peer stands. If that is not where this node stands, their session ends.
    pub fn says(&mut self, peer: NodeId, place: Place, ours: Place, effects: &mut Vec<Effect>) {
        let Some(link) = self.0.get_mut(&peer) else { return };
        (link.place, link.lost) = (Some(place), false);
        if place != ours && std::mem::take(&mut link.session) {
            effects.push(Effect::Session { peer, on: false });
        }
    }

    /// The peer stands at a view that can have no successor.
    pub fn note_lost(&mut self, peer: NodeId) {
        if let Some(link) = self.0.get_mut(&peer) {
            link.lost = true;
        }
    }

    pub fn lost(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().filter(|(_, link)| link.lost).map(|(peer, _)| *peer)
    }

    /// Begins the session; `false` if it was on, or the peer stands elsewhere.
    pub fn begin_session(&mut self, peer: NodeId, ours: Place) -> bool {
        match self.0.get_mut(&peer) {
            Some(link) if ours.is_some() && link.place == Some(ours) => !std::mem::replace(&mut link.session, true),
            _ => false,
        }
    }

    pub fn end_sessions(&mut self, effects: &mut Vec<Effect>) {
        for (peer, link) in &mut self.0 {
            if std::mem::take(&mut link.session) {
                effects.push(Effect::Session { peer: *peer, on: false });
            }
        }
    }

    pub fn sessions(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.0.iter().filter(|(_, link)| link.session).map(|(peer, _)| *peer)
    }
}
