//! How [`Views`] has the next view decided.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Views;
use crate::{
    cluster::{
        view::{ClusterId, Member, NodeId, View},
        views::{
            acceptor::Acceptor,
            message::{Ballot, Effect, Message, Told, Vote},
            proposer::{Phase, ROUND_MAX, bound_to},
            wanted::{Facts, wanted},
        },
    },
    time::Now,
};

impl Views {
    /// Looks at everything again after an input: is another view wanted, and is it on this node to propose it?
    pub(super) fn stir(&mut self, now: Now, effects: &mut Vec<Effect>) {
        // A view that this node decides alone may leave another to be decided: fewer members each time, so this ends.
        while !self.dissolved {
            let before = self.place();
            self.surroundings.refresh(now.mono_ms, self.view().cloned().as_deref(), &self.links);
            if self.gives_up() {
                self.retire(effects);
            }
            self.note_enough(now);
            self.count(now, effects);
            self.propose(now, effects);
            if self.place() == before {
                self.stir_side(now, effects);
                self.next_ms = self.next_due_ms(now);
                return;
            }
        }
    }

    /// Takes a message that belongs to deciding. It counts only if the sender stands where this node does.
    pub(super) fn vote(&mut self, from: NodeId, message: Message, effects: &mut Vec<Effect>) {
        let next = self.next_number();
        let counts = self.links.is_at(from, self.place()) && self.may_vote(from) && self.may_vote(self.config.me);
        match message {
            Message::Ask { number, ballot } => self.asked(from, ballot, counts && number == next, effects),
            Message::Accept { ballot, view } => {
                let counts = counts && self.may_follow(&view);
                self.told_to_accept(from, ballot, &view, counts, effects);
            }
            Message::Promise { number, ballot, accepted } if counts && number == next => {
                self.promised(from, ballot, accepted);
            }
            Message::Accepted { number, ballot } if counts && number == next => self.proposer.accepted(from, ballot),
            Message::Refused { number, promised, .. } if counts && number == next => self.proposer.refused(promised),
            _ => {}
        }
    }

    fn promised(&mut self, from: NodeId, ballot: Ballot, accepted: Option<Vote>) {
        if accepted.as_ref().is_none_or(|vote| self.may_follow(&vote.view)) {
            self.proposer.promised(from, ballot, accepted);
        }
    }

    /// Goes on with this node's attempt, if enough others have answered.
    fn count(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let Some(attempt) = &self.proposer.attempt else { return };
        match &attempt.phase {
            Phase::Asking(promises) if self.is_quorum(promises.keys()) => {
                let ballot = attempt.ballot;
                let bound = bound_to(promises).filter(|view| !self.is_void(view));
                let view = bound.or_else(|| self.next_view(now, ballot, promises).map(Arc::new));
                match view {
                    Some(view) => self.have_accepted(now, ballot, view, effects),
                    None => self.proposer.attempt = None,
                }
            }
            Phase::Accepting { view, by } if self.is_quorum(by) => {
                let view = view.clone();
                self.decided(view, effects);
            }
            _ => {}
        }
    }

    fn asked(&mut self, from: NodeId, ballot: Ballot, counts: bool, effects: &mut Vec<Effect>) {
        let number = self.next_number();
        let message = match self.acceptor_for(from, ballot, counts) {
            None => self.announcement(),
            Some(acceptor) => match acceptor.promise(ballot) {
                Ok(accepted) => Message::Promise { number, ballot, accepted },
                Err(promised) => Message::Refused { number, ballot, promised },
            },
        };
        effects.push(Effect::Send { to: from, message });
    }

    fn told_to_accept(
        &mut self,
        from: NodeId,
        ballot: Ballot,
        view: &Arc<View>,
        counts: bool,
        effects: &mut Vec<Effect>,
    ) {
        let number = self.next_number();
        let message = match self.acceptor_for(from, ballot, counts) {
            None => self.announcement(),
            Some(acceptor) => match acceptor.accept(ballot, view) {
                Ok(()) => Message::Accepted { number, ballot },
                Err(promised) => Message::Refused { number, ballot, promised },
            },
        };
        effects.push(Effect::Send { to: from, message });
    }

    /// Nobody may use the ballot of somebody else, nor one that leaves no room above it.
    fn acceptor_for(&mut self, from: NodeId, ballot: Ballot, counts: bool) -> Option<&mut Acceptor> {
        (counts && ballot.by == from && ballot.round <= ROUND_MAX).then_some(&mut self.acceptor)
    }

    fn propose(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let wanted = self.may_vote(self.config.me) && self.is_wanted(now);
        let rank = self.rank();
        if !self.proposer.is_due(now.mono_ms, wanted, rank.saturating_mul(self.config.retry_ms)) {
            return;
        }
        let ballot = self.proposer.next_ballot(self.config.me, self.acceptor.round());
        let Ok(own) = self.acceptor.promise(ballot) else { return };
        let pause_ms = rank.saturating_add(1).saturating_mul(self.config.retry_ms);
        self.proposer.begin(now.mono_ms, ballot, pause_ms, own);
        self.say_to_voters(&Message::Ask { number: self.next_number(), ballot }, effects);
        self.count(now, effects);
    }

    /// This node accepts first. If it has promised more meanwhile, the attempt is over.
    fn have_accepted(&mut self, now: Now, ballot: Ballot, view: Arc<View>, effects: &mut Vec<Effect>) {
        let accepted = self.acceptor.accept(ballot, &view);
        let Some(attempt) = &mut self.proposer.attempt else { return };
        if accepted.is_err() {
            return;
        }
        attempt.phase = Phase::Accepting { view: view.clone(), by: BTreeSet::from([self.config.me]) };
        self.say_to_voters(&Message::Accept { ballot, view }, effects);
        self.count(now, effects);
    }

    fn decided(&mut self, view: Arc<View>, effects: &mut Vec<Effect>) {
        let told = match &self.standing {
            Some(standing) => standing.next(view),
            None => {
                let settled = self.inheritance().map_or(0, |lost| lost.settled);
                Told { settled: settled.min(view.number - 1), view, open: Vec::new(), gone: Vec::new() }
            }
        };
        if self.past.is_some() { self.told_between(told, effects) } else { self.install(told, effects) }
    }

    fn say_to_voters(&self, message: &Message, effects: &mut Vec<Effect>) {
        let voters = self.links.at(self.place()).filter(|peer| self.may_vote(*peer));
        effects.extend(voters.map(|to| Effect::Send { to, message: message.clone() }));
    }

    /// Whether the node takes part in deciding what follows this node's view.
    pub(super) fn may_vote(&self, id: NodeId) -> bool {
        match self.view() {
            Some(view) => view.contains(id),
            None if id == self.config.me => self.config.core,
            None => !self.surroundings.is_edge(id),
        }
    }

    /// More than half; or half, if nobody is left who could be part of another half.
    pub(super) fn is_quorum<'a>(&self, votes: impl IntoIterator<Item = &'a NodeId>) -> bool {
        let votes: BTreeSet<NodeId> = votes.into_iter().copied().collect();
        let Some(view) = self.view() else { return self.founders(&votes).len() >= self.founders_needed() };
        let members = view.members.iter().map(|member| member.id);
        let (for_it, others): (Vec<_>, Vec<_>) = members.partition(|id| votes.contains(id));
        match for_it.len().cmp(&others.len()) {
            std::cmp::Ordering::Greater => true,
            std::cmp::Ordering::Equal => others.iter().all(|id| self.is_gone(*id)),
            std::cmp::Ordering::Less => false,
        }
    }

    fn founders_needed(&self) -> usize {
        self.config.expected / 2 + 1
    }

    /// Those that still live: two runs of one node are not two.
    fn founders(&self, votes: &BTreeSet<NodeId>) -> Vec<NodeId> {
        votes.iter().copied().filter(|id| !self.is_gone(*id)).collect()
    }

    fn next_number(&self) -> u64 {
        self.view().map_or(1, |view| view.number.saturating_add(1))
    }

    /// Whether such a view may be decided now.
    fn may_follow(&self, view: &View) -> bool {
        let fits = match self.view() {
            Some(ours) => ours.cluster == view.cluster && view.number == self.next_number() && view.origin.is_empty(),
            None => view.number == view.origin.last().map_or(0, |last| last.number).saturating_add(1),
        };
        fits && !view.members.is_empty()
    }

    fn is_wanted(&self, now: Now) -> bool {
        match self.view() {
            Some(view) => wanted(&view.members, &self.facts(now, view)).is_some(),
            None => self.may_found(now),
        }
    }

    /// Enough nodes know no view, and no other lives that may know one; but who says nothing is waited for only so long.
    fn may_found(&self, now: Now) -> bool {
        let silent = &self.surroundings.silent;
        self.founds_at_ms().is_some_and(|at_ms| at_ms <= now.mono_ms)
            && silent.longer_than(now.mono_ms, self.config.unreachable_ms).eq(silent.all())
    }

    /// Nodes that have just begun give others a moment to be heard of: one of them may have the last copy of something. One
    /// that expects no other waits for nobody.
    fn founds_at_ms(&self) -> Option<u64> {
        let pause_ms = if self.founders_needed() > 1 { self.config.retry_ms } else { 0 };
        self.enough_since_ms.map(|since_ms| since_ms.saturating_add(pause_ms))
    }

    fn note_enough(&mut self, now: Now) {
        let others = || self.links.at(None).filter(|peer| self.may_vote(*peer)).count();
        let enough = self.standing.is_none() && 1 + others() >= self.founders_needed();
        self.enough_since_ms = enough.then(|| self.enough_since_ms.unwrap_or(now.mono_ms));
    }

    /// An accepted founding whose founders have died since. Every founding names another cluster, so nothing is decided
    /// twice if it is passed over; and to keep it would be to found, again and again, what can decide nothing.
    fn is_void(&self, accepted: &View) -> bool {
        self.standing.is_none() && self.has_no_future(accepted)
    }

    /// What this node proposes, where nothing is accepted yet.
    fn next_view(&self, now: Now, ballot: Ballot, promises: &BTreeMap<NodeId, Option<Vote>>) -> Option<View> {
        if let Some(view) = self.view() {
            let members = wanted(&view.members, &self.facts(now, view))?;
            return Some(View::new(view.cluster, self.next_number(), members));
        }
        let founders = self.founders(&promises.keys().copied().collect());
        let origin = self.inheritance().map_or_else(Vec::new, |lost| lost.origin());
        let lost = origin.last().map(|last| last.cluster);
        let stays = |id: &NodeId| lost.is_none_or(|lost| !self.comes_from_elsewhere(*id, lost));
        let members = founders.into_iter().filter(stays).map(|id| Member { id, points: self.config.points }).collect();
        // The round tells two foundings of this node apart, should the first have come to nothing.
        let chance = self.config.chance.wrapping_add(ballot.round);
        // What follows a cluster is younger, whatever the clocks say.
        let founded_ms = lost.map_or(0, |lost| lost.founded_ms.saturating_add(1)).max(now.unix_ms);
        Some(View::founding(ClusterId { founded_ms, chance }, members, origin))
    }

    fn facts(&self, now: Now, view: &View) -> Facts<'_> {
        let (now_ms, ms) = (now.mono_ms, self.config.unreachable_ms);
        let unsettled = self.standing.as_ref().map_or(0, |standing| standing.unsettled());
        Facts {
            known: &self.surroundings.known,
            gone: &self.surroundings.gone,
            suspects: self.surroundings.suspects(view, now_ms, ms),
            apart: self.surroundings.apart.all().collect(),
            long_apart: self.surroundings.apart.longer_than(now_ms, ms).collect(),
            settled: unsettled == 0,
            crowded: usize::try_from(unsettled).is_ok_and(|unsettled| unsettled >= self.config.open_max),
            points: self.config.points,
            steps: self.config.steps,
        }
    }

    /// How many voters come before this node.
    fn rank(&self) -> u64 {
        let before = self.links.at(self.place()).filter(|peer| *peer < self.config.me);
        before.filter(|peer| self.may_vote(*peer) && !self.is_gone(*peer)).count() as u64
    }

    /// A node whose view can have no successor makes room for a founding. As a member it goes on in the view, as far as
    /// that is possible without the others, until the founding can follow at once.
    fn gives_up(&self) -> bool {
        let place = self.place();
        let founds = |peer: &NodeId| !self.surroundings.is_edge(*peer) && !self.is_gone(*peer);
        let together = self.links.at(None).chain(self.links.at(place)).filter(founds);
        let helps = 1 + together.count() >= self.founders_needed();
        let outsider = self.view().is_some_and(|view| !view.contains(self.config.me));
        self.is_lost() && (outsider || helps)
    }

    fn next_due_ms(&self, now: Now) -> Option<u64> {
        let ms = self.config.unreachable_ms;
        let delay_ms = self.rank().saturating_mul(self.config.retry_ms);
        let dues = [
            self.proposer.next_ms(delay_ms),
            self.surroundings.apart.next_ms(now.mono_ms, ms),
            self.surroundings.silent.next_ms(now.mono_ms, ms),
            self.founds_at_ms().filter(|at_ms| *at_ms > now.mono_ms),
            self.side_due_ms(now),
        ];
        dues.into_iter().flatten().min()
    }
}
