//! The store of messages against a real database.

mod failures;
mod group;
mod kill;
mod model;
mod suite;

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    message::{Form, Message, Payload},
    serial::{Epoch, Serial},
};
use appsockets_node::store::{self, Batch, Database, MessageStore};
use tempfile::TempDir;

/// A store in a folder of its own, which goes with it.
struct Sqlite {
    store: Arc<MessageStore>,
    database: Database,
    folder: TempDir,
}

impl Sqlite {
    async fn open() -> Sqlite {
        Sqlite::open_in(tempfile::tempdir().unwrap()).await
    }

    async fn open_in(folder: TempDir) -> Sqlite {
        let database = store::open(folder.path()).await.unwrap();
        Sqlite { store: Arc::new(MessageStore::new(database.clone())), database, folder }
    }

    async fn reopen(self) -> Sqlite {
        self.store.close().await;
        self.database.close().await;
        Sqlite::open_in(self.folder).await
    }

    async fn execute(&self, statement: &'static str) {
        sqlx::raw_sql(statement).execute(self.database.writer()).await.unwrap();
    }
}

#[tokio::test]
async fn sqlite_passes_the_suite() {
    suite::run(async || Sqlite::open().await).await;
}

#[tokio::test]
async fn messages_survive_a_restart() {
    let sqlite = Sqlite::open().await;
    let key = ChannelKey::new("hub", "channel");
    sqlite.store.append(batch(&key, [message(1, 1, 10)])).await.unwrap();
    let sqlite = sqlite.reopen().await;
    sqlite.store.append(batch(&key, [message(2, 1, 20)])).await.unwrap();
    assert_eq!(suite::all(&sqlite, &key).await, [message(1, 1, 10), message(2, 1, 20)]);
}

fn epoch(counter: u64) -> Epoch {
    Epoch { view: 1, node: 7, generation: 1_795_000_000_000, counter }
}

fn serial(epoch_counter: u64, sequence: u64) -> Serial {
    Serial { epoch: epoch(epoch_counter), sequence }
}

fn message(epoch_counter: u64, sequence: u64, ts_ms: u64) -> Message {
    let payload = Payload { bytes: format!("{epoch_counter}:{sequence}@{ts_ms}").into(), form: Form::Text };
    Message { serial: serial(epoch_counter, sequence), ts_ms, event: "moved".into(), payload }
}

/// A message whose payload has this many bytes.
fn heavy(sequence: u64, bytes: usize) -> Message {
    let payload = Payload { bytes: vec![b'x'; bytes].into(), form: Form::Binary };
    Message { payload, ..message(1, sequence, sequence) }
}

fn batch(key: &ChannelKey, messages: impl IntoIterator<Item = Message>) -> Batch {
    Batch { key: key.clone(), messages: messages.into_iter().map(Arc::new).collect() }
}
