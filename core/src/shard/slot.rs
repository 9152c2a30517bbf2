//! What this node has of one channel: a relay for its own sessions, and a part in keeping it.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use crate::{
    cluster::view::NodeId,
    serial::{Epoch, Serial},
    shard::{owner::Channel, peer::ToOwner, relay::Relay, state::State},
};

/// One channel at this node.
#[derive(Debug, Default)]
pub struct Slot {
    pub relay: Option<Box<Relay>>,
    pub role: Role,
    pub touched: bool,
    /// It is among those whose copies are behind.
    pub behind: bool,
    /// Its owner, which is this node, has yet to take over the copies of the view in force.
    pub misplaced: bool,
    /// As when its last turn ended, so that a look at all channels need not look into each: whether its relay waits for an
    /// answer; and of an owner, whether every copy has the state, whether somebody waits for that, and how many hold it.
    pub waits: bool,
    pub copied: bool,
    pub waited: bool,
    pub holders: u8,
    pub wake_ms: Option<u64>,
}

/// This node's part in keeping a channel.
#[derive(Debug, Default)]
pub enum Role {
    #[default]
    None,
    /// The view says that it is this node's, but its state is not certain yet.
    Waiting(Box<Waiting>),
    Owner(Box<Channel>),
    /// What is kept of it for others: a copy of the owner's state, or what this node had when it gave it away.
    Kept(Box<Kept>),
}

/// A state that is kept and never numbered here.
#[derive(Debug)]
pub struct Kept {
    pub state: Box<State>,
    /// For whom it was sealed; none for a copy.
    pub sealed: Option<Sealed>,
    /// When it was last heard of.
    pub used_ms: u64,
}

/// Whoever may go on in the same epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub to: NodeId,
    /// The view in which this node gave it away with its word that nothing is better; none without.
    pub word_in: Option<u64>,
}

/// A channel whose state is looked for.
#[derive(Debug, Default)]
pub struct Waiting {
    /// Who owned it in the view before.
    pub group: Option<NodeId>,
    /// What this node has of it.
    pub own: Option<Box<Kept>>,
    /// What others have of it.
    pub haves: Vec<Have>,
    /// What was asked meanwhile.
    pub held: SmallVec<[(NodeId, ToOwner); 1]>,
    /// Nodes that asked more than can wait: nothing of them is held, and they are to ask anew.
    pub dropped: BTreeSet<NodeId>,
    pub fetching: Option<NodeId>,
}

/// A state that another node keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Have {
    pub node: NodeId,
    pub serial: Serial,
    pub sealed: bool,
}

impl Kept {
    pub fn rank(&self) -> Rank {
        rank(self.state.current(), self.sealed.is_some())
    }
}

impl Have {
    pub fn rank(&self) -> Rank {
        rank(self.serial, self.sealed)
    }
}

/// How much a state knows: the later epoch, then the greater number, and of equal ones the sealed, which may go on in
/// the same epoch.
pub type Rank = (Epoch, u64, bool);

fn rank(serial: Serial, sealed: bool) -> Rank {
    (serial.epoch, serial.sequence, sealed)
}

impl Slot {
    pub fn is_empty(&self) -> bool {
        matches!(self.role, Role::None) && self.relay.as_ref().is_none_or(|relay| relay.is_empty())
    }

    /// What is kept here for others, if anything is.
    pub fn kept(&self) -> Option<&Kept> {
        match &self.role {
            Role::Kept(kept) => Some(kept),
            Role::None | Role::Waiting(_) | Role::Owner(_) => None,
        }
    }
}
