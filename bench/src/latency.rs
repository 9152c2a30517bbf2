//! `latency`: how long a delivery takes at a rate that leaves the server most of its time.

use std::time::Duration;

use anyhow::Result;

use crate::{
    Options,
    client::Target,
    cpu,
    flow::{Flow, Shape},
    latencies::Latencies,
    report::Measurement,
    server::{HUB, LOAD_CORE, Server},
};

/// Both bring 50,000 deliveries a second, about a quarter of what a server can do that only writes.
const SHAPES: [(&str, Shape); 2] = [
    ("1 x 100, 500/s", Shape { hub: HUB, subscribers: 100, per_second: 500, spins: true }),
    ("1 x 1,000, 50/s", Shape { hub: HUB, subscribers: 1_000, per_second: 50, spins: true }),
];

const SHARES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    cpu::pin(LOAD_CORE)?;
    for (name, shape) in SHAPES {
        let (mut ours, mut reference) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            reference.push(measure(Target::Raw, &Server::raw(false)?, shape, options.seconds)?);
            ours.push(measure(Target::AppSockets, &Server::node(&options.node)?, shape, options.seconds)?);
        }
        report(name, &mut ours, &mut reference, options.json);
    }
    Ok(())
}

fn measure(target: Target, server: &Server, shape: Shape, seconds: u64) -> Result<Latencies> {
    let mut flow = Flow::connect(target, server.address, shape)?;
    flow.run(Duration::from_millis(500))?;
    flow.run(Duration::from_secs(seconds))
}

fn report(name: &str, ours: &mut [Latencies], reference: &mut [Latencies], json: bool) {
    for (percentile, share) in SHARES {
        let of = |rounds: &mut [Latencies]| rounds.iter_mut().map(|round| round.percentile_us(share)).collect();
        let name = format!("latency {name}: {percentile}");
        Measurement { name, unit: "us", values: of(ours), reference: of(reference) }.print(json);
    }
}
