//! Nodes that are broken on purpose: the judge has to notice.

use appsockets_core::cluster::{view::NodeId, views::message::Message};

use crate::chance::Chance;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// Now and then a vote counts that nobody gave, as if a quorum were one less.
    FakeVotes,
    /// An acceptor accepts a view although it has promised a higher ballot.
    ForgottenPromises,
    /// A proposer does not hear what others have accepted.
    IgnoredVotes,
}

impl Fault {
    /// What goes on the wire instead.
    pub fn disturb(self, message: Message) -> Message {
        match (self, message) {
            (Fault::IgnoredVotes, Message::Promise { number, ballot, .. }) => {
                Message::Promise { number, ballot, accepted: None }
            }
            (Fault::ForgottenPromises, Message::Refused { number, ballot, .. }) => Message::Accepted { number, ballot },
            (_, message) => message,
        }
    }

    /// An answer that its sender knows nothing of, in place of the question.
    pub fn fake_answer(self, to: NodeId, message: &Message, chance: &mut Chance) -> Option<Message> {
        if self != Fault::FakeVotes || to.node.is_multiple_of(2) || chance.percent(30) {
            return None;
        }
        match message {
            Message::Ask { number, ballot } => {
                Some(Message::Promise { number: *number, ballot: *ballot, accepted: None })
            }
            Message::Accept { ballot, view } => Some(Message::Accepted { number: view.number, ballot: *ballot }),
            _ => None,
        }
    }
}
