//! What every store of messages must do, whatever holds them.

use appsockets_core::{
    channel::ChannelKey,
    message::{Form, Message, Payload},
    session::{
        event::HistoryPage,
        request::HistoryBound::{self, AfterSerial, AfterTimestamp, Bad, BeforeSerial, BeforeTimestamp, Newest},
    },
};
use appsockets_node::store::{Batch, PAGE_BYTES_MAX, PAGE_ROWS_MAX, StoreError};

use crate::{Sqlite, batch, heavy, message, model, serial};

/// A store under test.
pub trait Store {
    async fn append(&self, batch: Batch) -> Result<(), StoreError>;
    async fn page(&self, key: &ChannelKey, bound: HistoryBound, limit: u32) -> Result<HistoryPage, StoreError>;
    async fn purge(&self, before_unix_ms: u64, max_rows: u32) -> Result<u64, StoreError>;
    async fn close(&self);
}

impl Store for Sqlite {
    async fn append(&self, batch: Batch) -> Result<(), StoreError> {
        self.store.append(batch).await
    }

    async fn page(&self, key: &ChannelKey, bound: HistoryBound, limit: u32) -> Result<HistoryPage, StoreError> {
        self.store.page(key, bound, limit).await
    }

    async fn purge(&self, before_unix_ms: u64, max_rows: u32) -> Result<u64, StoreError> {
        self.store.purge(before_unix_ms, max_rows).await
    }

    async fn close(&self) {
        self.store.close().await;
    }
}

/// The whole suite; `open` gives an empty store each time.
pub async fn run<S: Store>(open: impl AsyncFn() -> S) {
    what_is_read_is_what_was_stored(&open().await).await;
    channels_are_apart(&open().await).await;
    an_absent_serial_stands_between_its_neighbours(&open().await).await;
    an_unknown_epoch_is_refused(&open().await).await;
    a_repeated_serial_replaces(&open().await).await;
    a_page_is_bounded_in_bytes(&open().await).await;
    a_page_by_time_holds_whole_milliseconds(&open().await).await;
    a_millisecond_beyond_the_greatest_page_goes_on_by_serial(&open().await).await;
    limits_are_brought_into_range(&open().await).await;
    numbers_that_do_not_fit_are_refused(&open().await).await;
    purging_goes_from_the_oldest_in_steps(&open().await).await;
    a_closed_store_refuses(&open().await).await;
    model::pages_are_those_of_the_model(&open().await).await;
}

/// All messages of a channel, old to new, read in many pages.
pub async fn all<S: Store>(store: &S, key: &ChannelKey) -> Vec<Message> {
    let mut page = store.page(key, AfterTimestamp(0), 100).await.unwrap();
    let mut messages = page.messages;
    while page.more {
        page = store.page(key, AfterSerial(messages.last().unwrap().serial), 100).await.unwrap();
        messages.append(&mut page.messages);
    }
    messages
}

fn key() -> ChannelKey {
    ChannelKey::new("hub", "channel")
}

async fn what_is_read_is_what_was_stored<S: Store>(store: &S) {
    let forms = [Form::Json, Form::Text, Form::Binary, Form::Detect];
    let mut messages: Vec<_> =
        (1..).zip(forms).map(|(n, form)| with_form(message(1, n, 1_795_000_000_000), form)).collect();
    messages[1].payload.bytes = b"".as_slice().into();
    messages[2].payload.bytes = vec![0, 255, 0, b'\''].into();
    messages[2].event = "\0 é '".into();
    messages[3].event = "".into();
    store.append(batch(&key(), messages.clone())).await.unwrap();
    assert_eq!(all(store, &key()).await, messages);
}

fn with_form(message: Message, form: Form) -> Message {
    Message { payload: Payload { form, ..message.payload.clone() }, ..message }
}

async fn channels_are_apart<S: Store>(store: &S) {
    let keys =
        [("a", "b"), ("b", "a"), ("a", "c"), ("A", "b"), ("ab", "")].map(|(hub, name)| ChannelKey::new(hub, name));
    for (n, key) in (1..).zip(&keys) {
        store.append(batch(key, [message(n, 1, n)])).await.unwrap();
    }
    for (n, key) in (1..).zip(&keys) {
        assert_eq!(all(store, key).await, [message(n, 1, n)]);
    }
    let nothing = store.page(&key(), Newest, 10).await.unwrap();
    assert_eq!(nothing, HistoryPage { messages: vec![], more: false });
}

async fn an_absent_serial_stands_between_its_neighbours<S: Store>(store: &S) {
    let stored = [message(1, 4, 10), message(2, 3, 20), message(2, 6, 20), message(3, 2, 30)];
    for message in &stored {
        store.append(batch(&key(), [message.clone()])).await.unwrap();
    }
    let [first, three, six, last] = stored.map(|message| message.serial);
    let cases = [
        (AfterSerial(serial(2, 0)), vec![three, six, last]),
        (AfterSerial(serial(2, 3)), vec![six, last]),
        (AfterSerial(serial(2, 5)), vec![six, last]),
        (AfterSerial(serial(2, u64::MAX)), vec![last]),
        (BeforeSerial(serial(2, u64::MAX)), vec![six, three, first]),
        (BeforeSerial(serial(2, 6)), vec![three, first]),
        (BeforeSerial(serial(2, 4)), vec![three, first]),
        (BeforeSerial(serial(2, 0)), vec![first]),
        (BeforeSerial(serial(1, 1)), vec![]),
        (AfterSerial(serial(3, 2)), vec![]),
    ];
    for (bound, expected) in cases {
        let page = store.page(&key(), bound, 10).await.unwrap();
        let serials: Vec<_> = page.messages.iter().map(|message| message.serial).collect();
        assert_eq!((serials, page.more), (expected, false), "{bound:?}");
    }
}

async fn an_unknown_epoch_is_refused<S: Store>(store: &S) {
    store.append(batch(&key(), [message(1, 1, 10)])).await.unwrap();
    store.append(batch(&ChannelKey::new("hub", "other"), [message(2, 1, 10)])).await.unwrap();
    for bound in [BeforeSerial(serial(2, 1)), AfterSerial(serial(2, 1))] {
        assert!(matches!(store.page(&key(), bound, 10).await, Err(StoreError::UnknownEpoch)), "{bound:?}");
    }
    assert!(matches!(store.page(&key(), Bad, 10).await, Err(StoreError::BadBound)));
}

async fn a_repeated_serial_replaces<S: Store>(store: &S) {
    store.append(batch(&key(), [message(1, 1, 10), message(1, 2, 10)])).await.unwrap();
    store.append(batch(&key(), [message(1, 2, 15), message(1, 3, 15), message(1, 3, 16)])).await.unwrap();
    assert_eq!(all(store, &key()).await, [message(1, 1, 10), message(1, 2, 15), message(1, 3, 16)]);
}

async fn a_page_is_bounded_in_bytes<S: Store>(store: &S) {
    let messages: Vec<_> = (1..=5).map(|n| heavy(n, PAGE_BYTES_MAX / 2)).collect();
    store.append(batch(&key(), messages.clone())).await.unwrap();
    for bound in [AfterTimestamp(0), AfterSerial(serial(1, 0))] {
        let page = store.page(&key(), bound, 100).await.unwrap();
        assert_eq!(page, HistoryPage { messages: messages[..2].to_vec(), more: true }, "{bound:?}");
    }
    let rest = store.page(&key(), AfterTimestamp(3), 100).await.unwrap();
    assert_eq!(rest, HistoryPage { messages: messages[3..].to_vec(), more: false });
}

async fn a_page_by_time_holds_whole_milliseconds<S: Store>(store: &S) {
    let times = [10, 20, 20, 20, 30];
    let messages: Vec<_> = (1..).zip(times).map(|(n, ts_ms)| message(1, n, ts_ms)).collect();
    store.append(batch(&key(), messages)).await.unwrap();
    let cases = [
        (AfterTimestamp(0), 3, vec![1], true),
        (AfterTimestamp(10), 2, vec![2, 3, 4], true),
        (AfterTimestamp(10), 3, vec![2, 3, 4], true),
        (AfterTimestamp(20), 1, vec![5], false),
        (AfterTimestamp(u64::MAX), 1, vec![], false),
        (Newest, 2, vec![5], true),
        (BeforeTimestamp(30), 1, vec![4, 3, 2], true),
        (BeforeTimestamp(10), 1, vec![], false),
        (BeforeTimestamp(u64::MAX), 5, vec![5, 4, 3, 2, 1], false),
        (BeforeSerial(serial(1, 4)), 1, vec![3], true),
        (AfterSerial(serial(1, 1)), 2, vec![2, 3], true),
    ];
    for (bound, limit, expected, more) in cases {
        let page = store.page(&key(), bound, limit).await.unwrap();
        let sequences: Vec<_> = page.messages.iter().map(|message| message.serial.sequence).collect();
        assert_eq!((sequences, page.more), (expected, more), "{bound:?}, {limit}");
    }
}

async fn a_millisecond_beyond_the_greatest_page_goes_on_by_serial<S: Store>(store: &S) {
    let max = u64::from(PAGE_ROWS_MAX);
    let messages: Vec<_> = (1..=max + 2).map(|n| message(1, n, 10)).collect();
    store.append(batch(&key(), messages.clone())).await.unwrap();
    let page = store.page(&key(), AfterTimestamp(0), 7).await.unwrap();
    assert_eq!(page, HistoryPage { messages: messages[..max as usize].to_vec(), more: true });
    assert_eq!(all(store, &key()).await, messages);
}

async fn limits_are_brought_into_range<S: Store>(store: &S) {
    let messages: Vec<_> = (1..=u64::from(PAGE_ROWS_MAX) + 1).map(|n| message(1, n, n)).collect();
    store.append(batch(&key(), messages)).await.unwrap();
    for bound in [Newest, AfterSerial(serial(1, 0))] {
        for (limit, expected) in [(0, 1), (u32::MAX, PAGE_ROWS_MAX as usize)] {
            let page = store.page(&key(), bound, limit).await.unwrap();
            assert_eq!((page.messages.len(), page.more), (expected, true), "{bound:?}, {limit}");
        }
    }
}

async fn numbers_that_do_not_fit_are_refused<S: Store>(store: &S) {
    for odd in [message(1, u64::MAX, 10), message(1, 2, u64::MAX)] {
        let outcome = store.append(batch(&key(), [message(1, 1, 10), odd])).await;
        assert!(matches!(outcome, Err(StoreError::OutOfRange)));
    }
    assert_eq!(all(store, &key()).await, []);
}

async fn purging_goes_from_the_oldest_in_steps<S: Store>(store: &S) {
    let other = ChannelKey::new("hub", "other");
    store.append(batch(&key(), [message(1, 1, 10), message(1, 2, 20), message(1, 3, 30)])).await.unwrap();
    store.append(batch(&other, [message(2, 1, 15)])).await.unwrap();
    assert_eq!(store.purge(30, 2).await.unwrap(), 2);
    assert_eq!(all(store, &key()).await, [message(1, 2, 20), message(1, 3, 30)]);
    assert_eq!(all(store, &other).await, []);
    assert_eq!(store.purge(30, 2).await.unwrap(), 1);
    assert_eq!(store.purge(30, 2).await.unwrap(), 0);
    store.append(batch(&other, [message(2, 2, 40)])).await.unwrap();
    assert_eq!(all(store, &other).await, [message(2, 2, 40)]);
    assert_eq!(all(store, &key()).await, [message(1, 3, 30)]);
}

async fn a_closed_store_refuses<S: Store>(store: &S) {
    store.append(batch(&key(), [message(1, 1, 10)])).await.unwrap();
    store.close().await;
    store.close().await;
    assert!(matches!(store.append(batch(&key(), [message(1, 2, 20)])).await, Err(StoreError::Closed)));
    assert_eq!(all(store, &key()).await, [message(1, 1, 10)]);
}
