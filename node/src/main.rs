//! `appsockets-node`: see `appsockets-node --help`.

#[cfg(target_os = "linux")]
mod allocator;

use std::{
    io::{IsTerminal, Write},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use appsockets_node::{
    apply,
    config::{self, Config},
    node::{End, Node},
    tls::{self, Tls},
};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// A node of AppSockets: clients connect to it, and it carries their messages.
#[derive(Parser)]
#[command(version, args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    serve: Serve,
}

#[derive(clap::Args)]
struct Serve {
    /// The configuration file, YAML.
    #[arg(long)]
    config: Option<PathBuf>,
    /// A file of resources (Hub, ChannelRules, Namespace, Channel, AuthProvider), YAML. Changes to it take effect live.
    #[arg(long)]
    hubs: Option<PathBuf>,
    /// Where clients connect, instead of the configured address.
    #[arg(long)]
    listen: Option<SocketAddr>,
    /// Where administrators connect, instead of the configured address.
    #[arg(long)]
    admin: Option<SocketAddr>,
    /// The data folder, instead of the configured one.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Shows a page at `/` to try things with.
    #[arg(long)]
    page: bool,
}

#[derive(Subcommand)]
enum Command {
    /// Writes the resources of a file into a node's database. A running node takes them over within seconds.
    Apply {
        /// The data folder of the node.
        #[arg(long)]
        data: PathBuf,
        /// Resources, YAML.
        file: PathBuf,
    },
    /// Looks at the configuration without starting a node, or shows what may be configured.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Says what is wrong with a configuration, with the environment variables as they are here.
    Check {
        /// The configuration file, YAML.
        #[arg(long)]
        config: Option<PathBuf>,
    },
    /// Prints every key with what it takes, its default and its meaning, as a table in Markdown.
    Reference,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What went wrong is for administrators, so there is never a stack trace.
            eprintln!("Error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let Arguments { command, serve: arguments } = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    match command {
        None => runtime.block_on(serve(arguments)),
        Some(Command::Apply { data, file }) => runtime.block_on(apply::apply(&data, &file)),
        Some(Command::Config(ConfigCommand::Check { config })) => check(config.as_deref()),
        Some(Command::Config(ConfigCommand::Reference)) => {
            print!("{}", config::reference());
            Ok(())
        }
    }
}

/// Logs to standard error what the configuration asks for.
fn log(config: &Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(config.debug.level.parse::<EnvFilter>()?)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
    Ok(())
}

fn check(file: Option<&Path>) -> anyhow::Result<()> {
    let config = Config::load(file, std::env::vars_os())?;
    Tls::load("tls", &config.tls)?;
    Tls::load("admin.tls", &config.admin.tls)?;
    println!("{}: ok", file.map_or("the environment".into(), Path::to_string_lossy));
    Ok(())
}

async fn serve(Serve { config, hubs, listen, admin, data, page }: Serve) -> anyhow::Result<()> {
    let mut config = Config::load(config.as_deref(), std::env::vars_os())?;
    log(&config)?;
    config.listen = listen.unwrap_or(config.listen);
    config.admin.listen = admin.or(config.admin.listen);
    config.data = data.unwrap_or(config.data);
    config.page |= page;
    let (mut once, mut twice) = (Stop::listen()?, Stop::listen()?);
    let secured = config.tls.certificate.is_some();
    // Who asks again does not want to wait until the sessions have gone.
    let asked_again = async {
        twice.asked().await;
        twice.asked().await;
    };
    let serve = async {
        loop {
            let node = Node::start(config.clone(), hubs.clone()).await?;
            // One that begins again keeps its address.
            config.listen = node.address();
            // The one line on standard output: whoever starts a node on port 0 learns the port from it. A node that begins
            // again says it again, and then there may be nobody who reads it.
            let _ = writeln!(std::io::stdout(), "listening on {}://{}", tls::scheme(secured), node.address());
            if node.serve(once.asked()).await? == End::Stopped {
                return Ok(());
            }
        }
    };
    tokio::select! {
        outcome = serve => outcome,
        () = asked_again => Ok(()),
    }
}

/// The ways in which a process is asked to end: SIGTERM, and Ctrl-C.
struct Stop {
    terminate: Signal,
    interrupt: Signal,
}

impl Stop {
    fn listen() -> anyhow::Result<Stop> {
        let listen = |kind| signal(kind).context("signals can't be listened to");
        Ok(Stop { terminate: listen(SignalKind::terminate())?, interrupt: listen(SignalKind::interrupt())? })
    }

    async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
