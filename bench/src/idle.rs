//! `idle`: the memory that a session costs which only stays connected.

use std::{net::TcpStream, time::Duration};

use anyhow::{Context, Result};
use appsockets_proto::client::EventType;
use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::json;

use crate::{
    Options,
    client::{self, connect, connect_secured},
    cpu::{self, pss_bytes},
    report::Measurement,
    server::{LOAD_CORE, SECRET, Server},
};

/// A process may hold 20,000 descriptors on the machines that this was made for.
const SIZES: [usize; 2] = [5_000, 19_000];

/// What each session does before it is idle. A further transport is a kind here, and a way to open it in [`session`].
#[derive(Clone, Copy)]
enum Kind {
    Anonymous,
    Subscribed,
    Secured,
    Sse,
}

const KINDS: [(&str, Kind); 4] = [
    ("anonymous", Kind::Anonymous),
    ("authenticated, 1 subscription", Kind::Subscribed),
    ("TLS, anonymous", Kind::Secured),
    ("SSE, anonymous, 1 channel", Kind::Sse),
];

pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    cpu::pin(LOAD_CORE)?;
    for size in SIZES {
        for (name, kind) in KINDS {
            let (mut ours, mut floor) = (Vec::new(), Vec::new());
            for _ in 0..options.rounds.min(3) {
                floor.push(measure(Server::raw(false)?, size, |server| Ok(connect(server.address, "/sub/0")?.tcp))?);
                ours.push(measure(node(options, kind)?, size, |server| session(server, kind))?);
            }
            let name = format!("idle {size} {name}: PSS per session");
            Measurement { name, unit: "bytes", values: ours, reference: floor }.print(options.json);
        }
    }
    Ok(())
}

fn node(options: &Options, kind: Kind) -> Result<Server> {
    match kind {
        Kind::Anonymous | Kind::Subscribed | Kind::Sse => Server::node(&options.node),
        Kind::Secured => Server::secured(&options.node),
    }
}

fn measure(server: Server, size: usize, open: impl Fn(&Server) -> Result<TcpStream>) -> Result<f64> {
    // The first ones make what is made once.
    let first: Vec<_> = (0..100).map(|_| open(&server)).collect::<Result<_>>()?;
    settle(&server)?;
    let before = pss_bytes(server.pid())?;
    let sessions: Vec<_> = (0..size).map(|_| open(&server)).collect::<Result<_>>()?;
    settle(&server)?;
    let after = pss_bytes(server.pid())?;
    drop((first, sessions));
    Ok((after - before) / size as f64)
}

/// Waits until the memory no longer changes.
fn settle(server: &Server) -> Result<()> {
    let mut last = 0.0;
    for _ in 0..50 {
        std::thread::sleep(Duration::from_millis(100));
        let now = pss_bytes(server.pid())?;
        if now == last {
            break;
        }
        last = now;
    }
    Ok(())
}

fn session(server: &Server, kind: Kind) -> Result<TcpStream> {
    let connected = match kind {
        Kind::Anonymous => {
            let mut connected = connect(server.address, "/hubs/bench/ws")?;
            connected.wait_for(EventType::SessionRestore)?;
            connected
        }
        Kind::Subscribed => {
            let mut connected = connect(server.address, &format!("/hubs/bench/ws?token={}", token()?))?;
            connected.subscribe("idle")?;
            connected
        }
        Kind::Secured => {
            let config = server.clients.clone().context("the server does not speak TLS")?;
            let mut connected = connect_secured(server.address, "/hubs/bench/ws", config)?;
            connected.wait_for(EventType::SessionRestore)?;
            // Nothing more is read or said, so the load need not keep its half of the session.
            return Ok(connected.tcp.into_parts().1);
        }
        Kind::Sse => client::listen(server.address, "/hubs/bench/sse?channel=idle")?,
    };
    Ok(connected.tcp)
}

fn token() -> Result<String> {
    // Any time that is far enough.
    let claims = json!({"sub": "somebody", "exp": 4_000_000_000u64});
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(SECRET.as_bytes()))?)
}
