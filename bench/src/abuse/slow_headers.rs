//! `slow-headers`: requests whose headers come byte by byte.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    Scenario,
    crowd::Crowd,
    half_open,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::server::Server;

pub const SCENARIO: Scenario = Scenario {
    name: "slow-headers",
    // Hyper's first buffers and the task of each connection; of the first wave not all has gone when the second comes.
    growth_max: WAVES * WAVE * (20 << 10) + (8 << 20),
    kept_max: 0,
    run,
    judge,
};

const WAVES: u64 = 2;
const WAVE: u64 = 1_000;
const REQUEST: &str = "GET /hubs/abused/ws HTTP/1.1\r\nhost: 127.0.0.1\r\nupgrade: websocket\r\nx-more: ";
const PAUSE: Duration = Duration::from_millis(100);
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
        drip(&mut crowd)?;
        half_open::note(&crowd, &mut tally);
    }
    Ok(tally)
}

fn drip(crowd: &mut Crowd) -> Result<()> {
    let end = Instant::now() + TOO_LATE;
    for byte in REQUEST.bytes().chain(std::iter::repeat(b'x')) {
        if crowd.open() == 0 || Instant::now() > end {
            break;
        }
        crowd.send(&[byte]);
        crowd.watch(Instant::now() + PAUSE)?;
    }
    Ok(())
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    vec![
        Check::at_least("connections that the node ended", tally.get("ended"), WAVES * WAVE),
        Check::at_least("counted by the node as late", metrics.get("connections_late_total"), WAVES * WAVE),
    ]
}
