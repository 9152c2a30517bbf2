//! How a scenario is played: steady clients, first alone, then beside the abuse, then alone again until the node has
//! let go of what the abuse had cost.

use std::{
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

use super::{
    Scenario,
    metrics::Metrics,
    verdict::{Check, Memory, Steady, Tally, Verdict},
};
use crate::{
    client::Target,
    cpu,
    flow::{Flow, Shape},
    server::Server,
};

/// Limits that are low enough to be reached soon. What they are normally is in `docs/configuration.md`.
const CONFIG: &str = "
workers: 1
engine: {drainMs: 0, allowDynamicHubs: true, dynamicHubsMax: 1000}
hub: {closeTimeoutMs: 1000}
session: {restoreWindowMs: 1000}
channel: {closeTimeoutMs: 1000, openMax: 100000}
connection:
  headerTimeoutMs: 2000
  writeTimeoutMs: 2000
  sse: {msgBufferSize: 65536}
  ws: {msgSendBufferSize: 65536}
";

const HUBS: &str = "
kind: Hub
name: steady
spec: {defaultPublic: true, allowAnonymous: true}
---
kind: Hub
name: abused
spec: {defaultPublic: true, allowAnonymous: true}
---
kind: Hub
name: busy
spec: {defaultPublic: true, allowAnonymous: true, defaultRules: stored, limits: {sessionMessagesPerSecond: 4000000000}}
---
kind: ChannelRules
hub: busy
name: stored
spec: {allowAnonymous: true, allowStore: true}
";

const STEADY: Shape = Shape { hub: "steady", subscribers: 20, per_second: 100, spins: false };
const WARM_UP: Duration = Duration::from_secs(1);
const BASELINE: Duration = Duration::from_secs(4);
/// How long the node has to give memory back, and how far it must.
const RETURN: Duration = Duration::from_secs(20);
const RETURN_RATIO_MAX: f64 = 1.5;
/// After so many seconds without change nothing more is expected. Longer than it takes to close what is unused.
const UNCHANGED_SECONDS: u32 = 4;

/// Plays it on a node of its own. Fails only where nothing can be said about the node.
pub fn play(scenario: &Scenario, node: &Path) -> Result<Verdict> {
    let server = Server::node_with(node, CONFIG, HUBS)?;
    let mut flow = Flow::connect(Target::AppSockets, server.address, STEADY)?;
    flow.run(WARM_UP)?;
    let p99_before_us = flow.run(BASELINE)?.percentile_us(0.99);
    let (before, metrics) = (cpu::resident(server.pid())?.now, Metrics::read(server.admin)?);
    cpu::reset_peak(server.pid())?;

    let (tally, during) = abuse(scenario, &server, &mut flow)?;
    let most = cpu::resident(server.pid())?.most;
    let (p99_during_us, outcome) = match during {
        Ok(p99_us) => (p99_us, settle(&server, &mut flow)),
        Err(error) => (f64::NAN, Err(error)),
    };
    let after = cpu::resident(server.pid())?.now;
    let metrics = Metrics::read(server.admin)?.since(&metrics);

    let mut checks = vec![steadiness(outcome)];
    checks.extend(memory_checks(scenario, before, most, after));
    checks.extend((scenario.judge)(&tally, &metrics));
    let steady = Steady { p99_before_us, p99_during_us, deliveries: flow.delivered() };
    Ok(Verdict { name: scenario.name, memory: Memory { before, most, after }, steady, tally, metrics, checks })
}

/// Runs the generator on a thread of its own, beside the steady flow, whose p99 is told.
fn abuse(scenario: &Scenario, server: &Server, flow: &mut Flow) -> Result<(Tally, Result<f64>)> {
    thread::scope(|scope| {
        let generator = scope.spawn(|| {
            cpu::give_way()?;
            (scenario.run)(server)
        });
        let during = flow.run_until(|| generator.is_finished()).map(|mut latencies| latencies.percentile_us(0.99));
        let tally = generator.join().ok().context("the generator panicked")?;
        Ok((tally.context("the generator failed")?, during))
    })
}

/// Goes on with the steady flow until the node has given back what it will, or its time is over.
fn settle(server: &Server, flow: &mut Flow) -> Result<()> {
    let end = Instant::now() + RETURN;
    let (mut least, mut unchanged) = (u64::MAX, 0);
    while Instant::now() < end && unchanged < UNCHANGED_SECONDS {
        flow.run(Duration::from_secs(1))?;
        let now = cpu::resident(server.pid())?.now;
        unchanged = if now < least { 0 } else { unchanged + 1 };
        least = least.min(now);
    }
    Ok(())
}

fn steadiness(outcome: Result<()>) -> Check {
    match outcome {
        Ok(()) => Check::new(true, "of the steady messages none was lost, repeated or out of order"),
        Err(error) => Check::new(false, format!("the steady messages: {error:#}")),
    }
}

fn memory_checks(scenario: &Scenario, before: u64, most: u64, after: u64) -> [Check; 2] {
    let grown = most.saturating_sub(before);
    let ratio = after.saturating_sub(scenario.kept_max) as f64 / before as f64;
    [
        Check::at_most("bytes that the memory grew", grown, scenario.growth_max),
        Check::new(
            ratio <= RETURN_RATIO_MAX,
            format!(
                "memory afterwards, without what is kept on purpose: {ratio:.2} of before, at most {RETURN_RATIO_MAX}"
            ),
        ),
    ]
}
