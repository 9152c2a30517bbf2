//! A database that fails, and then works again.

use appsockets_core::{channel::ChannelKey, session::request::HistoryBound};
use appsockets_node::store::{self, StoreError};

use crate::{Sqlite, batch, heavy, message, suite};

fn key() -> ChannelKey {
    ChannelKey::new("hub", "channel")
}

#[tokio::test]
async fn a_full_disk_is_an_error_until_there_is_room() {
    let sqlite = Sqlite::open().await;
    sqlite.execute("PRAGMA max_page_count = 200").await;
    let mut stored = Vec::new();
    let refused = loop {
        let message = heavy(stored.len() as u64 + 1, 60_000);
        match sqlite.store.append(batch(&key(), [message.clone()])).await {
            Ok(()) => stored.push(message),
            Err(error) => break error,
        }
        assert!(stored.len() < 100, "the limit has no effect");
    };
    assert!(refused.to_string().contains("full"), "{refused}");
    assert!(!stored.is_empty());
    // The limit ended with the connection that had met it.
    let next = heavy(stored.len() as u64 + 1, 60_000);
    sqlite.store.append(batch(&key(), [next.clone()])).await.unwrap();
    stored.push(next);
    assert_eq!(suite::all(&sqlite, &key()).await, stored);
}

#[tokio::test]
async fn a_missing_table_is_an_error_until_it_is_back() {
    let sqlite = Sqlite::open().await;
    sqlite.execute("ALTER TABLE messages RENAME TO lost").await;
    let append = || sqlite.store.append(batch(&key(), [message(1, 1, 10)]));
    assert!(matches!(append().await, Err(StoreError::Failed(_))));
    assert!(matches!(sqlite.store.page(&key(), HistoryBound::Newest, 1).await, Err(StoreError::Failed(_))));
    assert!(matches!(sqlite.store.purge(100, 1).await, Err(StoreError::Failed(_))));
    sqlite.execute("ALTER TABLE lost RENAME TO messages").await;
    append().await.unwrap();
    assert_eq!(suite::all(&sqlite, &key()).await, [message(1, 1, 10)]);
}

#[tokio::test]
async fn the_number_of_a_failed_commit_can_be_given_again() {
    let sqlite = Sqlite::open().await;
    fail_commits(&sqlite).await;
    assert!(matches!(sqlite.store.append(batch(&key(), [message(1, 1, 10)])).await, Err(StoreError::Failed(_))));
    assert_eq!(suite::all(&sqlite, &key()).await, []);
    sqlite.store.append(batch(&key(), [message(1, 1, 20)])).await.unwrap();
    assert_eq!(suite::all(&sqlite, &key()).await, [message(1, 1, 20)]);
}

#[tokio::test]
async fn a_folder_that_cannot_be_made_is_told_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "in the way").unwrap();
    let error = store::open(&file).await.unwrap_err().to_string();
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
}

#[tokio::test]
async fn commits_are_synchronous() {
    let sqlite = Sqlite::open().await;
    let setting =
        async |pragma| sqlx::query_scalar::<_, String>(pragma).fetch_one(sqlite.database.writer()).await.unwrap();
    assert_eq!(setting("SELECT journal_mode FROM pragma_journal_mode").await, "wal");
    assert_eq!(setting("SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous").await, "2");
}

/// Until the connection is replaced.
async fn fail_commits(sqlite: &Sqlite) {
    let mut connection = sqlite.database.writer().acquire().await.unwrap();
    connection.lock_handle().await.unwrap().set_commit_hook(|| false);
}
