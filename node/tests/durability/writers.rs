//! Many who publish at once, until one of them kills the node.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use anyhow::{Context, ensure};
use appsockets_core::serial::Serial;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::{ledger::Ledger, process::Process};

const WRITERS: usize = 8;
const CHANNELS: usize = 4;

/// What the writers of a round share.
pub struct Round {
    number: u32,
    process: Process,
    ledger: Mutex<Ledger>,
    answers_max: usize,
    answers: AtomicUsize,
}

impl Round {
    /// The node will be killed right after it has answered `answers_max` requests; at least 1.
    pub fn new(number: u32, process: Process, ledger: Ledger, answers_max: usize) -> Round {
        Round { number, process, ledger: Mutex::new(ledger), answers_max, answers: AtomicUsize::new(0) }
    }
}

/// Publishes until the node is killed, and gives the ledger back.
pub async fn publish_and_kill(round: Round) -> Ledger {
    let round = Arc::new(round);
    let writers: JoinSet<()> = (0..WRITERS).map(|writer| write(round.clone(), writer)).collect();
    writers.join_all().await;
    let round = Arc::into_inner(round).expect("no writer is left");
    round.ledger.into_inner().unwrap()
}

async fn write(round: Arc<Round>, writer: usize) {
    for request in 0.. {
        let messages = messages(round.number, writer, request);
        for Message { channel, text, .. } in &messages {
            round.ledger.lock().unwrap().sent(channel, text);
        }
        let outcome = publish(&round.process, &messages).await;
        // Before anything else, so that nothing has time to reach the disk after the answer.
        if outcome.is_ok() && round.answers.fetch_add(1, Relaxed) + 1 == round.answers_max {
            round.process.kill();
        }
        match outcome {
            Ok(serials) => {
                for (Message { channel, text, .. }, serial) in messages.iter().zip(serials) {
                    round.ledger.lock().unwrap().acknowledged(channel, text, serial);
                }
            }
            Err(_) if round.process.was_killed() => return,
            Err(error) => panic!("a publish failed while the node ran: {error:#}"),
        }
    }
}

struct Message {
    channel: String,
    key: String,
    text: String,
}

/// One to three messages of several sizes, in one channel or in several.
fn messages(round: u32, writer: usize, request: usize) -> Vec<Message> {
    let message = |part| {
        let key = format!("round {round} writer {writer} request {request} part {part}");
        let text = format!("{key} {}", ".".repeat((writer * 331 + request * 97) % 3000));
        Message { channel: format!("durability:{}", (writer + request * part) % CHANNELS), key, text }
    };
    (0..=request % 3).map(message).collect()
}

/// The serials of the messages, which the node has acknowledged.
async fn publish(process: &Process, messages: &[Message]) -> anyhow::Result<Vec<Serial>> {
    let publishes: Vec<_> = messages
        .iter()
        .map(|Message { channel, key, text }| {
            json!({"channel": channel, "event": "written", "text": text, "key": key, "extra": {"store": true}})
        })
        .collect();
    let answer = process.post("/hubs/demo/publish", &json!({ "publishes": publishes })).await?;
    let published = answer["published"].as_array().context("an answer without results")?;
    ensure!(published.len() == messages.len(), "{} results of {} publishes", published.len(), messages.len());
    published.iter().map(|result| serial(result).with_context(|| format!("refused: {result}"))).collect()
}

/// Of a result or a message; none of a refusal.
pub fn serial(result: &Value) -> Option<Serial> {
    result["channelSerial"].as_str()?.parse().ok()
}
