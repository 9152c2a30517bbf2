//! Runs the simulation of `core/tests/simulation` for as many seeds as one likes. See `cargo xtask sim`.

#[path = "../tests/simulation/acts.rs"]
mod acts;
#[path = "../tests/simulation/broken.rs"]
mod broken;
#[path = "../tests/simulation/chance.rs"]
mod chance;
#[path = "../tests/simulation/client.rs"]
mod client;
#[path = "../tests/simulation/hubs.rs"]
mod hubs;
#[path = "../tests/simulation/ledger.rs"]
mod ledger;
#[path = "../tests/simulation/net.rs"]
mod net;
#[path = "../tests/simulation/plan.rs"]
mod plan;
#[path = "../tests/simulation/process.rs"]
mod process;
#[path = "../tests/simulation/run.rs"]
mod run;
#[path = "../tests/simulation/verdict.rs"]
mod verdict;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::{collections::BTreeMap, process::ExitCode};

use broken::Fault;
use plan::Plan;

fn main() -> ExitCode {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let trace = std::env::args().any(|text| text == "--trace");
    let (first, count) = match arguments[..] {
        [first] => (first, 1),
        [first, count] => (first, count),
        _ => (0, 1_000),
    };
    let (mut failures, mut total) = (0, BTreeMap::<String, u64>::new());
    for seed in first..first + count {
        let plan = Plan::of(seed);
        if count == 1 {
            println!("{plan:?}");
        }
        match run::run(&plan, Fault::None, trace) {
            Ok(tally) => {
                for (what, number) in tally.counts {
                    *total.entry(what.to_owned()).or_default() += number;
                }
                for (what, number) in [
                    ("steps", tally.steps),
                    ("messages between nodes", tally.sent),
                    ("messages heard", tally.heard),
                    ("publishes acknowledged", tally.acked),
                ] {
                    *total.entry(what.to_owned()).or_default() += number;
                }
            }
            Err(mistake) => {
                failures += 1;
                println!("seed {seed} {:?} r{}: {mistake:.600}", plan.mode, plan.redundancy);
            }
        }
    }
    println!("{count} seeds, {failures} failed; {total:#?}");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
