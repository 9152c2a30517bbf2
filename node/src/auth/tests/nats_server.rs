//! A real `nats-server`, for what only one can show.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{BufRead, BufReader, ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process::{Child, ChildStderr, Command, Stdio},
};

/// Killed when dropped.
pub struct NatsServer {
    pub address: SocketAddr,
    child: Child,
    /// Kept open: the server ends where nobody can read its log.
    _log: BufReader<ChildStderr>,
}

impl NatsServer {
    /// On a port that nobody has.
    pub fn start(arguments: &[&str]) -> NatsServer {
        // Not one that the kernel gives to whoever connects.
        loop {
            let port = 10_000 + (RandomState::new().build_hasher().finish() % 20_000) as u16;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok()
                && let Some(server) = NatsServer::start_at(address, arguments)
            {
                return server;
            }
        }
    }

    /// None: it has ended at once, as it does where somebody else has the port.
    pub fn start_at(address: SocketAddr, arguments: &[&str]) -> Option<NatsServer> {
        let mut command = Command::new("nats-server");
        command.args(["--addr", "127.0.0.1", "--port", &address.port().to_string()]).args(arguments);
        let mut child = match command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("nats-server is missing: install the package nats-server, or run cargo xtask test --yes")
            }
            Err(error) => panic!("nats-server does not start: {error}"),
        };
        let mut log = BufReader::new(child.stderr.take().expect("it is piped"));
        let ready = log.by_ref().lines().any(|line| line.expect("a line of text").contains("Server is ready"));
        let server = NatsServer { address, child, _log: log };
        ready.then_some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
