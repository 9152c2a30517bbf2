//! A node in this process.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use appsockets_core::channel::ChannelKey;
use appsockets_node::{config::Config, node::Node};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::client::{Client, Connect};

pub const WORKERS: u16 = 2;

/// A node on a free port, with a folder of its own.
pub struct Server {
    pub address: SocketAddr,
    pub admin: Option<SocketAddr>,
    folder: TempDir,
    /// It stops when this goes.
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// With these resources.
    pub async fn start(hubs: &str) -> Server {
        Server::start_with(hubs, |_| {}).await
    }

    /// With a configuration that differs from that of most tests.
    pub async fn start_with(hubs: &str, change: impl FnOnce(&mut Config)) -> Server {
        let folder = tempfile::tempdir().unwrap();
        write(&hubs_file(folder.path()), hubs);
        Server::start_in(folder, change).await
    }

    pub async fn start_in(folder: TempDir, change: impl FnOnce(&mut Config)) -> Server {
        let mut config = Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            data: folder.path().join("data"),
            workers: WORKERS,
            ..Config::default()
        };
        config.session.rate_limit = 1_000_000;
        config.engine.hubs_file_interval_ms = 10;
        config.engine.settings_interval_ms = 10;
        config.auth.allow_private_addresses = true;
        change(&mut config);
        let node = Node::start(config, Some(hubs_file(folder.path()))).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let (address, admin) = (node.address(), node.admin_address());
        tokio::spawn(node.serve(async { drop(stopped.await) }));
        Server { address, admin, folder, _stop: stop }
    }

    /// Changes the resources, in one step as careful editors do.
    pub fn edit(&self, hubs: &str) {
        write(&hubs_file(self.folder.path()), hubs);
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// A session that speaks JSON.
    pub async fn connect(&self, hub: &str) -> Client {
        self.dial(hub).open().await
    }

    /// The same, on a certain worker: the kernel chooses, so it may take several attempts.
    pub async fn connect_at(&self, hub: &str, worker: u16) -> Client {
        let mut others = Vec::new();
        loop {
            let client = self.connect(hub).await;
            if client.worker() == worker {
                return client;
            }
            assert!(others.len() < 100, "the kernel never chooses this worker");
            others.push(client);
        }
    }

    /// A connection that is still to be described.
    pub fn dial(&self, hub: &str) -> Connect {
        Connect::new(self.address, hub)
    }
}

/// The name of a channel that the worker owns.
pub fn channel_at(hub: &str, worker: u16) -> String {
    owned_by(worker, hub, "channel")
}

/// The same, beginning like this.
pub fn owned_by(worker: u16, hub: &str, prefix: &str) -> String {
    let at = |name: &String| ChannelKey::new(hub, name.as_str()).point() % u64::from(WORKERS) == u64::from(worker);
    (0..).map(|number| format!("{prefix}{number}")).find(at).unwrap()
}

fn hubs_file(folder: &Path) -> PathBuf {
    folder.join("hubs.yaml")
}

fn write(path: &Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(&new, path).unwrap();
}
