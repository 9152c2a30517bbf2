//! `cargo xtask durability`: what the tests do for a few rounds, done for many.

use anyhow::Result;
use clap::Args;

use crate::process;

#[derive(Args)]
pub struct Options {
    /// How often the node is killed and started again
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    rounds: u32,
    /// Build with optimisation
    #[arg(long)]
    release: bool,
}

/// Tells the test how many rounds to go through, and shows the figures that it prints.
pub fn run(options: &Options) -> Result<()> {
    let mut test = process::cargo(["test", "--quiet", "--package", "appsockets-node", "--test", "durability"]);
    if options.release {
        test.arg("--release");
    }
    test.args(["--", "--nocapture"]);
    process::run(test.env("DURABILITY_ROUNDS", options.rounds.to_string()))
}
