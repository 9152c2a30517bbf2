//! This node among the others of its cluster: who they are, the links to them, and what the nodes decide together.
//!
//! Two threads beside the workers: *gossip* (`gossip/`), which only says who seems to be there, and *cluster*, which has
//! the links (`link/`) and drives the core's [`Views`](appsockets_core::cluster::views::Views) (`driver/`). What shards say
//! to each other is encoded and decoded by the workers; the cluster's thread passes it on unread.

pub(crate) mod codec;
mod driver;
pub mod gossip;
mod handle;
mod link;
mod mail;
mod start;

pub use codec::Undecodable;
pub use handle::{Cluster, NodeStatus, Status};
pub use link::Outgoing;
pub use mail::ClusterMail;
pub use start::{Identity, Options};
