//! What the cluster's thread tells the workers.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use appsockets_core::cluster::view::{NodeId, View};
use bytes::Bytes;

use super::link::Outgoing;
use crate::{
    edge::MailError,
    engine::{Mail, Shared},
};

/// To a worker's shard, in this order.
#[derive(Clone, Debug)]
pub enum ClusterMail {
    Install {
        view: Arc<View>,
        open: Vec<Arc<View>>,
    },
    /// The link on which the shard speaks with that node from now on, and into how many shards its channels are divided;
    /// none if it can't.
    Session {
        peer: NodeId,
        link: Option<(Arc<Outgoing>, u32)>,
    },
    /// The side view at which this node stands, or none any more.
    Side(Option<Arc<View>>),
    /// Into how many shards the channels of a node are divided that stands there, too; none if it does no longer.
    SideSession {
        peer: NodeId,
        shards: Option<u32>,
    },
    Alive(Arc<BTreeSet<NodeId>>),
    Gone(NodeId),
    Settled(u64),
    /// What that node's shards say.
    Peer {
        from: NodeId,
        messages: Bytes,
    },
}

/// Mail that waits for room at the workers, in order. What comes from peers is not read while much waits.
pub struct Workers {
    shared: Arc<Shared>,
    waiting: Vec<VecDeque<ClusterMail>>,
    bytes: usize,
}

/// What may wait for the workers before nothing more is taken from links, in bytes.
const WAITING_MAX: usize = 32 << 20;
const MAIL_BYTES: usize = 128;

impl Workers {
    pub fn new(shared: Arc<Shared>) -> Workers {
        let waiting = (0..shared.workers()).map(|_| VecDeque::new()).collect();
        Workers { shared, waiting, bytes: 0 }
    }

    pub fn count(&self) -> usize {
        self.waiting.len()
    }

    /// Nothing, if there is no such worker.
    pub fn post(&mut self, worker: usize, mail: ClusterMail) {
        if let Some(waiting) = self.waiting.get_mut(worker) {
            self.bytes += size(&mail);
            waiting.push_back(mail);
        }
    }

    pub fn post_all(&mut self, mail: &ClusterMail) {
        (0..self.waiting.len()).for_each(|worker| self.post(worker, mail.clone()));
    }

    /// Hands over what the workers have room for. False if something is left.
    pub fn flush(&mut self) -> bool {
        let Workers { shared, waiting, bytes } = self;
        let mut all = true;
        for (worker, waiting) in waiting.iter_mut().enumerate() {
            while let Some(mail) = waiting.pop_front() {
                *bytes -= size(&mail);
                // A worker that is gone takes nothing any more: the process is about to end.
                if let Err(MailError::Full(Mail::Cluster(mail))) = shared.mail(worker as u16, Mail::Cluster(mail)) {
                    *bytes += size(&mail);
                    waiting.push_front(mail);
                    all = false;
                    break;
                }
            }
        }
        all
    }

    pub fn is_crowded(&self) -> bool {
        self.bytes > WAITING_MAX
    }
}

fn size(mail: &ClusterMail) -> usize {
    MAIL_BYTES
        + match mail {
            ClusterMail::Peer { messages, .. } => messages.len(),
            _ => 0,
        }
}
