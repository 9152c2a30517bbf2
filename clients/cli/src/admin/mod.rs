//! `admin`: what administrators do over HTTP. Paths and bodies are those of the node's `/openapi.json`.

mod call;
mod channel;
mod resources;
mod watching;

use clap::{Args, Subcommand};

use self::{call::Node, resources::Kind};
use crate::{fault::Fault, output::Output, publish::Message};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    node: Node,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List all resources of a kind: of the hub, or hubs and auth providers of the node; not metadata
    List { kind: Kind },
    /// Show a resource, without its secrets
    Get {
        kind: Kind,
        /// Of metadata the channel's; not for an auth provider, of which a hub has one; the hub's own without it
        name: Option<String>,
    },
    /// Write a resource as a whole
    Put {
        kind: Kind,
        /// Of metadata the channel's; not for an auth provider, of which a hub has one; the hub's own without it
        name: Option<String>,
        /// What it says, as JSON; standard input without it, or for `-`
        #[arg(long)]
        spec: Option<String>,
    },
    /// Remove a resource; with a hub, everything of it
    Delete {
        kind: Kind,
        /// Of metadata the channel's; not for an auth provider, of which a hub has one; the hub's own without it
        name: Option<String>,
    },
    /// Publish into any channel of the hub, and print the message's serial
    Publish(Message),
    /// Print who is present in a channel, without being so
    Presence { channel: String },
    /// Say whether the node wants clients
    Ready,
    /// Print the node's figures
    Metrics,
}

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    let Options { node, command } = options;
    match command {
        Command::List { kind } => resources::list(&node, kind, output).await,
        Command::Get { kind, name } => resources::get(&node, kind, name.as_deref(), output).await,
        Command::Put { kind, name, spec } => resources::put(&node, kind, name.as_deref(), spec, output).await,
        Command::Delete { kind, name } => resources::delete(&node, kind, name.as_deref(), output).await,
        Command::Publish(message) => channel::publish(&node, message, output).await,
        Command::Presence { channel } => channel::presence(&node, &channel, output).await,
        Command::Ready => watching::ready(&node, output).await,
        Command::Metrics => watching::metrics(&node, output).await,
    }
}
