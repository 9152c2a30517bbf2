//! `load`: the load alone, beside nodes that others start and stop, for the suite on Kubernetes.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::load::{Load, Outcome, Size};
use crate::cpu;

#[derive(clap::Args)]
pub struct Options {
    /// Where clients connect
    #[arg(long)]
    url: String,
    #[arg(long)]
    hub: String,
    #[arg(long, default_value_t = 100)]
    publishers: usize,
    #[arg(long, default_value_t = 3_000)]
    subscribers: usize,
    /// Messages per second of each publisher
    #[arg(long, default_value_t = 1.0)]
    rate: f64,
    /// Answers each line `figures` with what has happened so far, and `end` with what has in all, as a line of JSON
    #[arg(long, default_value = "0.0.0.0:9000")]
    listen: SocketAddr,
}

/// Goes on until somebody says `end`.
pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    let listener = TcpListener::bind(options.listen).with_context(|| format!("{} can't be had", options.listen))?;
    let size = Size {
        publishers: options.publishers,
        subscribers: options.subscribers,
        rhythm: Duration::from_secs_f64(1.0 / options.rate),
    };
    let load = Load::begin(size, &options.hub, std::slice::from_ref(&options.url))?;
    println!("all {} sessions are there", options.subscribers);
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        if line.trim() == "end" {
            let outcome = load.end()?;
            return writeln!(stream, "{}", told(&outcome)).context("nobody hears how it ended");
        }
        // Who asks and goes away has no wish to know.
        _ = writeln!(stream, "{}", told(&load.outcome()));
    }
    Ok(())
}

fn told(outcome: &Outcome) -> Value {
    let longest = outcome.gaps_ms.iter().copied().fold(0.0, f64::max);
    json!({
        "acknowledged": outcome.acknowledged, "deliveries": outcome.deliveries, "lost": outcome.lost,
        "doubled": outcome.doubled, "reordered": outcome.reordered, "told": outcome.told, "leaves": outcome.leaves,
        "epochsEnded": outcome.epochs_ended, "ended": outcome.ended, "refused": outcome.refused,
        "unanswered": outcome.unanswered, "reconnects": outcome.reconnects, "longestGapMs": longest.round(),
    })
}
