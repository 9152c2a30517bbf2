//! Starting a server to be measured.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context, Result};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};
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

/// Over TLS more time passes until the last session is there, and the first must not be pinged before.
const CONFIG_SECURED: &str = "connection: {ws: {pingIntervalMs: 600000}}\n";

/// A running server; ended when dropped.
pub struct Server {
    pub address: SocketAddr,
    /// Where a node tells its figures; of the reference server nothing is there.
    pub admin: SocketAddr,
    /// What its clients need, if it speaks TLS.
    pub clients: Option<Arc<ClientConfig>>,
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

    /// The same over TLS.
    pub fn secured(program: &Path) -> Result<Server> {
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()])?;
        let mut roots = RootCertStore::empty();
        roots.add(cert.der().clone())?;
        let mut clients = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        // Each is a client of its own, which shakes hands in full.
        clients.resumption = Resumption::disabled();
        let folder = tempfile::tempdir()?;
        let write = |name: &str, text: &str| write(folder.path(), name, text);
        let (certificate, key) = (write("tls.crt", &cert.pem())?, write("tls.key", &signing_key.serialize_pem())?);
        let config = format!("{CONFIG}{CONFIG_SECURED}tls: {{certificate: {certificate:?}, key: {key:?}}}\n");
        let mut server = Server::node_in(folder, program, &config, HUBS)?;
        server.clients = Some(Arc::new(clients));
        Ok(server)
    }

    /// A node with this configuration and these resources.
    pub fn node_with(program: &Path, config: &str, hubs: &str) -> Result<Server> {
        Server::node_in(tempfile::tempdir()?, program, config, hubs)
    }

    fn node_in(folder: TempDir, program: &Path, config: &str, hubs: &str) -> Result<Server> {
        let write = |name: &str, text: &str| write(folder.path(), name, text);
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
        command.stdout(Stdio::piped()).stdin(Stdio::null()).env("APPSOCKETS_DEBUG__LEVEL", "warn");
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
        let url = line.trim().strip_prefix("listening on ").and_then(|url| url.split_once("://"));
        let address = url.context("the server does not listen")?.1.parse()?;
        Ok(Server { address, admin, clients: None, child, _folder: folder })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if it has ended by itself.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn write(folder: &Path, name: &str, text: &str) -> Result<PathBuf> {
    let path = folder.join(name);
    fs::write(&path, text)?;
    Ok(path)
}

/// An address that nobody listens on at this moment.
pub fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?)
}
