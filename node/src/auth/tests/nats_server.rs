//! A real `nats-server`, for what only one can show.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    io::{ErrorKind, Read},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(30);

/// Killed when dropped.
pub struct NatsServer {
    pub address: SocketAddr,
    child: Child,
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
        let child = match command.stdout(Stdio::null()).stderr(Stdio::null()).spawn() {
            Ok(child) => child,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                panic!("nats-server is missing: install the package nats-server, or run cargo xtask test --yes")
            }
            Err(error) => panic!("nats-server does not start: {error}"),
        };
        let mut server = NatsServer { address, child };
        let deadline = Instant::now() + PATIENCE;
        while !server.greets() {
            if server.child.try_wait().expect("a child").is_some() {
                return None;
            }
            assert!(Instant::now() < deadline, "nats-server never listened");
            std::thread::sleep(Duration::from_millis(5));
        }
        Some(server)
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    fn greets(&self) -> bool {
        let Ok(mut socket) = TcpStream::connect(self.address) else { return false };
        let mut word = [0; 4];
        socket.read_exact(&mut word).is_ok() && word == *b"INFO"
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        // It fails only if the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
