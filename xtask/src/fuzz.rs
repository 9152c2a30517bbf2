//! `cargo xtask fuzz`: what the tests do for a moment, done for as long as one likes.

use anyhow::Result;
use clap::Args;

use crate::process;

#[derive(Args)]
pub struct Options {
    /// How long, in minutes
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: u64,
}

/// Runs the node's example, optimised, because the number of inputs tried is what counts.
pub fn run(options: &Options) -> Result<()> {
    let seconds = (options.minutes * 60).to_string();
    let example = ["run", "--release", "--package", "appsockets-node", "--example", "fuzz_decode", "--", "--seconds"];
    process::run(process::cargo(example).arg(seconds))
}
