//! `channels-once`: a million channel names, each used once.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use appsockets_proto::client::{ChannelPubRequest, ChannelPubResponse, EventType, PubRequestInfo};

use super::{
    BUSY, Scenario,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::{client::connect, server::Server};

pub const SCENARIO: Scenario = Scenario {
    name: "channels-once",
    // The channels that may be open, each with its message.
    growth_max: OPEN_MAX * (2 << 10) + (16 << 20),
    kept_max: 0,
    run,
    judge,
};

const NAMES: u64 = 1_000_000;
/// The most that one message may hold.
const BATCH: u64 = 1_000;
const OPEN_MAX: u64 = 100_000;
const LENGTH_MAX: Duration = Duration::from_secs(60);
/// `try_again`, which is what a node says that can open no further channel.
const TRY_AGAIN: u32 = 126;

fn run(server: &Server) -> Result<Tally> {
    let mut tally = Tally::default();
    let mut client = connect(server.address, &format!("/hubs/{BUSY}/ws"))?;
    let end = Instant::now() + LENGTH_MAX;
    for begin in (0..NAMES).step_by(BATCH as usize) {
        ensure!(Instant::now() < end, "the node takes too long");
        client.send(EventType::Publish, &batch(begin))?;
        tally.add("published", BATCH);
        let mut answered = 0;
        while answered < BATCH {
            let response: ChannelPubResponse = client.receive(EventType::Ack)?;
            answered += response.published.len() as u64;
            note(&response, &mut tally);
        }
    }
    Ok(tally)
}

fn batch(begin: u64) -> ChannelPubRequest {
    let publish = |number: u64| PubRequestInfo {
        channel: format!("once-{number}"),
        payload: b"once"[..].into(),
        req_id: Some(number as i64 + 1),
        ..PubRequestInfo::default()
    };
    ChannelPubRequest { publishes: (begin..begin + BATCH).map(publish).collect() }
}

fn note(response: &ChannelPubResponse, tally: &mut Tally) {
    for published in &response.published {
        let outcome = match &published.error {
            None => "accepted",
            Some(error) if error.code == TRY_AGAIN => "toldToTryAgain",
            Some(_) => "refusedOtherwise",
        };
        tally.add(outcome, 1);
    }
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    let refused = metrics.get("publishes_refused_total{code=\"try_again\"}");
    vec![
        Check::at_least("names answered", tally.get("accepted") + tally.get("toldToTryAgain"), NAMES),
        Check::at_least("names accepted", tally.get("accepted"), OPEN_MAX),
        Check::new(refused == tally.get("toldToTryAgain"), format!("counted by the node as try_again: {refused}")),
        Check::at_most("channels that are open afterwards", metrics.get("channels"), 0),
    ]
}
