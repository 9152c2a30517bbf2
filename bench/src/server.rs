//! Starting a server to be measured.

use std::{
    io::{BufRead, BufReader, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::cpu;

/// The core of the servers, and the one of the load.
pub const SERVER_CORE: usize = 0;
pub const LOAD_CORE: usize = 1;

/// The hub of the benchmarks.
pub const HUB: &str = "bench";

/// The secret of the tenant's tokens.
pub const SECRET: &str = "a secret of the benchmark, which everybody may know";

const HUBS: &str = r#"
kind: Hub
name: bench
spec:
  defaultPublic: true
  allowAnonymous: true
  limits: {sessionMessagesPerSecond: 4000000000}
---
kind: AuthProvider
hub: bench
spec:
  jwt: {secret: "a secret of the benchmark, which everybody may know"}
"#;

/// One worker, because it has one core; and a benchmark's end is not to be waited for.
const CONFIG: &str = "workers: 1\nengine: {drainMs: 0}\n";

/// A running server; ended when dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Where a node tells its figures; of the reference server nothing is there.
    pub admin: SocketAddr,
    child: Child,
    _folder: Option<TempDir>,
}

impl Server {
    pub fn raw(batch: bool) -> Result<Server> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("raw");
        if batch {
            command.arg("--batch");
        }
        Server::start(command, free_address()?, None)
    }

    /// A node with one worker.
    pub fn node(program: &Path) -> Result<Server> {
        Server::node_with(program, CONFIG, HUBS)
    }

    /// A node with this configuration and these resources.
    pub fn node_with(program: &Path, config: &str, hubs: &str) -> Result<Server> {
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| -> Result<_> {
            let path = folder.path().join(name);
            std::fs::File::create(&path)?.write_all(text.as_bytes())?;
            Ok(path)
        };
        let admin = free_address()?;
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--admin", &admin.to_string()]);
        command.arg("--hubs").arg(write("hubs.yaml", hubs)?).arg("--config").arg(write("config.yaml", config)?);
        command.arg("--data").arg(folder.path().join("data"));
        Server::start(command, admin, Some(folder))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(mut command: Command, admin: SocketAddr, folder: Option<TempDir>) -> Result<Server> {
        command.stdout(Stdio::piped()).stdin(Stdio::null()).env("RUST_LOG", "warn");
        // SAFETY: between fork and exec only system calls are made.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                cpu::raise_descriptors();
                cpu::pin(SERVER_CORE).map_err(std::io::Error::other)
            });
        }
        let mut child = command.spawn().context("the server can't be started")?;
        let stdout = child.stdout.take().context("the server has no output")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let address =
            line.trim().strip_prefix("listening on http://").context("the server does not listen")?.parse()?;
        Ok(Server { address, admin, child, _folder: folder })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// An address that nobody listens on at this moment.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
