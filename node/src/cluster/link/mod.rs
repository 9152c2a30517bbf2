//! One ordered stream of frames for each pair of nodes. The node of the lesser identity opens it; the other makes itself
//! known by a call, so that it is opened at once.
//!
//! The first frame of each side says who it is. What a link carried when it broke is lost and never sent on another.

mod dial;
mod outgoing;
mod service;
mod settings;
#[cfg(test)]
mod tests;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use appsockets_core::cluster::view::NodeId;
use appsockets_proto::cluster::{Frame, Frames, Hello, frame};
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

pub use dial::{Failure, announce, dial};
pub use outgoing::Outgoing;
pub use service::serve;
pub use settings::{Pulled, Reached, pull};

use super::codec::PROTOCOL;
use crate::{secret::Secret, settings::Settings};

/// The largest message between nodes: the state of a channel, with its history.
const MESSAGE_BYTES_MAX: usize = 256 << 20;
/// What may be on its way to a node that has not read it.
const WINDOW_BYTES: u32 = 8 << 20;
/// A silent connection is pinged after this, and given up after as long again and half: the network may drop packets
/// without a word.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_millis(1500);
/// How long a node may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a call shows the secret.
const SECRET_HEADER: &str = "appsockets-rpc-secret-bin";

/// What this node shows to others, and what its links tell it.
pub struct Local {
    pub me: NodeId,
    pub cluster: String,
    /// This node's peer port, as others reach it.
    pub address: SocketAddr,
    /// How many shards this node has.
    pub shards: u32,
    /// Shown with each call, and demanded from each caller.
    pub rpc: Secret,
    pub core: AtomicBool,
    pub leaving: AtomicBool,
    pub settings: Arc<Settings>,
    pub events: mpsc::Sender<LinkEvent>,
    pub counters: Arc<Counters>,
}

/// What was counted of links since the node started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Calls without the secret.
    pub denied: AtomicU64,
    /// Calls of nodes that can't be taken for a peer: another cluster, another protocol, or nonsense.
    pub refused: AtomicU64,
    pub opened: AtomicU64,
    pub received_frames: AtomicU64,
    pub received_bytes: AtomicU64,
}

/// Another node, as it presents itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    pub id: NodeId,
    pub address: SocketAddr,
    pub core: bool,
    pub leaving: bool,
    pub shards: u32,
    /// Which settings it serves.
    pub revision: String,
    /// The digest of the metadata of channels that it holds; None: it is older than that.
    pub metadata: Option<u64>,
}

/// What happens on links.
#[derive(Debug)]
pub enum LinkEvent {
    /// A node has made itself known.
    Met(Peer),
    Up {
        peer: Peer,
        outgoing: Arc<Outgoing>,
    },
    Frames {
        from: NodeId,
        link: u64,
        frames: Vec<Frame>,
    },
    Down {
        from: NodeId,
        link: u64,
    },
}

impl Local {
    pub fn hello(&self) -> Hello {
        Hello {
            node: self.me.node,
            generation: self.me.generation,
            cluster: self.cluster.clone(),
            protocol: PROTOCOL,
            address: self.address.to_string(),
            core: self.core.load(Ordering::Relaxed),
            leaving: self.leaving.load(Ordering::Relaxed),
            shards: self.shards,
            revision: self.settings.current().revision.to_string(),
            metadata: Some(self.settings.metadata_digest()),
        }
    }

    /// Who says this, if it can be a peer of this node.
    pub fn peer(&self, hello: &Hello) -> Result<Peer, Status> {
        let refuse = |sentence: String| {
            self.counters.refused.fetch_add(1, Ordering::Relaxed);
            Err(Status::failed_precondition(sentence))
        };
        if hello.cluster != self.cluster {
            return refuse(format!("This node is of the cluster \"{}\": set `cluster.name`.", self.cluster));
        }
        if hello.protocol != PROTOCOL {
            return refuse(format!("This node speaks protocol {PROTOCOL}: run versions that speak the same."));
        }
        if hello.node == self.me.node && hello.generation == self.me.generation {
            return refuse("A node needs no link to itself.".to_owned());
        }
        match hello.address.parse() {
            Ok(address) if hello.shards > 0 => Ok(Peer {
                id: NodeId { node: hello.node, generation: hello.generation },
                address,
                core: hello.core,
                leaving: hello.leaving,
                shards: hello.shards,
                revision: hello.revision.chars().take(64).collect(),
                metadata: hello.metadata,
            }),
            _ => refuse("Say where you can be reached, and how many shards you have.".to_owned()),
        }
    }

    /// The first frame of a link.
    fn peer_of(&self, frames: Option<Frames>) -> Result<Peer, Status> {
        let first = frames.and_then(|frames| frames.frames.into_iter().next()).and_then(|frame| frame.frame);
        match first {
            Some(frame::Frame::Hello(hello)) => self.peer(&hello),
            _ => Err(Status::failed_precondition("The first frame of a link says who sends it.")),
        }
    }
}

/// Hands over what comes on a link until it ends.
async fn receive(local: &Local, mut frames: Streaming<Frames>, peer: Peer, outgoing: Arc<Outgoing>) {
    let (from, link) = (peer.id, outgoing.number);
    local.counters.opened.fetch_add(1, Ordering::Relaxed);
    let mut heard = local.events.send(LinkEvent::Up { peer, outgoing: outgoing.clone() }).await.is_ok();
    while heard {
        let next = tokio::select! {
            next = frames.message() => next,
            () = outgoing.closed() => break,
        };
        match next {
            Ok(Some(Frames { frames })) => {
                local.count(&frames);
                heard = local.events.send(LinkEvent::Frames { from, link, frames }).await.is_ok();
            }
            Ok(None) => break,
            Err(status) => {
                tracing::debug!(?from, %status, "a link broke");
                break;
            }
        }
    }
    outgoing.close();
    // Nobody hears it when this node ends, and all its links with it.
    let _ = local.events.send(LinkEvent::Down { from, link }).await;
}

impl Local {
    fn count(&self, frames: &[Frame]) {
        let bytes = frames.iter().map(|frame| match &frame.frame {
            Some(frame::Frame::Shard(shard)) => shard.messages.len(),
            Some(frame::Frame::Views(message)) => message.len(),
            _ => 0,
        });
        self.counters.received_frames.fetch_add(frames.len() as u64, Ordering::Relaxed);
        self.counters.received_bytes.fetch_add(bytes.sum::<usize>() as u64, Ordering::Relaxed);
    }
}
