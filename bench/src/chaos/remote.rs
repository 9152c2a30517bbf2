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
    /// Answers a line with one of JSON: `moves` with how often clients have connected again, `settle` with all that has
    /// happened once everybody has what was acknowledged, `end` with the same when nothing is published any more
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
    let mut load = Load::begin(size, &options.hub, std::slice::from_ref(&options.url))?;
    println!("all {} sessions are there", options.subscribers);
    for stream in listener.incoming() {
        let mut stream = stream?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let answer = match line.trim() {
            "end" => {
                let outcome = load.end()?;
                return writeln!(stream, "{}", told(&outcome)).context("nobody hears how it ended");
            }
            "settle" => {
                load.settled().map_or_else(|error| json!({"error": format!("{error:#}")}), |outcome| told(&outcome))
            }
            _ => json!({"clients": options.publishers + options.subscribers, "reconnects": load.reconnects()}),
        };
        // Who asks and goes away has no wish to know.
        _ = writeln!(stream, "{answer}");
    }
    Ok(())
}

fn told(outcome: &Outcome) -> Value {
    let longest = outcome.gaps_ms.iter().copied().fold(0.0, f64::max);
    json!({
        "acknowledged": outcome.acknowledged, "deliveries": outcome.deliveries, "lost": outcome.lost,
        "doubled": outcome.doubled, "reordered": outcome.reordered, "told": outcome.told, "leaves": outcome.leaves,
        "epochsEnded": outcome.epochs_ended, "ended": outcome.ended, "refused": outcome.refused,
        "unanswered": outcome.unanswered, "reconnects": outcome.reconnects, "moved": outcome.moved,
        "longestGapMs": longest.round(),
    })
}
