//! The node's SQLite database.

use std::{path::Path, time::Duration};

use anyhow::Context;
use sqlx::{
    Connection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous},
};

const FILE: &str = "appsockets.db";

/// How long a statement waits for another process that has locked the file.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a caller waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(15);

const READERS: u32 = 4;

/// After a checkpoint the write-ahead log is cut to this many bytes.
const WAL_BYTES: u32 = 64 << 20;

/// The connections to the node's database. Clones share them.
#[derive(Clone, Debug)]
pub struct Database {
    writer: SqlitePool,
    readers: SqlitePool,
}

/// Opens the database in this folder, makes both if they are missing, and brings its tables up to date. A transaction is
/// on the disk when its commit returns.
///
/// # Errors
/// The folder or the file can't be made, read or written, or is of a later version.
pub async fn open(folder: &Path) -> anyhow::Result<Database> {
    let file = folder.join(FILE);
    connect(folder, &file).await.with_context(|| format!("can't open the database {}", file.display()))
}

impl Database {
    /// The one connection that writes; callers get it in turn and should give it back soon.
    pub fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    /// Connections that see what is committed and can't write.
    pub fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// Waits for the connections to be given back, and closes them.
    pub async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

async fn connect(folder: &Path, file: &Path) -> anyhow::Result<Database> {
    std::fs::create_dir_all(folder)?;
    let options = SqliteConnectOptions::new()
        .filename(file)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .pragma("journal_size_limit", WAL_BYTES.to_string())
        .busy_timeout(BUSY_TIMEOUT);
    let writer = pool(1).connect_with(options.clone()).await?;
    sqlx::migrate!().run(&writer).await?;
    let readers = pool(READERS).connect_with(options.pragma("query_only", "ON").row_buffer_size(16)).await?;
    Ok(Database { writer, readers })
}

fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .idle_timeout(None)
        .max_lifetime(None)
        // SQLite ends a transaction by itself when the disk is full or fails, but the connection goes on to count it
        // as open and could begin no other, so it is replaced.
        .before_acquire(|connection, _| Box::pin(async { Ok(!connection.is_in_transaction()) }))
}
