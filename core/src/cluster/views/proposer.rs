//! The proposer's part of deciding one view.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::cluster::{
    view::{NodeId, View},
    views::message::{Ballot, Vote},
};

/// No honest cluster comes this far, at one round for each attempt on one number; there is ample room above.
pub const ROUND_MAX: u64 = 1 << 48;

/// After so many attempts the time between them grows no more.
const GROWTH_MAX: u64 = 4;

/// This node's attempts to have the next number decided.
#[derive(Debug, Default)]
pub struct Proposer {
    /// The highest round that anybody was heard of to use.
    round: u64,
    attempts: u64,
    wanted_since_ms: Option<u64>,
    pub attempt: Option<Attempt>,
}

/// One ballot of this node.
#[derive(Debug)]
pub struct Attempt {
    pub ballot: Ballot,
    pub phase: Phase,
    until_ms: u64,
}

#[derive(Debug)]
pub enum Phase {
    /// Who has promised, and what they had accepted.
    Asking(BTreeMap<NodeId, Option<Vote>>),
    /// Who has accepted the view.
    Accepting { view: Arc<View>, by: BTreeSet<NodeId> },
}

impl Proposer {
    /// Whether an attempt is to begin now. The first in rank begins at once, the others give it time.
    pub fn is_due(&mut self, now_ms: u64, wanted: bool, delay_ms: u64) -> bool {
        let expired = self.attempt.as_ref().is_some_and(|attempt| attempt.until_ms <= now_ms);
        if !wanted {
            self.wanted_since_ms = None;
            self.attempt.take_if(|_| expired);
            return false;
        }
        let since_ms = *self.wanted_since_ms.get_or_insert(now_ms);
        match self.attempt {
            Some(_) => expired,
            None => since_ms.saturating_add(delay_ms) <= now_ms,
        }
    }

    /// When [`Proposer::is_due`] is to be asked again.
    pub fn next_ms(&self, delay_ms: u64) -> Option<u64> {
        match &self.attempt {
            Some(attempt) => Some(attempt.until_ms),
            None => self.wanted_since_ms.map(|since_ms| since_ms.saturating_add(delay_ms)),
        }
    }

    /// A ballot above all that were heard of.
    pub fn next_ballot(&mut self, me: NodeId, promised_round: u64) -> Ballot {
        self.round = self.round.max(promised_round) + 1;
        Ballot { round: self.round, by: me }
    }

    /// `pause_ms` differs by rank, so that of two proposers that got into each other's way one comes first.
    pub fn begin(&mut self, now_ms: u64, ballot: Ballot, pause_ms: u64, own: Option<Vote>) {
        self.attempts = (self.attempts + 1).min(GROWTH_MAX);
        let until_ms = now_ms.saturating_add(pause_ms.saturating_mul(self.attempts)).max(now_ms.saturating_add(1));
        let phase = Phase::Asking(BTreeMap::from([(ballot.by, own)]));
        self.attempt = Some(Attempt { ballot, phase, until_ms });
    }

    pub fn promised(&mut self, from: NodeId, ballot: Ballot, accepted: Option<Vote>) {
        if let Some(Phase::Asking(promises)) = self.phase_of(ballot) {
            promises.insert(from, accepted);
        }
    }

    pub fn accepted(&mut self, from: NodeId, ballot: Ballot) {
        if let Some(Phase::Accepting { by, .. }) = self.phase_of(ballot) {
            by.insert(from);
        }
    }

    pub fn refused(&mut self, promised: Ballot) {
        if promised.round <= ROUND_MAX {
            self.round = self.round.max(promised.round);
        }
    }

    fn phase_of(&mut self, ballot: Ballot) -> Option<&mut Phase> {
        let attempt = self.attempt.as_mut().filter(|attempt| attempt.ballot == ballot)?;
        Some(&mut attempt.phase)
    }
}

/// What may have been decided already: of all accepted views the one with the highest ballot.
pub fn bound_to(promises: &BTreeMap<NodeId, Option<Vote>>) -> Option<Arc<View>> {
    let votes = promises.values().flatten();
    votes.max_by_key(|vote| vote.ballot).map(|vote| vote.view.clone())
}
