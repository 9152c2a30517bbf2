//! A side view: a group of nodes that reach each other, but no majority, goes on by itself with what needs no agreement.
//!
//! A node is *alone* when it has not been linked to a quorum of its view for long. Those that are, and see each other, follow
//! the smallest of them, which says who belongs to the group. Nothing is voted on: two groups may overlap for a moment, or
//! believe different things, and all that follows is that somebody is told once more where a channel begins. So here there
//! are no promises and no memory: a side view ends where a quorum is seen or another view comes, and is never taken up again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::Views;
use crate::{
    cluster::{
        view::{Member, NodeId, View},
        views::{
            links::Place,
            message::{Effect, Message},
            proposer::ROUND_MAX,
        },
    },
    time::Now,
};

/// What a node says of itself to those that stand at the same view.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    /// It has not been linked to a quorum for long.
    pub alone: bool,
    /// Whose side view it would stand at; its own, if it sees nobody before it.
    pub follows: Option<NodeId>,
    /// The number of the last side view at which it stood. The next has a greater one.
    pub last: u64,
    /// Who has called that, if it stands there still.
    pub stands: Option<NodeId>,
}

/// How far a node is with side views.
#[derive(Debug, Default)]
pub struct Side {
    /// The view that all of this is about.
    place: Place,
    alone_since_ms: Option<u64>,
    /// Since when somebody is missing whom the side view needs: the one that called it, or to that one a member.
    lacks_since_ms: Option<u64>,
    said: Said,
    view: Option<Arc<View>>,
    peers: BTreeMap<NodeId, Peer>,
}

/// A linked node that stands at the same view.
#[derive(Debug, Default)]
struct Peer {
    said: Option<Said>,
    told: Option<Said>,
    /// The last side view that it was called to on this link.
    called: u64,
    session: bool,
}

impl Views {
    /// The side view at which this node stands.
    pub fn side(&self) -> Option<&Arc<View>> {
        self.side.view.as_ref()
    }

    /// Looks again whether this node is in a group without a majority, and what follows.
    pub(super) fn stir_side(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.note_side_place(effects);
        self.note_alone(now);
        if !self.may_stand_aside() || self.is_left_behind() {
            self.end_side(effects);
        }
        self.note_lacking(now);
        self.side.said.follows = self.leader(now);
        if self.side.said.follows == Some(self.config.me) && !self.side_is_early(now) {
            self.lead(now, effects);
        }
        self.say_side(effects);
        self.side.show_sessions(effects);
    }

    pub(super) fn side_due_ms(&self, now: Now) -> Option<u64> {
        let Side { alone_since_ms, lacks_since_ms, .. } = &self.side;
        let ms = self.config.unreachable_ms;
        let due = |since_ms: Option<u64>, times: u64| Some(since_ms?.saturating_add(times.saturating_mul(ms)));
        let dues = [due(*alone_since_ms, 1), due(*alone_since_ms, 2), due(*lacks_since_ms, 1)];
        dues.into_iter().flatten().filter(|at_ms| *at_ms > now.mono_ms).min()
    }

    pub(super) fn side_said(&mut self, from: NodeId, said: Said) {
        if self.links.is_at(from, self.place()) && said.last < ROUND_MAX {
            let peer = self.side.peers.entry(from).or_default();
            // Whoever says something may have refused what it was called to.
            (peer.said, peer.called) = (Some(said), 0);
        }
    }

    /// A peer calls this node to a side view of the view with that number.
    pub(super) fn called_aside(&mut self, from: NodeId, number: u64, view: Arc<View>, effects: &mut Vec<Effect>) {
        let Some(agreed) = self.view().filter(|agreed| agreed.number == number) else { return };
        let belongs = |id: NodeId| view.contains(id) || !agreed.contains(id);
        let fits = agreed.cluster == view.cluster && view.members.iter().all(|member| agreed.contains(member.id));
        let is_next = view.number > self.side.said.last && view.number <= ROUND_MAX;
        let led = self.links.is_at(from, self.place()) && self.side.said.follows == Some(from) && view.contains(from);
        if fits && is_next && led && belongs(self.config.me) {
            let last = view.number;
            self.side.stand(from, view, effects);
            let peer = self.side.peers.entry(from).or_default();
            peer.said = Some(Said { alone: true, follows: Some(from), last, stands: Some(from) });
        }
    }

    fn note_side_place(&mut self, effects: &mut Vec<Effect>) {
        let place = self.place();
        if self.side.place != place {
            self.end_side(effects);
            let said = Said { last: self.side.said.last, ..Said::default() };
            self.side = Side { place, said, ..Side::default() };
        }
        let here: BTreeSet<NodeId> = if place.is_some() { self.links.at(place).collect() } else { BTreeSet::new() };
        self.side.peers.retain(|id, peer| {
            let stays = here.contains(id);
            if !stays && peer.session {
                effects.push(Effect::SideSession { peer: *id, on: false });
            }
            stays
        });
        for id in here {
            self.side.peers.entry(id).or_default();
        }
    }

    fn note_alone(&mut self, now: Now) {
        let here: Vec<NodeId> = self.side.peers.keys().copied().chain([self.config.me]).collect();
        let alone = self.side.place.is_some() && !self.is_quorum(&here);
        self.side.alone_since_ms = alone.then(|| self.side.alone_since_ms.unwrap_or(now.mono_ms));
        self.side.said.alone = self.is_over(self.side.alone_since_ms, now);
    }

    /// Whether it has lasted as long as two nodes may be out of each other's reach.
    fn is_over(&self, since_ms: Option<u64>, now: Now) -> bool {
        since_ms.is_some_and(|since_ms| since_ms.saturating_add(self.config.unreachable_ms) <= now.mono_ms)
    }

    /// A member that sees a quorum will tell what is decided, so with such a one there is no group apart.
    fn may_stand_aside(&self) -> bool {
        let sees_quorum = |peer: &Peer| peer.said.is_some_and(|said| !said.alone);
        self.side.said.alone && !self.voters_aside().any(|(_, peer)| sees_quorum(peer))
    }

    fn voters_aside(&self) -> impl Iterator<Item = (NodeId, &Peer)> {
        self.side.peers.iter().map(|(id, peer)| (*id, peer)).filter(|(id, _)| self.may_vote(*id))
    }

    /// Whether the one that called the side view has left it.
    fn is_left_behind(&self) -> bool {
        let Side { said, peers, .. } = &self.side;
        let leader = said.stands.filter(|leader| *leader != self.config.me).and_then(|leader| peers.get(&leader));
        let there = |of: Said| (of.stands, of.last) == (said.stands, said.last);
        leader.and_then(|leader| leader.said).is_some_and(|of_leader| !there(of_leader))
    }

    fn note_lacking(&mut self, now: Now) {
        let Side { said, view, peers, .. } = &self.side;
        let me = self.config.me;
        let says = |id: NodeId| peers.get(&id).and_then(|peer| peer.said);
        let lacks = match (said.stands, view) {
            (Some(leader), Some(view)) if leader == me => {
                let mut others = view.members.iter().map(|member| member.id).filter(|id| *id != me);
                others.any(|id| says(id).is_none_or(|said| said.follows != Some(me)))
            }
            (Some(leader), _) => says(leader).is_none(),
            (None, _) => false,
        };
        self.side.lacks_since_ms = lacks.then(|| self.side.lacks_since_ms.unwrap_or(now.mono_ms));
    }

    /// Whose side view this node would stand at. One that is out of reach for a moment is still followed.
    fn leader(&self, now: Now) -> Option<NodeId> {
        let Side { said, peers, lacks_since_ms, .. } = &self.side;
        let me = self.config.me;
        if !self.may_stand_aside() {
            return None;
        }
        if said.stands != Some(me) && lacks_since_ms.is_some() && !self.is_over(*lacks_since_ms, now) {
            return said.stands;
        }
        let leads = |id: &NodeId, peer: &Peer| peer.said.is_some_and(|said| said.alone && said.follows == Some(*id));
        let leaders = peers.iter().filter(|(id, peer)| self.may_vote(**id) && leads(id, peer)).map(|(id, _)| *id);
        leaders.chain(Some(me).filter(|me| self.may_vote(*me))).min()
    }

    /// Whether a linked member has not said yet whether it is alone, or will follow this node when it hears of it. One that
    /// follows nobody sees somebody who is not alone, or not yet; so that is waited for only as long again.
    fn side_is_early(&self, now: Now) -> bool {
        let waited = self.is_over(self.side.alone_since_ms.map(|since_ms| since_ms + self.config.unreachable_ms), now);
        let knows = |said: Said| said.alone && said.follows.map_or(waited, |other| other <= self.config.me);
        self.voters_aside().any(|(_, peer)| !peer.said.is_some_and(knows))
    }

    /// Calls those that follow this node to a side view, and to another when they are no longer the same.
    fn lead(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let me = self.config.me;
        let follows = |peer: &Peer| peer.said.is_some_and(|said| said.follows == Some(me));
        let followers: Vec<NodeId> =
            self.side.peers.iter().filter(|(_, peer)| follows(peer)).map(|(id, _)| *id).collect();
        let Some(agreed) = self.view().cloned() else { return };
        let members = followers.iter().copied().filter(|id| agreed.contains(*id)).chain([me]);
        let members: Vec<Member> = members.map(|id| Member { id, points: self.config.points }).collect();
        let waits = self.side.lacks_since_ms.is_some() && !self.is_over(self.side.lacks_since_ms, now);
        let last = followers.iter().filter_map(|id| self.side.peers[id].said).map(|said| said.last).max().unwrap_or(0);
        let stands = |view: &Arc<View>| {
            self.side.said.stands == Some(me)
                && members.iter().all(|member| view.contains(member.id))
                && (view.members.len() == members.len() || waits)
                && followers.iter().all(|id| self.side.may_call(*id, me))
        };
        if !self.side.view.as_ref().is_some_and(stands) {
            let number = self.side.said.last.max(last).saturating_add(1);
            let view = Arc::new(View::new(agreed.cluster, number, members));
            self.side.stand(me, view, effects);
            self.side.lacks_since_ms = None;
        }
        let Side { said, view, peers, .. } = &mut self.side;
        let Some(view) = view else { return };
        for id in followers {
            let Some(peer) = peers.get_mut(&id) else { continue };
            let there = peer.said.is_some_and(|of| (of.stands, of.last) == (said.stands, said.last));
            if !there && peer.called < view.number {
                peer.called = view.number;
                effects.push(Effect::Send {
                    to: id,
                    message: Message::Aside { number: agreed.number, view: view.clone() },
                });
            }
        }
    }

    /// Says where this node stands to all that don't know it. Who has nothing to say answers only.
    fn say_side(&mut self, effects: &mut Vec<Effect>) {
        let Side { said, peers, .. } = &mut self.side;
        for (id, peer) in peers {
            let concerns = said.alone || peer.told.is_some() || peer.said.is_some();
            if concerns && peer.told != Some(*said) {
                peer.told = Some(*said);
                effects.push(Effect::Send { to: *id, message: Message::Side(*said) });
            }
        }
    }

    fn end_side(&mut self, effects: &mut Vec<Effect>) {
        self.side.end_sessions(effects);
        (self.side.said.stands, self.side.lacks_since_ms) = (None, None);
        if self.side.view.take().is_some() {
            effects.push(Effect::Side(None));
        }
    }
}

impl Side {
    fn stand(&mut self, leader: NodeId, view: Arc<View>, effects: &mut Vec<Effect>) {
        self.end_sessions(effects);
        (self.said.stands, self.said.last) = (Some(leader), view.number);
        effects.push(Effect::Side(Some(view.clone())));
        self.view = Some(view);
    }

    /// Whether the node stands at this node's side view, or can still be called to it: numbers rise at each.
    fn may_call(&self, id: NodeId, me: NodeId) -> bool {
        let said = self.peers.get(&id).and_then(|peer| peer.said);
        said.is_some_and(|said| said.last < self.said.last || (said.stands, said.last) == (Some(me), self.said.last))
    }

    /// After it is said where this node stands, so that the others expect what follows.
    fn show_sessions(&mut self, effects: &mut Vec<Effect>) {
        let place = |said: Said| said.stands.map(|leader| (leader, said.last));
        let here = place(self.said);
        for (id, peer) in &mut self.peers {
            let on = here.is_some() && peer.said.and_then(place) == here;
            if std::mem::replace(&mut peer.session, on) != on {
                effects.push(Effect::SideSession { peer: *id, on });
            }
        }
    }

    fn end_sessions(&mut self, effects: &mut Vec<Effect>) {
        for (id, peer) in &mut self.peers {
            if std::mem::take(&mut peer.session) {
                effects.push(Effect::SideSession { peer: *id, on: false });
            }
        }
    }
}
