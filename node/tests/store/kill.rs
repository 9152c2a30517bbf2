//! What was acknowledged is there after the process was killed.

use std::{
    collections::{HashMap, HashSet},
    env,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use appsockets_core::{channel::ChannelKey, serial::Serial};
use proptest::{prelude::RngExt, test_runner::TestRunner};

use crate::{Sqlite, suite};

const ROUNDS: u64 = 10;

/// Channel and serials, batch by batch.
type Acknowledged = Vec<(String, Vec<Serial>)>;

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = Acknowledged::new();
    let mut runner = TestRunner::default();
    for round in 1..=ROUNDS {
        let lines = runner.rng().random_range(1..400_u32);
        let more = write_and_kill(folder.path(), round, lines);
        assert!(more.len() >= lines as usize, "the writer ended by itself");
        acknowledged.extend(more);
    }
    let sqlite = Sqlite::open_in(folder).await;
    let sound: String = sqlx::query_scalar("PRAGMA integrity_check").fetch_one(sqlite.database.writer()).await.unwrap();
    assert_eq!(sound, "ok");
    for (channel, batches) in by_channel(acknowledged) {
        check(&sqlite, &channel, &batches).await;
    }
}

/// Kills the writer after so many lines and returns all that it printed.
fn write_and_kill(folder: &Path, generation: u64, lines: u32) -> Acknowledged {
    let mut writer = Running(spawn(folder, generation));
    let mut output = BufReader::new(writer.0.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    let mut line = String::new();
    loop {
        if acknowledged.len() == lines as usize {
            writer.0.kill().unwrap();
        }
        line.clear();
        output.read_line(&mut line).unwrap();
        let Some(whole) = line.strip_suffix('\n') else { break };
        let (channel, serials) = whole.split_once(' ').unwrap();
        acknowledged.push((channel.to_owned(), serials.split(' ').map(|serial| serial.parse().unwrap()).collect()));
    }
    acknowledged
}

fn spawn(folder: &Path, generation: u64) -> Child {
    let program = example();
    Command::new(&program)
        .arg(folder)
        .arg(generation.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}; cargo build --example store_writer", program.display()))
}

/// Cargo builds the examples beside the tests.
fn example() -> PathBuf {
    let test = env::current_exe().unwrap();
    test.ancestors().nth(2).unwrap().join("examples/store_writer")
}

/// Ends with its owner.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn by_channel(acknowledged: Acknowledged) -> HashMap<String, Vec<Vec<Serial>>> {
    let mut channels: HashMap<_, Vec<_>> = HashMap::new();
    for (channel, serials) in acknowledged {
        channels.entry(channel).or_default().push(serials);
    }
    channels
}

/// All that was acknowledged is there, whole, and in order. Beside it there may be what was stored but not told.
async fn check(sqlite: &Sqlite, channel: &str, batches: &[Vec<Serial>]) {
    let stored = suite::all(sqlite, &ChannelKey::new("hub", channel)).await;
    let acknowledged: Vec<_> = batches.iter().flatten().copied().collect();
    let known: HashSet<_> = acknowledged.iter().copied().collect();
    let found: Vec<_> = stored.iter().map(|message| message.serial).filter(|serial| known.contains(serial)).collect();
    assert_eq!(found, acknowledged, "channel {channel}");
    for message in &stored {
        assert_eq!(&*message.payload.bytes, format!("payload of {}", message.serial).as_bytes());
    }
}
