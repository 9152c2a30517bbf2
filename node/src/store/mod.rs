//! Stored messages: durable before they are delivered, read in pages.
//!
//! SQLite serves a cluster of one core node. Calls that append at the same time share one transaction, because the disk
//! is slow to confirm and does not care how much it confirms.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    message::Message,
    session::{event::HistoryPage, request::HistoryBound},
};
use tokio::sync::{Semaphore, mpsc, oneshot};

mod database;
mod page;
mod writer;

pub use database::{Database, open};
pub use page::{PAGE_BYTES_MAX, PAGE_ROWS_MAX};

/// Appends that wait for the writer, at most; further callers wait for room.
const WAITING_MAX: usize = 1024;

/// Bytes that wait for the writer, at most; further callers wait for room.
const WAITING_BYTES_MAX: u32 = 16 << 20;

/// Messages of one channel, in their order. They are stored together or not at all.
#[derive(Clone, Debug)]
pub struct Batch {
    pub key: ChannelKey,
    pub messages: Vec<Arc<Message>>,
}

/// Why messages were not stored or not read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Nothing is stored of the epoch, so its place among the channel's messages is not known.
    #[error("nothing is stored of this epoch")]
    UnknownEpoch,
    /// The bound is [`HistoryBound::Bad`].
    #[error("the bound can't be read")]
    BadBound,
    /// A sequence or a time is above 2^63 - 1.
    #[error("the sequence or the time is too large to be stored")]
    OutOfRange,
    /// After [`MessageStore::close`].
    #[error("the store is closed")]
    Closed,
    /// The database failed: disk full, locked for too long, damaged…
    #[error("the database failed: {0}")]
    Failed(Arc<sqlx::Error>),
}

impl From<&StoreError> for ErrorCode {
    fn from(error: &StoreError) -> Self {
        match error {
            StoreError::UnknownEpoch | StoreError::BadBound => ErrorCode::BadSerial,
            StoreError::OutOfRange | StoreError::Closed | StoreError::Failed(_) => ErrorCode::HistoryFailed,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        StoreError::Failed(Arc::new(error))
    }
}

/// The stored messages of all channels of a node.
#[derive(Debug)]
pub struct MessageStore {
    database: Database,
    queue: mpsc::Sender<writer::Append>,
    room: Arc<Semaphore>,
}

impl MessageStore {
    /// Starts the writer, which ends with the store. Must be called within a tokio runtime.
    pub fn new(database: Database) -> Self {
        let (queue, waiting) = mpsc::channel(WAITING_MAX);
        tokio::spawn(writer::run(database.writer().clone(), waiting));
        MessageStore { database, queue, room: Arc::new(Semaphore::new(WAITING_BYTES_MAX as usize)) }
    }

    /// Stores a batch; it is on the disk when this returns. Waits for room while too much waits already. A serial that
    /// is stored already gets the new message: after a failed append its number may be given again.
    ///
    /// Appends are carried out in the order in which they were first polled. If the caller stops waiting, or gets
    /// [`StoreError::Failed`], the batch may or may not be stored, but never in part.
    pub async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        if batch.messages.is_empty() {
            return Ok(());
        }
        let bytes: usize = batch.messages.iter().map(|message| message.weight()).sum();
        let share = u32::try_from(bytes).map_or(WAITING_BYTES_MAX, |bytes| bytes.min(WAITING_BYTES_MAX));
        let room = self.room.clone().acquire_many_owned(share).await.map_err(|_| StoreError::Closed)?;
        let (answer, outcome) = oneshot::channel();
        let append = writer::Append { batch, bytes, answer, room };
        self.queue.send(append).await.map_err(|_| StoreError::Closed)?;
        outcome.await.unwrap_or(Err(StoreError::Closed))
    }

    /// Reads a page of a channel; empty if nothing is stored there. `limit` counts messages and is taken as 1 to
    /// [`PAGE_ROWS_MAX`]; a page also ends when it has [`PAGE_BYTES_MAX`]. `more` is exact at the time of reading.
    ///
    /// - By serial: a serial that is not stored stands between its neighbours in its epoch, and what lies beyond the
    ///   epoch follows. [`StoreError::UnknownEpoch`] if nothing of the epoch is stored: whoever knows it to be the
    ///   channel's current epoch asks for the newest page instead, or answers that nothing came after.
    /// - By timestamp, and the newest: a page holds whole milliseconds, so that the next one can be asked for by
    ///   timestamp. It is shorter than the limit rather than split one, and longer only if a single millisecond has
    ///   more messages than the limit; of those it takes up to [`PAGE_ROWS_MAX`] or four times [`PAGE_BYTES_MAX`].
    ///   Beyond that only paging by serial goes on exactly.
    pub async fn page(&self, key: &ChannelKey, bound: HistoryBound, limit: u32) -> Result<HistoryPage, StoreError> {
        page::read(self.database.readers(), key, bound, limit).await
    }

    /// Removes messages that are older than `before_unix_ms`, the oldest first and at most `max_rows` in one step, and
    /// says how many. Appends wait meanwhile, so some thousand rows make a good step. The file keeps its size; the
    /// room in it is used again.
    pub async fn purge(&self, before_unix_ms: u64, max_rows: u32) -> Result<u64, StoreError> {
        Ok(writer::purge(self.database.writer(), before_unix_ms, max_rows).await?)
    }

    /// Waits until everything that waits is stored; later appends are refused. The database stays open.
    pub async fn close(&self) {
        // Each append holds its share of the room until it is answered, and room is given in turn.
        if let Ok(_all) = self.room.acquire_many(WAITING_BYTES_MAX).await {
            self.room.close();
        }
    }
}

/// For bounds, where what is beyond the database's integers is just as well the greatest of them.
fn clamp(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
