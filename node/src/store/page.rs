//! Reading stored messages in pages.

use appsockets_core::{
    channel::ChannelKey,
    message::{Form, Message, Payload},
    serial::Serial,
    session::{event::HistoryPage, request::HistoryBound},
};
use bytes::Bytes;
use futures_util::TryStreamExt;
use sqlx::{Row, SqlitePool, sqlite::SqliteRow};

use super::{StoreError, clamp};

/// The greatest limit of a page, in messages.
pub const PAGE_ROWS_MAX: u32 = 1000;

/// A page takes no further message once its messages weigh this many bytes.
pub const PAGE_BYTES_MAX: usize = 1 << 20;

/// A place between two messages, in their order of time and row.
#[derive(Clone, Copy)]
struct Place {
    ts_ms: i64,
    id: i64,
}

/// See [`super::MessageStore::page`].
pub(super) async fn read(
    readers: &SqlitePool,
    key: &ChannelKey,
    bound: HistoryBound,
    limit: u32,
) -> Result<HistoryPage, StoreError> {
    let place = place(readers, key, bound).await?;
    let mut page = Page::new(bound, limit.clamp(1, PAGE_ROWS_MAX));
    let mut rows = sqlx::query(select(bound))
        .bind(key.hub.clone())
        .bind(key.channel.clone())
        .bind(place.ts_ms)
        .bind(place.id)
        .bind(page.rows_max() + 1)
        .fetch(readers);
    while let Some(row) = rows.try_next().await? {
        if !page.take(message(&row)?) {
            break;
        }
    }
    Ok(HistoryPage { messages: page.messages, more: page.more })
}

fn select(bound: HistoryBound) -> &'static str {
    match bound {
        HistoryBound::AfterTimestamp(_) | HistoryBound::AfterSerial(_) => {
            "SELECT epoch, sequence, ts_ms, form, event, payload FROM messages \
             WHERE channel_id = (SELECT id FROM channels WHERE hub = ? AND channel = ?) AND (ts_ms, id) > (?, ?) \
             ORDER BY ts_ms, id LIMIT ?"
        }
        _ => {
            "SELECT epoch, sequence, ts_ms, form, event, payload FROM messages \
             WHERE channel_id = (SELECT id FROM channels WHERE hub = ? AND channel = ?) AND (ts_ms, id) < (?, ?) \
             ORDER BY ts_ms DESC, id DESC LIMIT ?"
        }
    }
}

/// Where the page begins. No row has an id of zero or of `i64::MAX`.
async fn place(readers: &SqlitePool, key: &ChannelKey, bound: HistoryBound) -> Result<Place, StoreError> {
    match bound {
        HistoryBound::Newest => Ok(Place { ts_ms: i64::MAX, id: i64::MAX }),
        HistoryBound::BeforeTimestamp(ts_ms) => Ok(Place { ts_ms: clamp(ts_ms), id: 0 }),
        HistoryBound::AfterTimestamp(ts_ms) => Ok(Place { ts_ms: clamp(ts_ms), id: i64::MAX }),
        HistoryBound::BeforeSerial(serial) => before(readers, key, serial).await,
        HistoryBound::AfterSerial(serial) => after(readers, key, serial).await,
        HistoryBound::Bad => Err(StoreError::BadBound),
    }
}

async fn before(readers: &SqlitePool, key: &ChannelKey, serial: Serial) -> Result<Place, StoreError> {
    if let Some(place) = nearest(readers, key, serial, FIRST_FROM).await? {
        return Ok(place);
    }
    let last = nearest(readers, key, serial, LAST_UP_TO).await?.ok_or(StoreError::UnknownEpoch)?;
    Ok(Place { id: last.id + 1, ..last })
}

async fn after(readers: &SqlitePool, key: &ChannelKey, serial: Serial) -> Result<Place, StoreError> {
    if let Some(place) = nearest(readers, key, serial, LAST_UP_TO).await? {
        return Ok(place);
    }
    let first = nearest(readers, key, serial, FIRST_FROM).await?.ok_or(StoreError::UnknownEpoch)?;
    Ok(Place { id: first.id - 1, ..first })
}

const FIRST_FROM: &str = "SELECT ts_ms, id FROM messages \
    WHERE channel_id = (SELECT id FROM channels WHERE hub = ? AND channel = ?) AND epoch = ? AND sequence >= ? \
    ORDER BY sequence LIMIT 1";

const LAST_UP_TO: &str = "SELECT ts_ms, id FROM messages \
    WHERE channel_id = (SELECT id FROM channels WHERE hub = ? AND channel = ?) AND epoch = ? AND sequence <= ? \
    ORDER BY sequence DESC LIMIT 1";

/// The row of the serial itself, else its neighbour within the epoch on the side that the statement looks at.
async fn nearest(
    readers: &SqlitePool,
    key: &ChannelKey,
    serial: Serial,
    statement: &'static str,
) -> sqlx::Result<Option<Place>> {
    let found: Option<(i64, i64)> = sqlx::query_as(statement)
        .bind(key.hub.clone())
        .bind(key.channel.clone())
        .bind(serial.epoch.to_string())
        .bind(clamp(serial.sequence))
        .fetch_optional(readers)
        .await?;
    Ok(found.map(|(ts_ms, id)| Place { ts_ms, id }))
}

/// A page being filled.
struct Page {
    limit: usize,
    /// Whether the next page may be asked for by timestamp, so that this one must not split a millisecond.
    whole_ms: bool,
    bytes: usize,
    messages: Vec<Message>,
    more: bool,
}

impl Page {
    fn new(bound: HistoryBound, limit: u32) -> Self {
        let whole_ms = !matches!(bound, HistoryBound::BeforeSerial(_) | HistoryBound::AfterSerial(_));
        Page { limit: limit as usize, whole_ms, bytes: 0, messages: Vec::new(), more: false }
    }

    fn rows_max(&self) -> u32 {
        if self.whole_ms { PAGE_ROWS_MAX } else { self.limit as u32 }
    }

    /// Takes the next message, or ends the page before it and returns false.
    fn take(&mut self, message: Message) -> bool {
        if self.has(self.limit, PAGE_BYTES_MAX) && !self.must_go_on(message.ts_ms) {
            self.end_before(message.ts_ms);
            return false;
        }
        self.bytes += message.weight();
        self.messages.push(message);
        true
    }

    fn has(&self, rows: usize, bytes: usize) -> bool {
        self.messages.len() >= rows || self.bytes >= bytes
    }

    fn must_go_on(&self, ts_ms: u64) -> bool {
        self.whole_ms && self.is_all_of(ts_ms) && !self.has(PAGE_ROWS_MAX as usize, 4 * PAGE_BYTES_MAX)
    }

    fn is_all_of(&self, ts_ms: u64) -> bool {
        self.messages.first().is_none_or(|first| first.ts_ms == ts_ms)
    }

    fn end_before(&mut self, ts_ms: u64) {
        self.more = true;
        if self.whole_ms && !self.is_all_of(ts_ms) {
            let whole = self.messages.partition_point(|message| message.ts_ms != ts_ms);
            self.messages.truncate(whole);
        }
    }
}

fn message(row: &SqliteRow) -> sqlx::Result<Message> {
    let epoch = row.try_get::<&str, _>(0)?.parse().map_err(|_| decode("epoch"))?;
    let sequence = u64::try_from(row.try_get::<i64, _>(1)?).map_err(|_| decode("sequence"))?;
    let ts_ms = u64::try_from(row.try_get::<i64, _>(2)?).map_err(|_| decode("time"))?;
    let form = form_of(row.try_get(3)?).ok_or_else(|| decode("form"))?;
    let event = row.try_get::<&str, _>(4)?.into();
    let bytes = Bytes::from(row.try_get::<Vec<u8>, _>(5)?);
    Ok(Message { serial: Serial { epoch, sequence }, ts_ms, event, payload: Payload { bytes, form } })
}

fn decode(what: &str) -> sqlx::Error {
    sqlx::Error::Decode(format!("a stored message has no readable {what}").into())
}

/// The reverse of what the writer puts into the column `form`.
fn form_of(number: i64) -> Option<Form> {
    match number {
        0 => Some(Form::Json),
        1 => Some(Form::Text),
        2 => Some(Form::Binary),
        3 => Some(Form::Detect),
        _ => None,
    }
}
