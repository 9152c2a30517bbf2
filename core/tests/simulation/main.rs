//! Whole clusters in one thread, from one seed: nodes, links, clients, and everything that may go wrong, against what
//! clients may rely on. `docs/simulation.md` tells how to use it.

mod acts;
mod aimed;
mod chance;
mod client;
mod hubs;
mod ledger;
mod net;
mod plan;
mod process;
mod restoring;
mod run;
mod verdict;
mod world;

use plan::Plan;

/// Continuous integration runs so many; `cargo xtask sim` runs as many as one likes.
const SEEDS: u64 = 150;

#[test]
fn clients_get_what_they_may_rely_on() {
    for seed in 0..SEEDS {
        if let Err(mistake) = run::run(&Plan::of(seed), false) {
            panic!("seed {seed}: {mistake}\nto see it again: cargo xtask sim --seed {seed}");
        }
    }
}

/// The same, with what goes wrong aimed at the moments that matter.
#[test]
fn moments_that_matter_change_nothing() {
    for (name, aim) in aimed::ALL {
        for seed in 0..SEEDS / 30 {
            if let Err(mistake) = run::run(&Plan::aimed(aim, seed), false) {
                panic!("seed {seed}: {mistake}\nto see it again: cargo xtask sim --aimed {name} --seed {seed}");
            }
        }
    }
}
