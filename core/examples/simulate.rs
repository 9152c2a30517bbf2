//! Runs the simulation of `core/tests/simulation` for as many seeds as one likes. See `cargo xtask sim` and
//! `docs/simulation.md`.

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::disallowed_types,
    reason = "a command of a crate that does no I/O: it prints, and knows when to end"
)]

#[path = "../tests/simulation/acts.rs"]
mod acts;
#[path = "../tests/simulation/aimed.rs"]
mod aimed;
#[path = "simulate/bounded.rs"]
mod bounded;
#[path = "../tests/simulation/carrying.rs"]
mod carrying;
#[path = "../tests/simulation/chance.rs"]
mod chance;
#[path = "../tests/simulation/client.rs"]
mod client;
#[path = "../tests/simulation/copied.rs"]
mod copied;
#[path = "../tests/simulation/counting.rs"]
mod counting;
#[path = "../tests/simulation/heirs.rs"]
mod heirs;
#[path = "../tests/simulation/hubs.rs"]
mod hubs;
#[path = "../tests/simulation/leaves.rs"]
mod leaves;
#[path = "../tests/simulation/ledger.rs"]
mod ledger;
#[path = "../tests/simulation/majority.rs"]
mod majority;
#[path = "simulate/many.rs"]
mod many;
#[path = "../tests/simulation/net.rs"]
mod net;
#[path = "simulate/options.rs"]
mod options;
#[path = "../tests/simulation/plan.rs"]
mod plan;
#[path = "../tests/simulation/process.rs"]
mod process;
#[path = "../tests/simulation/restoring.rs"]
mod restoring;
#[path = "../tests/simulation/run.rs"]
mod run;
#[path = "../tests/simulation/shrink.rs"]
mod shrink;
#[path = "simulate/smaller.rs"]
mod smaller;
#[path = "../tests/simulation/spelled.rs"]
mod spelled;
#[path = "../tests/simulation/split.rs"]
mod split;
#[path = "simulate/summary.rs"]
mod summary;
#[path = "../tests/simulation/verdict.rs"]
mod verdict;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::process::ExitCode;

use options::{Options, Seeds};
use plan::Plan;
use summary::Summary;

/// Failing seeds that are made smaller; the others most likely show the same.
const SHRUNK_MAX: usize = 3;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(mistake) => {
            eprintln!("error: {mistake}");
            return ExitCode::from(2);
        }
    };
    let mut summary = Summary::default();
    let failed = match &options.seeds {
        Seeds::One(plan) => one(plan, &options, &mut summary),
        Seeds::Many { from, count, minutes } => many::run(*from, *count, *minutes, &options, &mut summary),
    };
    summary.print();
    if options.shrinks() {
        failed.iter().take(SHRUNK_MAX).for_each(smaller::show);
    }
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One run, which may be told step by step. Returns its plan if it fails.
fn one(plan: &Plan, options: &Options, summary: &mut Summary) -> Vec<Plan> {
    println!("{plan:?}");
    let outcome = if options.trace {
        // A trace is watched and can be ended by hand.
        run::run(plan, true)
    } else {
        bounded::run(plan)
    };
    let failed = outcome.is_err();
    summary.add(plan, outcome);
    failed.then(|| plan.clone()).into_iter().collect()
}
