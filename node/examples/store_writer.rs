//! Appends to the store in a folder until it is killed, or a minute has passed, and prints a line for each append that
//! was acknowledged: `<channel> <serial>...`. The test of the store's durability runs it:
//! `store_writer FOLDER GENERATION`.

use std::{env, io::Write, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use appsockets_core::{
    channel::ChannelKey,
    message::{Form, Message, Payload},
    serial::{Epoch, Serial},
};
use appsockets_node::store::{self, Batch, MessageStore};
use tokio::{task::JoinSet, time::timeout};

const CHANNELS: u64 = 8;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let folder = PathBuf::from(env::args().nth(1).context("no folder")?);
    let generation = env::args().nth(2).context("no generation")?.parse()?;
    let store = Arc::new(MessageStore::new(store::open(&folder).await?));
    let mut writers = JoinSet::new();
    for channel in 0..CHANNELS {
        writers.spawn(write(store.clone(), channel, Epoch { view: 1, node: 1, generation, counter: channel }));
    }
    match timeout(Duration::from_secs(60), writers.join_next()).await {
        Ok(Some(ended)) => ended?,
        _ => Ok(()),
    }
}

async fn write(store: Arc<MessageStore>, channel: u64, epoch: Epoch) -> anyhow::Result<()> {
    let mut sequence = 0;
    loop {
        let size = 1 + sequence % 3;
        let messages: Vec<_> = (sequence + 1..=sequence + size).map(|n| message(epoch, n)).collect();
        sequence += size;
        let line = messages.iter().map(|message| message.serial.to_string()).collect::<Vec<_>>().join(" ");
        store.append(Batch { key: ChannelKey::new("hub", channel.to_string()), messages }).await?;
        // One write, so that the killed process leaves no line that merely looks whole.
        std::io::stdout().write_all(format!("{channel} {line}\n").as_bytes())?;
    }
}

fn message(epoch: Epoch, sequence: u64) -> Arc<Message> {
    let serial = Serial { epoch, sequence };
    let payload = Payload { bytes: format!("payload of {serial}").into(), form: Form::Text };
    Arc::new(Message { serial, ts_ms: epoch.generation * 1_000_000 + sequence, event: "written".into(), payload })
}
