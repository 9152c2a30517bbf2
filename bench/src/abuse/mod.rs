//! `abuse`: what a node and its well-behaved clients go through while others misbehave. See `cargo xtask abuse`.
//!
//! Each scenario has a file, and its own node: steady clients of one tenant, and a generator that abuses it through
//! another tenant, or none. A generator is bounded in count and time, speaks to the loopback address only, and gives
//! way to the steady clients, so that what these lose is lost in the node.

mod channels_once;
mod crowd;
mod dynamic_hubs;
mod flood;
mod half_open;
mod huge_frame;
pub mod metrics;
mod never_reads;
mod never_reads_history;
mod slow_headers;
mod stage;
mod verdict;

use std::path::PathBuf;

use anyhow::{Result, ensure};

use self::{
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::{cpu, server::Server};

/// One way to abuse a node.
struct Scenario {
    name: &'static str,
    /// By how much the node may grow meanwhile, as follows from its limits, in bytes.
    growth_max: u64,
    /// How much of that it may keep for later use, in bytes.
    kept_max: u64,
    /// Abuses the node, and tells what came of it.
    run: fn(&Server) -> Result<Tally>,
    /// What must have been seen: by the generator, and by the node's counters, which are given as they rose.
    judge: fn(&Tally, &Metrics) -> Vec<Check>,
}

const SCENARIOS: [Scenario; 8] = [
    flood::SCENARIO,
    never_reads::SCENARIO,
    never_reads_history::SCENARIO,
    huge_frame::SCENARIO,
    half_open::SCENARIO,
    slow_headers::SCENARIO,
    dynamic_hubs::SCENARIO,
    channels_once::SCENARIO,
];

/// The hub of the generator, with the node's own limits.
const ABUSED: &str = "abused";
/// Another one, which may send as much as it likes.
const BUSY: &str = "busy";

#[derive(clap::Args)]
pub struct Options {
    /// The scenario's name, or `all`
    name: String,
    /// The node's program
    #[arg(long)]
    node: PathBuf,
    /// One line of JSON for each scenario instead of text
    #[arg(long)]
    json: bool,
}

/// Goes through all that were asked for, also after one has failed.
pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    cpu::pin(crate::server::LOAD_CORE)?;
    let is_asked = |scenario: &&Scenario| options.name == "all" || options.name == scenario.name;
    let asked: Vec<_> = SCENARIOS.iter().filter(is_asked).collect();
    ensure!(!asked.is_empty(), "there is no scenario {}", options.name);
    let mut failed = Vec::new();
    for scenario in asked {
        let passed = stage::play(scenario, &options.node).map(|verdict| {
            verdict.print(options.json);
            verdict.passed()
        });
        match passed {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => eprintln!("{} could not be played to its end: {error:#}", scenario.name),
        }
        failed.push(scenario.name);
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}
