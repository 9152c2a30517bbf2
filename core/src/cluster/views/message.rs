//! What nodes say to each other about views, what is known of them, and what [`super::Views`] wants done.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::{
    view::{NodeId, View},
    views::side::Said,
};

/// What [`super::Views`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    pub me: NodeId,
    /// Core nodes that are expected when a cluster is founded; more than half of them have to meet.
    pub expected: usize,
    /// The points of a full member.
    pub points: u16,
    /// In how many steps a joiner gets its points, and a leaver gives them.
    pub steps: u16,
    /// Chance from outside, for the name of a cluster that this node founds.
    pub chance: u64,
    /// Whether this node becomes a member; an edge node only learns of views.
    pub core: bool,
    /// The shortest time after which a proposer tries again. Longer than a message takes there and back.
    pub retry_ms: u64,
    /// How long two living nodes may be out of each other's reach before one of them is left out.
    pub unreachable_ms: u64,
    /// Views that may wait for being settled; beyond, only deaths are proposed.
    pub open_max: usize,
}

/// What gossip says of a node. Nothing is decided by it: it gives reasons to propose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    pub id: NodeId,
    pub core: bool,
    pub leaving: bool,
    pub alive: bool,
    /// Whom that node can't reach.
    pub unreachable: Vec<NodeId>,
}

/// An attempt to decide; a higher one takes precedence. No two attempts for one number share a ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Ballot {
    pub round: u64,
    /// Who proposes.
    pub by: NodeId,
}

/// What an acceptor has accepted, and in which attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vote {
    pub ballot: Ballot,
    pub view: Arc<View>,
}

/// Where a node stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub view: Arc<View>,
    /// The views from the last settled one to the one before `view`, which is always there; oldest first. Some may be of
    /// the cluster that this one follows.
    pub open: Vec<Arc<View>>,
    /// The last settled view; 0 if none is.
    pub settled: u64,
    /// Members of `view` that are certainly gone: a view that can have no successor must not be taken for a living one.
    pub gone: Vec<NodeId>,
}

/// What one node says to another. The first on each link is `NoView` or `Is`, so a receiver always knows where the
/// sender stands. What belongs to deciding counts only between nodes that stand at the same view, and names the number
/// to be decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// The sender knows no view; or it has left one whose cluster has lost a majority for ever, and this is where it stood.
    NoView(Option<Told>),
    /// The sender has this view.
    Is(Told),
    /// Promise to take part in no lower ballot, and say what you accepted.
    Ask {
        number: u64,
        ballot: Ballot,
    },
    Promise {
        number: u64,
        ballot: Ballot,
        accepted: Option<Vote>,
    },
    /// Accept this view, unless you promised a higher ballot.
    Accept {
        ballot: Ballot,
        view: Arc<View>,
    },
    Accepted {
        number: u64,
        ballot: Ballot,
    },
    /// The ballot is below a promised one.
    Refused {
        number: u64,
        ballot: Ballot,
        promised: Ballot,
    },
    /// The sender serves all that it owns in this view, and so do its copies.
    Served {
        number: u64,
    },
    /// All members have served this view.
    Settled {
        number: u64,
    },
    /// What the sender says of itself, where nodes reach no majority.
    Side(Said),
    /// Who belongs to the sender's side view of the view with that number.
    Aside {
        number: u64,
        view: Arc<View>,
    },
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    Send {
        to: NodeId,
        message: Message,
    },
    /// This node has this view from now on. `open` are the views from the last settled one to the one before, oldest
    /// first.
    Install {
        view: Arc<View>,
        open: Vec<Arc<View>>,
    },
    /// All members have served this view.
    Settled {
        number: u64,
    },
    /// Whether the link to that peer is up and the peer stands at this node's view.
    Session {
        peer: NodeId,
        on: bool,
    },
    /// The side view at which this node stands from now on, besides its view; none: it stands at none any more.
    Side(Option<Arc<View>>),
    /// Whether that peer stands at this node's side view. It does so only in a session.
    SideSession {
        peer: NodeId,
        on: bool,
    },
    /// This node has to begin again as a new one, with a higher generation. No other effect follows.
    Dissolve,
}
