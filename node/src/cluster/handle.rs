//! How the rest of the node reaches the cluster's thread.

use std::{net::SocketAddr, sync::Arc};

use appsockets_core::cluster::view::{NodeId, View};
use tokio::sync::{mpsc, oneshot, watch};

use super::{gossip, link::Counters};

/// Requests that wait for the cluster's thread, which takes them before anything else.
pub const CONTROLS_MAX: usize = 4096;

/// What is asked of the cluster's thread.
#[derive(Debug)]
pub enum Control {
    /// A shard serves all that it owns by this view.
    Resumed {
        view: u64,
    },
    Served {
        view: u64,
    },
    /// Give up all channels, and say when that is done.
    Leave {
        done: oneshot::Sender<()>,
    },
    SetCore(bool),
    /// That node is certainly gone.
    Forget {
        node: u64,
        done: oneshot::Sender<bool>,
    },
    /// Say goodbye, and end.
    End {
        done: oneshot::Sender<()>,
    },
}

/// When this node last came to a view, when all that it owns or hears went on in one, and when it learned that all serve one.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moments {
    pub installed_unix_ms: u64,
    pub resumed_unix_ms: u64,
    pub settled_unix_ms: u64,
}

/// What is known of the cluster now.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub view: Option<Arc<View>>,
    /// The side view at which this node stands, because it reaches no majority.
    pub side: Option<Arc<View>>,
    /// The last view that all its members have served; 0 if none is.
    pub settled: u64,
    /// When this node began to look for others, in Unix milliseconds.
    pub started_unix_ms: u64,
    pub moments: Moments,
    /// Since this process was started.
    pub views_installed: u64,
    /// All other nodes that are known.
    pub nodes: Vec<NodeStatus>,
    pub core: bool,
    pub leaving: bool,
    /// This process's part in the cluster has ended, because it met an older one: only a new part can join that.
    pub dissolved: bool,
}

/// Another node.
#[derive(Clone, Debug)]
pub struct NodeStatus {
    pub id: NodeId,
    pub address: Option<SocketAddr>,
    pub core: bool,
    pub leaving: bool,
    pub alive: bool,
    pub linked: bool,
    /// When it was first heard of, in Unix milliseconds.
    pub met_unix_ms: u64,
    /// What waits to be sent to it, and what was sent, in bytes.
    pub waiting: usize,
    pub sent: u64,
    /// What it says of itself: the number of its view, which settings it serves, which version it runs.
    pub view: u64,
    pub revision: String,
    pub version: String,
}

/// The cluster's thread, as others reach it.
#[derive(Debug)]
pub struct Cluster {
    pub me: NodeId,
    pub address: SocketAddr,
    pub control: mpsc::Sender<Control>,
    pub status: watch::Receiver<Arc<Status>>,
    pub links: Arc<Counters>,
    pub gossip: Arc<gossip::Counters>,
}

impl Cluster {
    pub fn status(&self) -> Arc<Status> {
        self.status.borrow().clone()
    }

    /// All that a shard owns or hears goes on in this view.
    pub fn resumed(&self, view: u64) {
        self.tell(Control::Resumed { view });
    }

    /// A shard serves all that it owns by this view, and so do its copies.
    pub fn served(&self, view: u64) {
        self.tell(Control::Served { view });
    }

    fn tell(&self, control: Control) {
        if let Err(error) = self.control.try_send(control) {
            tracing::error!(%error, "the cluster's thread takes nothing any more");
        }
    }

    /// Whether this node takes its share of the channels from now on.
    pub async fn set_core(&self, core: bool) {
        let _ = self.control.send(Control::SetCore(core)).await;
    }

    /// Gives up all channels. Returns when others serve them, or nobody can.
    pub async fn leave(&self) {
        let (done, left) = oneshot::channel();
        if self.control.send(Control::Leave { done }).await.is_ok() {
            let _ = left.await;
        }
    }

    /// That node, in every run so far, is certainly gone. False if there is no such node, or it is in reach.
    pub async fn forget(&self, node: u64) -> bool {
        let (done, forgotten) = oneshot::channel();
        self.control.send(Control::Forget { node, done }).await.is_ok() && forgotten.await.unwrap_or(false)
    }

    /// Ends this node's part: the others know at once that it is gone.
    pub async fn end(&self) {
        let (done, ended) = oneshot::channel();
        if self.control.send(Control::End { done }).await.is_ok() {
            let _ = ended.await;
        }
    }

    /// Waits until this process's part in the cluster has ended by itself.
    pub async fn dissolved(&self) {
        let mut status = self.status.clone();
        if status.wait_for(|status| status.dissolved).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
