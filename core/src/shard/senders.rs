//! What the nodes that publish to a channel have had answered, so that what one of them repeats is not accepted twice.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::{cluster::view::NodeId, code::ErrorCode, serial::Serial};

/// The publishing nodes of a channel.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Senders(Vec<(NodeId, Sender)>);

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Sender {
    /// The highest counter that was looked at.
    last: u64,
    /// Those that the sender may not have been answered, ascending; pending without an outcome.
    outcomes: VecDeque<(u64, Option<Result<Serial, ErrorCode>>)>,
}

/// A publish's place among those of its sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub sender: NodeId,
    pub counter: u64,
    /// The one that was unanswered before it; 0 if none was.
    pub after: u64,
    /// All before this are answered.
    pub oldest: u64,
}

/// What a publish is to the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It is pending from now on.
    Next,
    Pending,
    Answered(Result<Serial, ErrorCode>),
    /// One before it has not come yet.
    TooEarly,
    /// Nobody is here to tell whether it was accepted before.
    Stranger,
}

impl Senders {
    /// `repeated`: it was sent before, to an owner that is gone with what it knew.
    pub fn take(&mut self, place: Place, repeated: bool) -> Turn {
        let Place { sender, counter, after, oldest } = place;
        let doubt = repeated.then_some(Err(ErrorCode::TryAgain));
        let turn = if repeated { Turn::Stranger } else { Turn::Next };
        let Some(known) = self.find(sender) else {
            if after != 0 {
                return Turn::TooEarly;
            }
            self.0.push((sender, Sender { last: counter, outcomes: VecDeque::from([(counter, doubt)]) }));
            return turn;
        };
        while known.outcomes.front().is_some_and(|(counter, outcome)| *counter < oldest && outcome.is_some()) {
            known.outcomes.pop_front();
        }
        if counter <= known.last {
            let seen = known.outcomes.iter().find(|(other, _)| *other == counter);
            return match seen {
                Some((_, Some(outcome))) => Turn::Answered(*outcome),
                Some((_, None)) => Turn::Pending,
                // Refused by an owner that is gone, and a refusal is not kept in copies.
                None => Turn::Answered(Err(ErrorCode::TryAgain)),
            };
        }
        if after > known.last {
            return Turn::TooEarly;
        }
        // Each of several repeats may have been accepted, not only the first that comes.
        known.last = counter;
        known.outcomes.push_back((counter, doubt));
        turn
    }

    /// A publish has its outcome.
    pub fn done(&mut self, sender: NodeId, counter: u64, outcome: Result<Serial, ErrorCode>) {
        let Some(known) = self.find(sender) else {
            let outcomes = VecDeque::from([(counter, Some(outcome))]);
            return self.0.push((sender, Sender { last: counter, outcomes }));
        };
        known.last = known.last.max(counter);
        match known.outcomes.iter_mut().find(|(other, _)| *other == counter) {
            Some((_, pending)) => *pending = Some(outcome),
            None => known.outcomes.push_back((counter, Some(outcome))),
        }
    }

    /// Of an owner that gives the channel away: what is not decided is as if it had never come.
    pub fn forget_pending(&mut self) {
        for (_, sender) in &mut self.0 {
            let pending = sender.outcomes.iter().find(|(_, outcome)| outcome.is_none());
            let Some(first) = pending.map(|(counter, _)| *counter) else { continue };
            sender.outcomes.retain(|(counter, outcome)| *counter < first || matches!(outcome, Some(Ok(_))));
            let accepted = sender.outcomes.back().map_or(0, |(counter, _)| *counter);
            sender.last = accepted.max(first - 1);
        }
    }

    /// Publishes without an outcome: by whom, and their counters.
    pub fn pending(&self) -> impl Iterator<Item = (NodeId, u64)> + '_ {
        self.0.iter().flat_map(|(node, sender)| {
            let pending = sender.outcomes.iter().filter(|(_, outcome)| outcome.is_none());
            pending.map(|(counter, _)| (*node, *counter))
        })
    }

    /// Whether nobody but this node has published here.
    pub fn is_only(&self, node: NodeId) -> bool {
        self.0.iter().all(|(sender, _)| *sender == node)
    }

    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.0.retain(|(sender, _)| keep(*sender));
    }

    fn find(&mut self, sender: NodeId) -> Option<&mut Sender> {
        self.0.iter_mut().find(|(other, _)| *other == sender).map(|(_, known)| known)
    }
}
