//! Runs the simulation of `core/tests/simulation` for as many seeds as one likes. See `cargo xtask sim`.

#[path = "../tests/simulation/acts.rs"]
mod acts;
#[path = "../tests/simulation/aimed.rs"]
mod aimed;
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
#[path = "../tests/simulation/restoring.rs"]
mod restoring;
#[path = "../tests/simulation/run.rs"]
mod run;
#[path = "../tests/simulation/verdict.rs"]
mod verdict;
#[path = "../tests/simulation/world.rs"]
mod world;

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
};

use plan::Plan;

fn main() -> ExitCode {
    let arguments: Vec<u64> = std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let trace = std::env::args().any(|text| text == "--trace");
    // Ends at the first seed that fails.
    let only_first = std::env::args().any(|text| text == "--first");
    let after_aimed = std::env::args().skip_while(|text| text != "--aimed").nth(1);
    let aim = after_aimed.map(|name| {
        let known = aimed::ALL.iter().find(|(other, _)| *other == name);
        known.unwrap_or_else(|| panic!("no plan is aimed at {name}")).1
    });
    let (first, count) = match arguments[..] {
        [first] => (first, 1),
        [first, count] => (first, count),
        _ => (0, 1_000),
    };
    let (mut failures, mut total) = (0, BTreeMap::<String, u64>::new());
    for seed in first..first + count {
        let plan = aim.map_or_else(|| Plan::of(seed), |aim| Plan::aimed(aim, seed));
        if count == 1 {
            println!("{plan:?}");
        }
        let outcome = catch_unwind(AssertUnwindSafe(|| run::run(&plan, trace)));
        match outcome.unwrap_or_else(|panic| Err(said(&*panic))) {
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
                println!("seed {seed} {:?} r{}: {mistake:.3000}", plan.mode, plan.redundancy);
                if only_first {
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!("{count} seeds, {failures} failed; {total:#?}");
    if failures == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// What a panic said.
fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    format!("panic: {}", text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default())
}
