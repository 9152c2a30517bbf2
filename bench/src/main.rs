//! What AppSockets costs, as ratios to servers that do as little as can be done. See `cargo xtask bench`.
//!
//! Server and load are processes of their own, each pinned to a core. A benchmark runs both servers in turn, several
//! times, so that what the machine does meanwhile falls on both.

mod abuse;
mod alarms;
mod chaos;
mod client;
mod cluster;
mod cpu;
mod fanout;
mod flow;
mod frames;
mod growth;
mod idle;
mod latencies;
mod latency;
mod links;
mod machines;
mod raw;
mod rebalance;
mod report;
mod server;

use std::path::PathBuf;

use clap::{Parser, Subcommand};

#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// CPU time for each delivery, beside a server that only writes
    Fanout {
        #[command(flatten)]
        options: Options,
    },
    /// How long a delivery takes, beside a server that only writes
    Latency {
        #[command(flatten)]
        options: Options,
    },
    /// Memory for each idle session, beside a server that only accepts
    Idle {
        #[command(flatten)]
        options: Options,
    },
    /// Memory for each session of the core, without sockets
    Core {
        #[command(flatten)]
        options: Options,
    },
    /// How long a cluster takes to know of a node that comes or crashes, and to share the channels anew
    Rebalance {
        #[command(flatten)]
        options: Options,
    },
    /// Whether nodes that live are ever taken for dead while every core is busy
    Alarms {
        #[command(flatten)]
        options: Options,
    },
    /// What it costs that a channel is another node's
    Links {
        #[command(flatten)]
        options: Options,
    },
    /// What a cluster costs as it grows
    Growth {
        #[command(flatten)]
        options: Options,
    },
    /// What a node and its clients go through while others misbehave
    Abuse {
        #[command(flatten)]
        options: abuse::Options,
    },
    /// What clients go through while nodes fail, stop and come back
    Chaos {
        #[command(flatten)]
        options: chaos::Options,
    },
    /// The load of `chaos` alone, beside nodes that others start and stop
    Load {
        #[command(flatten)]
        options: chaos::remote::Options,
    },
    /// One measurement of the core; started by its benchmark
    #[command(hide = true)]
    CoreOnce { spread: machines::Spread },
    /// The reference of `links`; started by it
    #[command(hide = true)]
    Echo,
    /// A reference server; started by the benchmarks
    #[command(hide = true)]
    Raw {
        #[arg(long)]
        batch: bool,
    },
}

#[derive(clap::Args)]
pub struct Options {
    /// The node's program
    #[arg(long)]
    node: PathBuf,
    /// One line of JSON for each measurement instead of a table
    #[arg(long)]
    json: bool,
    /// Runs of each server
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// Length of a run
    #[arg(long, default_value_t = 4)]
    seconds: u64,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Fanout { options } => fanout::run(&options),
        Command::Latency { options } => latency::run(&options),
        Command::Idle { options } => idle::run(&options),
        Command::Core { options } => machines::run(&options),
        Command::Rebalance { options } => rebalance::run(&options),
        Command::Alarms { options } => alarms::run(&options),
        Command::Links { options } => links::run(&options),
        Command::Growth { options } => growth::run(&options),
        Command::Echo => links::echo(),
        Command::Abuse { options } => abuse::run(&options),
        Command::Chaos { options } => chaos::run(&options),
        Command::Load { options } => chaos::remote::run(&options),
        Command::CoreOnce { spread } => machines::run_once(spread),
        Command::Raw { batch } => raw::serve(batch),
    }
}
