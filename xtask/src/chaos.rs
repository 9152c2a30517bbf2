//! `cargo xtask chaos`: what clients go through while nodes fail, stop and come back.

use anyhow::Result;
use clap::{Args, builder::PossibleValuesParser};

use crate::{bench, process};

const NAMES: [&str; 7] = ["all", "kill-owner", "pause", "rolling-restart", "scale", "partition", "one-way"];

#[derive(Args)]
pub struct Options {
    /// The experiment; `partition` and `one-way` make network namespaces, for which one must be root
    #[arg(value_parser = PossibleValuesParser::new(NAMES))]
    name: String,
    /// One line of JSON for each experiment instead of a table
    #[arg(long)]
    json: bool,
    #[arg(long, default_value_t = 200)]
    publishers: usize,
    #[arg(long, default_value_t = 2_000)]
    subscribers: usize,
    /// Messages per second of each publisher
    #[arg(long, default_value_t = 4.0)]
    rate: f64,
    /// Copies of each message
    #[arg(long, default_value_t = 1)]
    redundancy: u8,
}

/// Builds the node and the load optimised, and plays the experiments. Fails if something is not as it must be.
pub fn run(options: &Options) -> Result<()> {
    let mut chaos = bench::program("chaos")?;
    chaos.arg(&options.name);
    for (name, value) in [
        ("--publishers", options.publishers.to_string()),
        ("--subscribers", options.subscribers.to_string()),
        ("--rate", options.rate.to_string()),
        ("--redundancy", options.redundancy.to_string()),
    ] {
        chaos.args([name, &value]);
    }
    if options.json {
        chaos.arg("--json");
    }
    process::run(&mut chaos)
}
