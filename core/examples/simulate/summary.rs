//! What all runs came to.

use std::collections::BTreeMap;

use crate::{counting::PATHS, plan::Plan, run::Tally};

/// What goes wrong, in the words of `acts.rs` and `world.rs`.
const FAULTS: [&str; 10] = [
    "crashes",
    "majorities lost",
    "links broken",
    "cuts",
    "one-way cuts",
    "pauses",
    "false death notices",
    "leaves",
    "nodes left",
    "clusters dissolved",
];

/// What the traffic was.
const TRAFFIC: [&str; 4] =
    ["simulated milliseconds", "messages between nodes", "messages heard", "publishes acknowledged"];

#[derive(Default)]
pub struct Summary {
    seeds: u64,
    failed: u64,
    total: BTreeMap<&'static str, u64>,
    /// In how many runs it happened.
    runs: BTreeMap<&'static str, u64>,
}

impl Summary {
    pub fn seeds(&self) -> u64 {
        self.seeds
    }

    /// Adds a run, and tells of one that failed at once.
    pub fn add(&mut self, plan: &Plan, outcome: Result<Tally, String>) {
        self.seeds += 1;
        match outcome {
            Ok(tally) => {
                let figures = [tally.steps, tally.sent, tally.heard, tally.acked];
                let counts = TRAFFIC.into_iter().zip(figures).chain(tally.counts);
                for (what, number) in counts {
                    *self.total.entry(what).or_default() += number;
                    *self.runs.entry(what).or_default() += 1;
                }
            }
            Err(mistake) => {
                self.failed += 1;
                println!("seed {} ({:?}, redundancy {}): {mistake:.3000}", plan.seed, plan.mode, plan.redundancy);
                println!("to see it again: cargo xtask sim --seed {} --trace", plan.seed);
            }
        }
    }

    pub fn print(&self) {
        let known = [&TRAFFIC[..], &FAULTS, &PATHS].concat();
        let others: Vec<_> = self.total.keys().copied().filter(|what| !known.contains(what)).collect();
        println!("{} seeds, {} failed", self.seeds, self.failed);
        self.print_part("traffic", &TRAFFIC);
        self.print_part("faults", &FAULTS);
        self.print_part("rare paths", &PATHS);
        self.print_part("besides", &others);
    }

    /// What never happened is shown too: it was not tried.
    fn print_part(&self, name: &str, lines: &[&'static str]) {
        println!("\n{name:<50} {:>12} {:>9}", "in all", "in runs");
        for what in lines {
            let figure = |of: &BTreeMap<&'static str, u64>| of.get(what).copied().unwrap_or(0);
            println!("  {what:<48} {:>12} {:>9}", figure(&self.total), figure(&self.runs));
        }
    }
}
