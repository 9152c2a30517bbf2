//! Clusters that are broken on purpose, to show that the simulation can fail.

use std::sync::Arc;

use appsockets_core::{cluster::view::View, shard::peer::PeerMessage};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
}

impl Fault {
    /// A message as the broken cluster passes it on.
    pub fn spoil(self, message: PeerMessage) -> Option<PeerMessage> {
        Some(message)
    }

    /// The open views as the broken cluster remembers them.
    pub fn open(self, open: Vec<Arc<View>>) -> Vec<Arc<View>> {
        open
    }
}
