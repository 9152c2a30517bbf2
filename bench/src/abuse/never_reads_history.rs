//! `never-reads-history`: clients that ask for many pages of stored messages and never read one.

use std::{
    io::Write,
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use appsockets_proto::client::{ChannelPubExtras, ChannelPubRequest, EventType, HistoryRequest, PubRequestInfo};

use super::{
    BUSY, Scenario,
    metrics::Metrics,
    never_reads::deafen,
    verdict::{Check, Tally},
};
use crate::{client, server::Server};

pub const SCENARIO: Scenario = Scenario {
    name: "never-reads-history",
    // A page each, in the form in which it is sent and the one in which it was read, beyond an outbox.
    growth_max: (SOCKETS + PLAIN) * (4 << 20) + (16 << 20),
    // SQLite keeps 2 MiB of pages for each of the node's five connections to it.
    kept_max: 10 << 20,
    run,
    judge,
};

const SOCKETS: u64 = 50;
const PLAIN: u64 = 50;
const REQUESTS: i64 = 64;
const MESSAGES: usize = 20;
static PAYLOAD: [u8; 50 << 10] = [0x20; 50 << 10];
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(100);

fn run(server: &Server) -> Result<Tally> {
    let mut tally = Tally::default();
    store(server)?;
    let mut deaf = Vec::new();
    for _ in 0..SOCKETS {
        let mut connected = client::connect(server.address, &format!("/hubs/{BUSY}/ws"))?;
        for req_id in 1..=REQUESTS {
            let request = HistoryRequest { req_id, channel: CHANNEL.to_owned(), ..HistoryRequest::default() };
            connected.send(EventType::History, &request)?;
        }
        deaf.push(deafen(connected.tcp)?);
    }
    for _ in 0..PLAIN {
        let mut tcp = deafen(TcpStream::connect(server.address)?)?;
        tcp.write_all(format!("GET /hubs/{BUSY}/history?channel={CHANNEL} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes())?;
        deaf.push(tcp);
    }
    tally.add("readers", deaf.len() as u64);
    let end = Instant::now() + PATIENCE;
    while Metrics::read(server.admin)?.get("connections_stalled_total") < deaf.len() as u64 && Instant::now() < end {
        std::thread::sleep(STEP);
    }
    Ok(tally)
}

const CHANNEL: &str = "stored";

/// Stores as much as a page may have.
fn store(server: &Server) -> Result<()> {
    let mut publisher = client::connect(server.address, &format!("/hubs/{BUSY}/ws"))?;
    for req_id in 1..=MESSAGES as i64 {
        let publish = PubRequestInfo {
            req_id: Some(req_id),
            channel: CHANNEL.to_owned(),
            payload: PAYLOAD.to_vec().into(),
            extra: Some(ChannelPubExtras { store: true, ..ChannelPubExtras::default() }),
            ..PubRequestInfo::default()
        };
        publisher.send(EventType::Publish, &ChannelPubRequest { publishes: vec![publish] })?;
        publisher.wait_for(EventType::Ack).context("a message was not stored")?;
    }
    Ok(())
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    let stalled = metrics.get("connections_stalled_total");
    vec![Check::at_least("connections dropped because they took nothing", stalled, tally.get("readers"))]
}
