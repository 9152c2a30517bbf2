//! A node as a process of its own, for what only a process can show.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use super::{
    client::{Client, Connect},
    eventually, in_time,
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_appsockets-node");

/// Addresses of this machine that nobody has, for processes that bind them a moment later. The kernel gives none of them to
/// somebody who asks for any, as it would to one who connects.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    let mut listeners = Vec::new();
    while listeners.len() < count {
        let port = 10_000 + RandomState::new().build_hasher().finish() % 20_000;
        listeners.extend(TcpListener::bind((Ipv4Addr::LOCALHOST, port as u16)));
    }
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

/// A running node. Killed when dropped.
pub struct Process {
    pub address: SocketAddr,
    child: Child,
}

impl Process {
    /// On a free port, with its data in the folder and this in its configuration besides.
    pub async fn start(folder: &Path, config: &str) -> Process {
        Process::start_with(folder, config, None).await
    }

    /// The same with a file of resources.
    pub async fn start_with(folder: &Path, config: &str, hubs: Option<&Path>) -> Process {
        let path = folder.join("config.yaml");
        std::fs::write(&path, format!("listen: 127.0.0.1:0\nworkers: 2\n{config}\n")).unwrap();
        let mut command = Command::new(PROGRAM);
        command.arg("--config").arg(path).arg("--data").arg(data(folder));
        command.args(hubs.iter().flat_map(|hubs| [Path::new("--hubs"), hubs]));
        let mut child = command.env("APPSOCKETS_DEBUG__LEVEL", "error").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = in_time(tokio::task::spawn_blocking(move || lines.next())).await.unwrap();
        let line = line.expect("it says where it listens").unwrap();
        let address = line.strip_prefix("listening on http://").unwrap().parse().unwrap();
        Process { address, child }
    }

    pub async fn connect(&self, hub: &str) -> Client {
        Connect::new(self.address, hub).open().await
    }

    /// Asks it to stop.
    pub fn terminate(&self) {
        let id = libc::pid_t::try_from(self.child.id()).unwrap();
        // SAFETY: the child has not been waited for, so the id is still its own.
        assert_eq!(unsafe { libc::kill(id, libc::SIGTERM) }, 0);
    }

    pub async fn ended(mut self) -> ExitStatus {
        let mut status = None;
        eventually(async || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// `appsockets-node apply`: what it says, if it succeeds.
pub fn apply(folder: &Path, resources: &str) -> Result<String, String> {
    let file = folder.join("applied.yaml");
    std::fs::write(&file, resources).unwrap();
    let output = Command::new(PROGRAM).arg("apply").arg("--data").arg(data(folder)).arg(file).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) }
}

fn data(folder: &Path) -> PathBuf {
    folder.join("data")
}
