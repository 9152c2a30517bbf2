//! `kubectl appsockets`: see `kubectl appsockets --help`.

use std::process::ExitCode;

use appsockets_operator::plugin;
use clap::Parser;

fn main() -> ExitCode {
    let arguments = plugin::Arguments::parse();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(plugin::run(arguments)));
    match outcome {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
