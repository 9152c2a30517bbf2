//! `cargo xtask abuse`: what a node and its clients go through while others misbehave.

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};

use crate::{bench, process};

const NAMES: [&str; 8] =
    ["all", "flood", "never-reads", "huge-frame", "half-open", "slow-headers", "dynamic-hubs", "channels-once"];

#[derive(Args)]
pub struct Options {
    #[arg(value_parser = PossibleValuesParser::new(NAMES))]
    name: String,
    /// One line of JSON for each scenario instead of text
    #[arg(long)]
    json: bool,
}

/// Builds the node and the generators optimised, and plays the scenarios. Fails if a bound did not hold.
pub fn run(options: &Options) -> Result<()> {
    let mut abuse = bench::program("abuse")?;
    abuse.arg(&options.name);
    if options.json {
        abuse.arg("--json");
    }
    process::run(&mut abuse)
}
