//! The writer: whatever waits goes into one transaction.

use std::{collections::HashSet, iter};

use appsockets_core::{
    channel::ChannelKey,
    message::{Form, Message},
};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection, SqlitePool};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use tracing::{error, warn};

use super::{Batch, StoreError, clamp};

/// A transaction takes no further batch once it has this many messages or bytes.
const GROUP_ROWS_MAX: usize = 4096;
const GROUP_BYTES_MAX: usize = 4 << 20;

/// A batch that waits, and who waits for it.
#[derive(Debug)]
pub(super) struct Append {
    pub batch: Batch,
    pub bytes: usize,
    pub answer: oneshot::Sender<Result<(), StoreError>>,
    /// Given back when the answer is given.
    pub room: OwnedSemaphorePermit,
}

/// Stores what comes until the queue ends. No failure stops it.
pub(super) async fn run(writer: SqlitePool, mut queue: mpsc::Receiver<Append>) {
    while let Some(first) = queue.recv().await {
        let group = gather(first, &mut queue);
        store(&writer, group).await;
    }
}

/// Removes the oldest messages, and by a trigger the channels that have none left.
pub(super) async fn purge(writer: &SqlitePool, before_ms: u64, max_rows: u32) -> sqlx::Result<u64> {
    const PURGE: &str = "DELETE FROM messages WHERE id IN \
                         (SELECT id FROM messages WHERE ts_ms < ? ORDER BY ts_ms LIMIT ?)";
    let done = sqlx::query(PURGE).bind(clamp(before_ms)).bind(max_rows).execute(writer).await?;
    Ok(done.rows_affected())
}

fn gather(first: Append, queue: &mut mpsc::Receiver<Append>) -> Vec<Append> {
    let (mut rows, mut bytes) = (first.batch.messages.len(), first.bytes);
    let mut group = vec![first];
    while rows < GROUP_ROWS_MAX && bytes < GROUP_BYTES_MAX {
        let Ok(next) = queue.try_recv() else { break };
        rows += next.batch.messages.len();
        bytes += next.bytes;
        group.push(next);
    }
    group
}

/// Stores a group and answers its callers. If it fails as a whole, each batch is tried alone, so that one that can't be
/// stored fails no other.
async fn store(writer: &SqlitePool, group: Vec<Append>) {
    let outcome = commit(writer, &group).await;
    match outcome {
        Err(Failure::Batch(error)) if group.len() > 1 => {
            warn!(%error, batches = group.len(), "messages could not be stored together, trying them one by one");
            for append in group {
                let outcome = commit(writer, std::slice::from_ref(&append)).await;
                answer([append], outcome.map_err(Failure::logged));
            }
        }
        outcome => answer(group, outcome.map_err(Failure::logged)),
    }
}

fn answer(group: impl IntoIterator<Item = Append>, outcome: Result<(), StoreError>) {
    for Append { answer, room, .. } in group {
        // Nobody there: the caller has stopped waiting.
        let _ = answer.send(outcome.clone());
        drop(room);
    }
}

/// Why a transaction failed.
enum Failure {
    /// It did not begin, so another one would not either.
    Database(StoreError),
    /// Perhaps because of one of its batches.
    Batch(StoreError),
}

impl Failure {
    fn logged(self) -> StoreError {
        let (Failure::Database(error) | Failure::Batch(error)) = self;
        error!(%error, "messages could not be stored");
        error
    }
}

async fn commit(writer: &SqlitePool, group: &[Append]) -> Result<(), Failure> {
    // Taking the write lock at once: a transaction that takes it later can fail without having waited for it.
    let begun = writer.begin_with("BEGIN IMMEDIATE").await;
    let mut transaction = begun.map_err(|error| Failure::Database(error.into()))?;
    insert_all(&mut transaction, group).await.map_err(Failure::Batch)?;
    transaction.commit().await.map_err(|error| Failure::Batch(error.into()))
}

async fn insert_all(connection: &mut SqliteConnection, group: &[Append]) -> Result<(), StoreError> {
    let keys: HashSet<_> = group.iter().map(|append| &append.batch.key).collect();
    for keys in parts(&Vec::from_iter(keys)) {
        insert_channels(keys).build().execute(&mut *connection).await?;
    }
    let rows = group.iter().flat_map(|Append { batch, .. }| batch.messages.iter().map(|message| (&batch.key, message)));
    let rows = rows.map(|(key, message)| Row::new(key, message)).collect::<Result<Vec<_>, _>>()?;
    for rows in parts(&rows) {
        insert_messages(rows).build().execute(&mut *connection).await?;
    }
    Ok(())
}

/// Many rows to a statement, because each statement is a trip to SQLite's thread; in few sizes, because each size is
/// another statement to prepare and keep.
fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    iter::from_fn(move || {
        let size = 1 << rows.len().min(64).checked_ilog2()?;
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

fn insert_channels(keys: &[&ChannelKey]) -> QueryBuilder<Sqlite> {
    let mut insert = QueryBuilder::new("INSERT INTO channels (hub, channel) ");
    insert.push_values(keys, |mut row, key| {
        row.push_bind(key.hub.clone()).push_bind(key.channel.clone());
    });
    insert.push(" ON CONFLICT DO NOTHING");
    insert
}

/// A message with its numbers as the database has them.
struct Row<'a> {
    key: &'a ChannelKey,
    sequence: i64,
    ts_ms: i64,
    message: &'a Message,
}

impl<'a> Row<'a> {
    fn new(key: &'a ChannelKey, message: &'a Message) -> Result<Self, StoreError> {
        let integer = |number| i64::try_from(number).map_err(|_| StoreError::OutOfRange);
        Ok(Row { key, sequence: integer(message.serial.sequence)?, ts_ms: integer(message.ts_ms)?, message })
    }
}

fn insert_messages(rows: &[Row<'_>]) -> QueryBuilder<Sqlite> {
    let mut insert =
        QueryBuilder::new("INSERT INTO messages (channel_id, epoch, sequence, ts_ms, form, event, payload) ");
    insert.push_values(rows, |mut values, row| {
        values
            .push("(SELECT id FROM channels WHERE hub = ")
            .push_bind_unseparated(row.key.hub.clone())
            .push_unseparated(" AND channel = ")
            .push_bind_unseparated(row.key.channel.clone())
            .push_unseparated(")")
            .push_bind(row.message.serial.epoch.to_string())
            .push_bind(row.sequence)
            .push_bind(row.ts_ms)
            .push_bind(number_of(row.message.payload.form))
            .push_bind(row.message.event.clone())
            .push_bind(&*row.message.payload.bytes);
    });
    insert.push(
        " ON CONFLICT (channel_id, epoch, sequence) DO UPDATE SET ts_ms = excluded.ts_ms, form = excluded.form, \
         event = excluded.event, payload = excluded.payload",
    );
    insert
}

/// As the column `form` has it.
fn number_of(form: Form) -> i64 {
    match form {
        Form::Json => 0,
        Form::Text => 1,
        Form::Binary => 2,
        Form::Detect => 3,
    }
}
