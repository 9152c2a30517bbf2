//! `cargo xtask sim`: whole clusters in one thread, for as many seeds as one likes.

mod broken;
mod variant;

use anyhow::Result;
use clap::Args;

use crate::process;

#[derive(Args)]
pub struct Options {
    /// The first seed
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1_000)]
    count: u64,
    /// One seed alone, with its plan
    #[arg(long, conflicts_with_all = ["first", "count"])]
    seed: Option<u64>,
    /// Print everything that is said; best with one seed
    #[arg(long)]
    trace: bool,
    /// Plans aimed at one moment, by name
    #[arg(long)]
    aimed: Option<String>,
    /// Break the protocol on purpose, in every way or in those named so, and demand that each is caught
    #[arg(long, num_args = 0.., value_name = "NAME", conflicts_with_all = ["first", "count", "seed", "trace", "aimed"])]
    broken: Option<Vec<String>>,
}

pub fn run(options: &Options) -> Result<()> {
    if let Some(filter) = &options.broken {
        return broken::run(filter);
    }
    let mut cargo = process::cargo(["run", "--release", "--package", "appsockets-core", "--example", "simulate", "--"]);
    let (first, count) = options.seed.map_or((options.first, options.count), |seed| (seed, 1));
    cargo.args([first.to_string(), count.to_string()]);
    cargo.args(options.trace.then_some("--trace"));
    cargo.args(options.aimed.iter().flat_map(|aimed| ["--aimed", aimed]));
    process::run(&mut cargo)
}

/// What continuous integration runs of it.
pub fn broken() -> Result<()> {
    broken::run(&[])
}
