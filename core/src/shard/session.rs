//! A session that is kept at a place on the ring, until somebody takes it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{cluster::view::NodeId, session::record::Record, shard::peer::SessionOp};

/// What is kept at a place.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct KeptSession {
    /// None once the session has ended or was taken.
    pub record: Option<Arc<Record>>,
    /// Where it is.
    pub node: Option<NodeId>,
    /// When it is given up unless it is taken, because its node is lost.
    pub leaves_ms: Option<u64>,
    /// Who took it: the same request again gets it again, and nobody else does.
    pub taken: Option<Taken>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Taken {
    pub by: NodeId,
    pub counter: u64,
    pub record: Arc<Record>,
}

impl KeptSession {
    pub fn apply(&mut self, op: SessionOp, sender: NodeId, counter: u64) {
        match op {
            SessionOp::Keep(record) => {
                (self.record, self.node, self.leaves_ms) = (record, Some(sender), None);
            }
            SessionOp::Take => {
                let taken = self.record.take().map(|record| Taken { by: sender, counter, record });
                self.taken = taken.or(self.taken.take());
            }
        }
    }

    /// The session's node is lost, or it lives after all.
    pub fn doubt(&mut self, lost: impl Fn(NodeId) -> bool, leaves_ms: u64) {
        let is_lost = self.record.is_some() && self.node.is_some_and(lost);
        self.leaves_ms = is_lost.then(|| self.leaves_ms.unwrap_or(leaves_ms));
    }

    /// Whether [`KeptSession::doubt`] would change anything.
    pub fn minds(&self, lost: impl Fn(NodeId) -> bool) -> bool {
        (self.record.is_some() && self.node.is_some_and(lost)) != self.leaves_ms.is_some()
    }

    /// Nobody came for it in time.
    pub fn expire(&mut self, now_ms: u64) {
        if self.leaves_ms.is_some_and(|leaves_ms| leaves_ms <= now_ms) {
            (self.record, self.leaves_ms) = (None, None);
        }
    }
}
