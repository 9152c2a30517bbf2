//! `appsockets`: publishes, listens and administers from a shell. `appsockets --help` tells how.

mod admin;
mod bench;
mod connection;
mod fault;
mod history;
mod json;
mod output;
mod payload;
mod presence;
mod publish;
mod stop;
mod subscribe;
mod text;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use clap_complete::Shell;

use crate::{fault::Fault, output::Output};

const EXIT_CODES: &str = "\
Exit codes:
  0  it is done
  1  the server has refused
  2  used wrongly
  3  the server could not be reached, or an answer did not come in time
  4  bench: messages were lost, repeated or out of order

With --json each line of output is one JSON object, with the names of docs/protocol.md; so is an error, on standard error.";

/// Publishes to AppSockets, listens, and administers it.
#[derive(Parser)]
#[command(name = "appsockets", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Print JSON, one object a line
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Subscribe to channels, and print what comes until Ctrl-C
    Sub(subscribe::Options),
    /// Publish a message, and print its serial
    Pub(publish::Options),
    /// Print who is present in a channel; whoever asks so is present for that moment
    Presence(presence::Options),
    /// Print stored messages
    History(history::Options),
    /// Publish at a rate, and measure what arrives and when
    Bench(bench::Options),
    /// Administer a node
    Admin(admin::Options),
    /// Print what a shell needs to complete this tool's commands
    Completions { shell: Shell },
}

fn main() -> ExitCode {
    let Cli { command, json } = Cli::parse();
    let output = Output::new(json);
    match run(command, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => output.fail(&fault),
    }
}

fn run(command: Command, output: &Output) -> Result<(), Fault> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| Fault::usage(error.to_string()))?;
    runtime.block_on(async {
        match command {
            Command::Sub(options) => subscribe::run(options, output).await,
            Command::Pub(options) => publish::run(options, output).await,
            Command::Presence(options) => presence::run(options, output).await,
            Command::History(options) => history::run(options, output).await,
            Command::Bench(options) => bench::run(options, output).await,
            Command::Admin(options) => admin::run(options, output).await,
            Command::Completions { shell } => complete(shell, output),
        }
    })
}

fn complete(shell: Shell, output: &Output) -> Result<(), Fault> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "appsockets", &mut script);
    output.raw(&script)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use clap::CommandFactory;

    use super::Cli;

    fn variables(command: &clap::Command) -> BTreeSet<String> {
        let own = command.get_arguments().filter_map(|argument| argument.get_env());
        let own = own.map(|name| name.to_string_lossy().into_owned());
        own.chain(command.get_subcommands().flat_map(variables)).collect()
    }

    #[test]
    fn a_node_leaves_the_variables_alone() {
        let left_alone = appsockets_node::config::VARIABLES_OF_THE_TOOL.map(String::from);
        assert_eq!(variables(&Cli::command()), BTreeSet::from(left_alone));
    }
}
