//! `half-open`: thousands of connections that never say a word.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Scenario,
    crowd::Crowd,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::server::Server;

pub const SCENARIO: Scenario = Scenario {
    name: "half-open",
    // The task of each connection and what hyper begins with; of the first wave not all has gone when the second comes.
    growth_max: WAVES * WAVE * (8 << 10) + (8 << 20),
    kept_max: 0,
    run,
    judge,
};

const WAVES: u64 = 2;
const WAVE: u64 = 5_000;
/// The node is set to wait for 2 s.
const TOO_LATE: Duration = Duration::from_secs(4);

fn run(server: &Server) -> Result<Tally> {
    let mut tally = Tally::default();
    for _ in 0..WAVES {
        let mut crowd = Crowd::new()?;
        for _ in 0..WAVE {
            crowd.add(TcpStream::connect(server.address)?)?;
        }
        tally.add("opened", WAVE);
        crowd.watch(Instant::now() + TOO_LATE)?;
        note(&crowd, &mut tally);
    }
    Ok(tally)
}

/// What became of connections that were to be ended by the node.
pub fn note(crowd: &Crowd, tally: &mut Tally) {
    tally.add("ended", crowd.ended.len() as u64);
    tally.add("left", crowd.open() as u64);
    let longest = crowd.ended.iter().map(|ended| ended.after).max().unwrap_or_default();
    tally.most("longestMs", longest.as_millis() as u64);
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    vec![
        Check::at_least("connections that the node ended", tally.get("ended"), WAVES * WAVE),
        Check::at_least("counted by the node as late", metrics.get("connections_late_total"), WAVES * WAVE),
    ]
}
