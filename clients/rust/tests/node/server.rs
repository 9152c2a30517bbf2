//! A node in this process.

use std::{net::SocketAddr, time::Duration};

use appsockets_client::Options;
use appsockets_node::{
    config::Config,
    node::{End, Node},
};
use tempfile::TempDir;
use tokio::{sync::oneshot, task::JoinHandle};

use super::in_time;

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {allowAnonymous: true, allowStore: true, allowRetain: true}}
---
{kind: Hub, name: closed, spec: {allowAnonymous: false}}
";

pub struct Server {
    pub address: SocketAddr,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<anyhow::Result<End>>,
}

impl Server {
    pub async fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("hubs.yaml"), HUBS).unwrap();
        Server::start_in(folder, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// The same node again, or another one.
    pub async fn start_in(folder: TempDir, listen: SocketAddr) -> Server {
        let mut config = Config { listen, data: folder.path().join("data"), workers: 2, ..Config::default() };
        config.session.rate_limit = 1_000_000;
        config.engine.drain_ms = 100;
        // Enough for a client that falls behind by all that a test publishes.
        config.channel.max_live_history_size = 2_000;
        let node = Node::start(config, Some(folder.path().join("hubs.yaml"))).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let address = node.address();
        let serving = tokio::spawn(node.serve(async { drop(stopped.await) }));
        Server { address, folder, stop, serving }
    }

    /// Stops it; what it keeps and where it was are left.
    pub async fn stopped(self) -> (TempDir, SocketAddr) {
        drop(self.stop);
        in_time(self.serving).await.unwrap().unwrap();
        (self.folder, self.address)
    }

    pub fn options(&self) -> Options {
        options(self.address)
    }
}

/// Those of a client that is quick to come back.
pub fn options(address: SocketAddr) -> Options {
    let mut options = Options::new(format!("ws://{address}"), "shop");
    options.backoff_first = Duration::from_millis(5);
    options.backoff_max = Duration::from_millis(50);
    options
}
