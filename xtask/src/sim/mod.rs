//! `cargo xtask sim`: the simulation of whole clusters, for as long as one likes.

mod broken;
mod variant;

use anyhow::Result;
use clap::Args;

use crate::process;

#[derive(Args)]
pub struct Options {
    /// Run this seed alone
    #[arg(long, conflicts_with_all = ["seeds", "from", "minutes"])]
    seed: Option<u64>,
    /// Print every message between nodes and every event that a client is told
    #[arg(long, requires = "seed")]
    trace: bool,
    /// What differs from the plan of the seed, as a failing run prints it: clients=2,channels=1
    #[arg(long, requires = "seed")]
    plan: Option<String>,
    /// How many seeds [default: 1000, or without an end if --minutes is given]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first of them [default: 0]
    #[arg(long)]
    from: Option<u64>,
    /// How long, in minutes
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    minutes: Option<u64>,
    /// Plans that aim at one moment, by its name
    #[arg(long)]
    aimed: Option<String>,
    /// Break the protocol on purpose, in every way or in those named so, and demand that each is caught
    #[arg(long, num_args = 0.., value_name = "NAME", conflicts_with_all = ["seed", "seeds", "from", "minutes", "aimed"])]
    broken: Option<Vec<String>>,
}

/// Runs the core's example in a profile of its own: optimised, and with the assertions of a debug build.
pub fn run(options: &Options) -> Result<()> {
    if let Some(filter) = &options.broken {
        return broken::run(filter);
    }
    let example = ["run", "--profile", "simulation", "--package", "appsockets-core", "--example", "simulate", "--"];
    let mut command = process::cargo(example);
    let numbers = [
        ("--seed", options.seed),
        ("--seeds", options.seeds),
        ("--from", options.from),
        ("--minutes", options.minutes),
    ];
    for (name, number) in numbers {
        command.args(number.map(|number| [name.to_owned(), number.to_string()]).into_iter().flatten());
    }
    command.args(options.plan.iter().flat_map(|plan| ["--plan", plan]));
    command.args(options.aimed.iter().flat_map(|aimed| ["--aimed", aimed]));
    command.args(options.trace.then_some("--trace"));
    process::run(&mut command)
}

/// What continuous integration runs of it.
pub fn broken() -> Result<()> {
    broken::run(&[])
}
