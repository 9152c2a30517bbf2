//! Many callers, few transactions.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use appsockets_core::{channel::ChannelKey, message::Message};
use appsockets_node::store::StoreError;
use futures_util::FutureExt;
use tokio::{
    task::{JoinSet, yield_now},
    time::timeout,
};

use crate::{Sqlite, batch, heavy, message, suite};

const CALLERS: u64 = 64;

const DEADLINE: Duration = Duration::from_secs(60);

fn key(caller: u64) -> ChannelKey {
    ChannelKey::new("hub", format!("channel {caller}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_at_the_same_time_get_what_they_stored() {
    let sqlite = Sqlite::open().await;
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let store = sqlite.store.clone();
        callers.spawn(async move {
            for n in 0..20 {
                let messages = (1..=1 + n % 3).map(|part| message(caller, n * 3 + part, n + 1));
                store.append(batch(&key(caller), messages)).await.unwrap();
            }
        });
    }
    callers.join_all().await;
    for caller in 0..CALLERS {
        let expected = (0..20).flat_map(|n| (1..=1 + n % 3).map(move |part| message(caller, n * 3 + part, n + 1)));
        assert_eq!(suite::all(&sqlite, &key(caller)).await, expected.collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn callers_that_wait_share_a_transaction() {
    let sqlite = Sqlite::open().await;
    let commits = count_commits(&sqlite).await;
    let outcomes = append_at_once(&sqlite, |caller| vec![message(1, caller + 1, 10)]).await;
    assert!(outcomes.iter().all(Result::is_ok));
    // The writer may have taken the first ones before the others came.
    assert!((1..=2).contains(&commits.load(SeqCst)), "{commits:?}");
}

#[tokio::test]
async fn a_batch_that_cannot_be_stored_fails_no_other() {
    let sqlite = Sqlite::open().await;
    sqlite
        .execute(
            "CREATE TRIGGER poison BEFORE INSERT ON messages WHEN new.sequence = 666 \
             BEGIN SELECT RAISE(ABORT, 'poison'); END",
        )
        .await;
    let outcomes = append_at_once(&sqlite, |caller| match caller {
        20 => vec![message(1, 1, 10), message(1, 666, 10)],
        40 => vec![message(1, 1, 10), message(1, u64::MAX, 10)],
        _ => vec![message(1, 1, 10)],
    })
    .await;
    for (caller, outcome) in (0..).zip(outcomes) {
        let stored = suite::all(&sqlite, &key(caller)).await;
        match caller {
            20 => assert!(matches!(outcome, Err(StoreError::Failed(_))) && stored.is_empty()),
            40 => assert!(matches!(outcome, Err(StoreError::OutOfRange)) && stored.is_empty()),
            _ => assert!(outcome.is_ok() && stored == [message(1, 1, 10)], "{caller}: {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_batch_larger_than_all_room_passes() {
    let sqlite = Sqlite::open().await;
    let outcomes = append_at_once(&sqlite, |caller| match caller {
        3 | 9 => (1..=20).map(|n| heavy(n, 1 << 20)).collect(),
        _ => vec![heavy(1, 1 << 19)],
    })
    .await;
    assert!(outcomes.iter().all(Result::is_ok));
    assert_eq!(suite::all(&sqlite, &key(9)).await.len(), 20);
}

#[tokio::test]
async fn closing_stores_what_waits() {
    let sqlite = Sqlite::open().await;
    let held = sqlite.database.writer().acquire().await.unwrap();
    let store = sqlite.store.clone();
    let mut append = Box::pin(store.append(batch(&key(1), [message(1, 1, 10)])));
    assert!((&mut append).now_or_never().is_none());
    let mut close = Box::pin(store.close());
    assert!((&mut close).now_or_never().is_none());
    drop(held);
    close.await;
    assert_eq!(suite::all(&sqlite, &key(1)).await, [message(1, 1, 10)]);
    append.await.unwrap();
}

/// One append for each caller, each to its own channel, all made while the writer is held up.
async fn append_at_once(sqlite: &Sqlite, messages: impl Fn(u64) -> Vec<Message>) -> Vec<Result<(), StoreError>> {
    let held = sqlite.database.writer().acquire().await.unwrap();
    let begun = Arc::new(AtomicU64::new(0));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (store, begun, batch) = (sqlite.store.clone(), begun.clone(), batch(&key(caller), messages(caller)));
        callers.spawn(async move {
            begun.fetch_add(1, SeqCst);
            (caller, store.append(batch).await)
        });
    }
    while begun.load(SeqCst) < CALLERS {
        yield_now().await;
    }
    drop(held);
    let mut outcomes = timeout(DEADLINE, callers.join_all()).await.unwrap();
    outcomes.sort_by_key(|(caller, _)| *caller);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

async fn count_commits(sqlite: &Sqlite) -> Arc<AtomicU64> {
    let commits = Arc::new(AtomicU64::new(0));
    let counted = commits.clone();
    let mut connection = sqlite.database.writer().acquire().await.unwrap();
    connection.lock_handle().await.unwrap().set_commit_hook(move || {
        counted.fetch_add(1, SeqCst);
        true
    });
    commits
}
