//! Who seems to be there: gossip by chitchat, on a thread of its own, encrypted with the membership secret.
//!
//! Nothing is decided by what is heard here. It lets nodes find each other, and tells when one has fallen silent.

mod running;
mod seal;
mod seek;
mod transport;

#[cfg(test)]
mod tests;

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::AtomicU64},
    thread,
};

use appsockets_core::cluster::view::NodeId;
use tokio::sync::{mpsc, watch};

use self::running::Running;
pub use self::{seal::Refusal, seek::resolve};
use crate::secret::Secret;

/// Whom a node can't reach: as many as are told, which keeps the text short.
const UNREACHABLE_MAX: usize = 32;
/// Requests to the gossip thread that wait.
const COMMANDS_MAX: usize = 1024;

/// What a node tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Its peer port.
    pub peer: Option<SocketAddr>,
    pub core: bool,
    pub leaving: bool,
    pub unreachable: Vec<NodeId>,
    /// The number of its view.
    pub view: u64,
    /// The settings that it serves.
    pub revision: String,
    pub version: String,
}

/// What is known of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub id: NodeId,
    pub alive: bool,
    pub gossip: SocketAddr,
    pub facts: Facts,
}

/// What gossip is started with.
#[derive(Debug)]
pub struct Options {
    pub me: NodeId,
    /// The cluster's name.
    pub cluster: String,
    pub socket: UdpSocket,
    /// Where others reach the socket.
    pub advertise: SocketAddr,
    pub secret: Secret,
    /// Where others may be, `host:port`.
    pub seeds: Vec<String>,
    pub broadcast: Option<SocketAddr>,
    pub facts: Facts,
}

/// What was counted of datagrams.
#[derive(Debug, Default)]
pub struct Counters {
    pub sent: AtomicU64,
    pub sent_bytes: AtomicU64,
    pub received: AtomicU64,
    pub received_bytes: AtomicU64,
    /// Not sent: the system refused, or they were too large.
    pub not_sent: AtomicU64,
    /// By [`Refusal`].
    pub refused: [AtomicU64; Refusal::ALL.len()],
}

#[derive(Debug)]
enum Command {
    Tell(Facts),
    Contact(SocketAddr),
}

/// The gossip thread. It ends when this is dropped.
#[derive(Debug)]
pub struct Gossip {
    commands: mpsc::Sender<Command>,
    heard: watch::Receiver<Arc<[Heard]>>,
}

impl Gossip {
    pub fn start(options: Options, counters: Arc<Counters>) -> anyhow::Result<Gossip> {
        let (commands, taken) = mpsc::channel(COMMANDS_MAX);
        let (heard_in, heard) = watch::channel(Arc::from([]));
        let mut running = Running::new(options, counters, heard_in)?;
        let run = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(running.run(taken))
        };
        let run = move || {
            if let Err(error) = run() {
                tracing::error!(%error, "gossip has ended");
            }
        };
        thread::Builder::new().name("gossip".into()).spawn(run)?;
        Ok(Gossip { commands, heard })
    }

    /// All that is known of the others, whenever something of it has changed.
    pub fn heard(&self) -> watch::Receiver<Arc<[Heard]>> {
        self.heard.clone()
    }

    /// What this node tells of itself from now on. Every living node gets it at once.
    pub fn tell(&self, facts: Facts) {
        self.command(Command::Tell(facts));
    }

    /// Gossips with that address now.
    pub fn contact(&self, address: SocketAddr) {
        self.command(Command::Contact(address));
    }

    fn command(&self, command: Command) {
        if self.commands.try_send(command).is_err() {
            tracing::warn!("the gossip thread is behind");
        }
    }
}
