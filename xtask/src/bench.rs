//! `cargo xtask bench`: what the node costs, beside servers that do as little as can be done.

use std::process::Command;

use anyhow::Result;
use clap::{Args, ValueEnum};

use crate::{process, root};

#[derive(Args)]
pub struct Options {
    name: Name,
    /// One line of JSON for each measurement instead of a table
    #[arg(long)]
    json: bool,
    /// Runs of each server
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Length of a run
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
}

#[derive(Clone, Copy, ValueEnum)]
enum Name {
    /// CPU time for each delivery
    Fanout,
    /// How long a delivery takes at a fixed rate
    Latency,
    /// Memory for each idle session
    Idle,
    /// Memory for each session of the core, without sockets
    Core,
    /// How long a cluster takes to share its channels anew
    Rebalance,
    /// Whether nodes that live are ever taken for dead while every core is busy; for 10 minutes: --seconds 600
    Alarms,
    /// What it costs that a channel is another node's
    Links,
    /// What a cluster costs as it grows
    Growth,
}

/// Builds both optimised, and measures. Close everything else first: the figures are of this machine at this moment.
pub fn run(options: &Options) -> Result<()> {
    let name = match options.name {
        Name::Fanout => "fanout",
        Name::Latency => "latency",
        Name::Idle => "idle",
        Name::Core => "core",
        Name::Rebalance => "rebalance",
        Name::Alarms => "alarms",
        Name::Links => "links",
        Name::Growth => "growth",
    };
    let mut bench = program(name)?;
    bench.args(["--rounds", &options.rounds.to_string(), "--seconds", &options.seconds.to_string()]);
    if options.json {
        bench.arg("--json");
    }
    process::run(&mut bench)
}

/// Builds the load generator and the node, and names the one the other.
pub fn program(command: &str) -> Result<Command> {
    let packages = ["build", "--release", "--package", "appsockets-node", "--package", "appsockets-bench"];
    process::run(&mut process::cargo(packages))?;
    let release = root::target().join("release");
    let mut bench = process::program(release.join("appsockets-bench"), [command, "--node"]);
    bench.arg(release.join("appsockets-node"));
    Ok(bench)
}
