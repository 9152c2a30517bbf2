//! Stored messages that a node has acknowledged outlive it, however it ends.
//!
//! In each round several writers publish over HTTP, until the node is killed right after one of its answers. Started
//! again on the same folder, it must have every acknowledged message of all rounds, once and in order.

mod ledger;
mod process;
mod writers;

use std::{
    env,
    time::{Duration, Instant},
};

use ledger::{Ledger, Stored};
use process::Process;
use proptest::{prelude::RngExt, test_runner::TestRunner};
use writers::Round;

/// How many rounds to go through: `cargo xtask durability` sets it.
const ROUNDS: &str = "DURABILITY_ROUNDS";
const ROUNDS_DEFAULT: u32 = 5;

/// Requests that a node answers before it is killed, at most.
const ANSWERS_MAX: usize = 100;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    let rounds = env::var(ROUNDS).map_or(ROUNDS_DEFAULT, |text| text.parse().unwrap());
    let data = tempfile::tempdir().unwrap();
    let mut runner = TestRunner::default();
    let mut ledger = Ledger::default();
    let mut process = Process::start(data.path()).await;
    let mut restarts = Vec::new();
    let mut unacknowledged = 0;
    for number in 1..=rounds {
        let answers_max = runner.rng().random_range(1..=ANSWERS_MAX);
        ledger = writers::publish_and_kill(Round::new(number, process, ledger, answers_max)).await;
        let killed = Instant::now();
        process = Process::start(data.path()).await;
        restarts.push(killed.elapsed());
        unacknowledged = check(&process, &ledger).await.unwrap_or_else(|wrong| panic!("round {number}: {wrong}"));
    }
    report(&ledger, unacknowledged, restarts);
}

/// Judges the histories of all channels, and gives how many unacknowledged messages are there.
async fn check(process: &Process, ledger: &Ledger) -> Result<usize, String> {
    let mut unacknowledged = 0;
    for channel in ledger.channels() {
        let history = history(process, channel).await.map_err(|error| format!("{channel}: {error:#}"))?;
        unacknowledged += ledger.judge(channel, &history).map_err(|wrong| format!("{channel}: {wrong}"))?;
    }
    Ok(unacknowledged)
}

/// All messages of a channel, oldest first.
async fn history(process: &Process, channel: &str) -> anyhow::Result<Vec<Stored>> {
    let mut newest_first: Vec<Stored> = Vec::new();
    loop {
        let before = newest_first.last().map(|oldest| format!("&beforeSerial={}", oldest.serial)).unwrap_or_default();
        let page = process.get(&format!("/hubs/demo/history?channel={channel}{before}")).await?;
        let messages = page["messages"].as_array().map(Vec::as_slice).unwrap_or_default();
        newest_first.extend(messages.iter().map(|message| Stored {
            text: message["text"].as_str().unwrap_or_default().to_owned(),
            serial: writers::serial(message).expect("a message without a serial"),
        }));
        if messages.is_empty() || page["more"] == false {
            newest_first.reverse();
            return Ok(newest_first);
        }
    }
}

fn report(ledger: &Ledger, unacknowledged: usize, mut restarts: Vec<Duration>) {
    let (acknowledged, unanswered) = ledger.counts();
    println!("{} rounds, each ended by SIGKILL", restarts.len());
    println!("{acknowledged} acknowledged messages, all there once and in order");
    println!("{unanswered} unacknowledged messages, {unacknowledged} of them there");
    restarts.sort();
    if let (Some(median), Some(max)) = (restarts.get(restarts.len() / 2), restarts.last()) {
        println!("time to restart: median {} ms, at most {} ms", median.as_millis(), max.as_millis());
    }
}
