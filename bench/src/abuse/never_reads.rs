//! `never-reads`: subscribers of a busy channel that never read.

use std::{
    io::Write,
    net::TcpStream,
    os::fd::AsRawFd,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};

use super::{
    BUSY, Scenario,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::{
    client::{self, Target, push_publish},
    server::Server,
};

pub const SCENARIO: Scenario = Scenario {
    name: "never-reads",
    // An outbox each, as if they shared no message, and for SSE also what hyper holds and the copy that it joins.
    growth_max: SOCKETS * (64 << 10) + STREAMS * (160 << 10) + (16 << 20),
    kept_max: 0,
    run,
    judge,
};

const SOCKETS: u64 = 100;
const STREAMS: u64 = 50;
const WAVES: u64 = 2;
const LENGTH: Duration = Duration::from_secs(8);
const STEP: Duration = Duration::from_millis(10);
const MESSAGES_PER_STEP: usize = 4;
const PAYLOAD: [u8; 4096] = [0x20; 4096];

fn run(server: &Server) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..WAVES {
        let mut deaf = Vec::new();
        for _ in 0..SOCKETS {
            let connected = client::subscriber(Target::AppSockets, server.address, BUSY, 0)?;
            deaf.push(deafen(connected.tcp)?);
        }
        for _ in 0..STREAMS {
            let path = format!("/hubs/{BUSY}/sse?channel={}", client::channel_name(0));
            deaf.push(deafen(client::listen(server.address, &path)?.tcp)?);
        }
        tally.add("subscribers", deaf.len() as u64);
        tally.add("published", keep_busy(server)?);
    }
    Ok(tally)
}

/// Leaves the kernel little room for what nobody reads.
pub fn deafen(tcp: TcpStream) -> Result<TcpStream> {
    let bytes: libc::c_int = 4096;
    // SAFETY: the descriptor is open, and the pointer is to a number of the length that is given.
    let result = unsafe {
        libc::setsockopt(
            tcp.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVBUF,
            (&raw const bytes).cast(),
            size_of_val(&bytes) as libc::socklen_t,
        )
    };
    ensure!(result == 0, "the socket's buffer can't be made small");
    Ok(tcp)
}

fn keep_busy(server: &Server) -> Result<u64> {
    let mut publisher = client::publisher(Target::AppSockets, server.address, BUSY)?;
    let mut frames = Vec::new();
    (0..MESSAGES_PER_STEP).for_each(|_| push_publish(Target::AppSockets, 0, &PAYLOAD, &mut frames));
    let end = Instant::now() + LENGTH;
    let mut published = 0;
    while Instant::now() < end {
        publisher.write_all(&frames)?;
        published += MESSAGES_PER_STEP as u64;
        std::thread::sleep(STEP);
    }
    Ok(published)
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    let stalled = metrics.get("connections_stalled_total");
    vec![Check::at_least("connections dropped because they took nothing", stalled, tally.get("subscribers"))]
}
