//! A node in this process, on free ports.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use appsockets_node::{config::Config, node::Node};
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub struct Running {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    /// Ends with what runs on it.
    _runtime: Runtime,
    folder: TempDir,
}

impl Running {
    /// With these resources.
    pub fn with(hubs: &str) -> Running {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hubs.yaml");
        std::fs::write(&file, hubs).unwrap();
        Running::start(folder, file)
    }

    /// With those of a file.
    pub fn of(file: PathBuf) -> Running {
        Running::start(tempfile::tempdir().unwrap(), file)
    }

    fn start(folder: TempDir, hubs: PathBuf) -> Running {
        let runtime = Runtime::new().unwrap();
        let mut config = Config { data: folder.path().join("data"), workers: 2, ..Config::default() };
        config.listen.set_port(0);
        config.admin.listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
        config.auth.allow_private_addresses = true;
        let node = runtime.block_on(Node::start(config, Some(hubs))).unwrap();
        let (address, admin) = (node.address(), node.admin_address().unwrap());
        runtime.spawn(node.serve(std::future::pending()));
        Running { address, admin, _runtime: runtime, folder }
    }

    /// The folder in which `data` is the node's.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}
