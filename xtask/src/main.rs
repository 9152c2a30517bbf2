//! Every developer and CI command of AppSockets: `cargo xtask` lists them, `cargo xtask COMMAND --help` explains one.
//!
//! Continuous integration runs `lint`, `test` and `e2e --smoke` and nothing else, so what passes here passes there.

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

mod abuse;
mod autobahn;
mod bench;
mod chaos;
mod dev;
mod durability;
mod e2e;
mod fuzz;
mod generate;
mod image;
mod lint;
mod needs;
mod process;
mod region;
mod root;
mod rules;
mod schemathesis;
mod sim;
mod test;
mod tools;

/// The commands of an AppSockets developer.
#[derive(Parser)]
#[command(bin_name = "cargo xtask", arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a node with a demonstration hub
    Dev(dev::Options),
    /// Install what the tests need, and run them all
    Test(test::Options),
    /// Check format, clippy, licences and the house rules
    Lint(lint::Options),
    /// Show on a real Kubernetes what is promised there
    E2e(e2e::Options),
    /// Make the images of node and operator, without a daemon
    Image(image::Options),
    /// Write the generated parts of the documents
    Generate,
    /// Let the Autobahn suite judge the WebSocket framing
    Autobahn(autobahn::Options),
    /// Let Schemathesis ask the administration everything that its description allows
    Schemathesis(schemathesis::Options),
    /// Feed the decoders with chance
    Fuzz(fuzz::Options),
    /// Let whole clusters go wrong in every way, and judge what clients get
    Sim(sim::Options),
    /// Measure what the node costs, beside servers that do as little as can be done
    Bench(bench::Options),
    /// Misbehave towards a node, and watch its memory and its other clients
    Abuse(abuse::Options),
    /// Let nodes fail, stop and come back under load, and watch their clients
    Chaos(chaos::Options),
    /// Kill a node again and again, and look for what it had acknowledged
    Durability(durability::Options),
}

/// Whether the command may install what the machine lacks.
#[derive(Args)]
struct Consent {
    /// Install missing packages of the distribution without asking
    #[arg(long, env = "CI", hide_env_values = true)]
    yes: bool,
}

fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Dev(options) => dev::run(&options),
        Command::Test(options) => test::run(&options),
        Command::Lint(options) => lint::run(&options),
        Command::E2e(options) => e2e::run(&options),
        Command::Image(options) => image::run(&options),
        Command::Generate => generate::run(),
        Command::Autobahn(options) => autobahn::run(&options),
        Command::Schemathesis(options) => schemathesis::run(&options),
        Command::Fuzz(options) => fuzz::run(&options),
        Command::Sim(options) => sim::run(&options),
        Command::Bench(options) => bench::run(&options),
        Command::Abuse(options) => abuse::run(&options),
        Command::Chaos(options) => chaos::run(&options),
        Command::Durability(options) => durability::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
