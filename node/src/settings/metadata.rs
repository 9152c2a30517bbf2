//! What administrators keep for channels: one JSON object each, stored as it was written.
//!
//! Metadata is no setting: it belongs to a hub whatever that one's source is, takes no part in what is in force, and is
//! never read as a whole. Nodes tell each other of it by pages, as they do of settings, and the later write wins.

use appsockets_core::channel::HubId;
use serde_json::{Map, Value, value::RawValue};
use sqlx::{Row, SqliteConnection};
use tracing::error;
use xxhash_rust::xxh3::Xxh3;

use super::{
    Refusal, Settings,
    exchange::{Content, Item, Page, Stamp},
    replica,
    sources::Sources,
    sqlite::{Change, Table, commit, forget_removals, is_there, oldest_removal, remove_hub_at, revision, see},
};

/// What pages call it.
pub const KIND: &str = "ChannelMetadata";

/// The longest value, in bytes of JSON.
pub const VALUE_BYTES_MAX: usize = 16 << 10;

/// What a channel has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Metadata {
    /// A JSON object, as it was written.
    pub value: String,
    /// Unix milliseconds, or more if the node had seen a greater time.
    pub written_ms: i64,
}

/// How much may be kept, in channels.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub of_hub: usize,
    pub in_all: usize,
}

/// By whom a node hears what the operator or the file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    Own,
    /// By another node, which may lack a hub only because it can't use it.
    Passed,
}

/// A value that was written, or that it was removed.
struct Written<'a> {
    hub: &'a str,
    channel: &'a str,
    stamp: Stamp,
    value: Option<&'a str>,
}

const METADATA_AFTER: &str = "
    SELECT hub, 'ChannelMetadata' AS kind, channel AS name, stamp, node, changed,
           CASE WHEN value IS NULL THEN NULL ELSE 'api' END AS source, '' AS uid, 0 AS generation, value AS resource
    FROM channel_metadata WHERE changed > ?1
    ORDER BY changed";

/// The value without what stands around it.
///
/// # Errors
/// It is longer than [`VALUE_BYTES_MAX`], or no JSON object.
pub fn check_value(text: &[u8]) -> Result<&str, Refusal> {
    let invalid = |error: serde_json::Error| Refusal::MetadataInvalid(error.to_string());
    let value: &RawValue = serde_json::from_slice(text).map_err(invalid)?;
    if value.get().len() > VALUE_BYTES_MAX {
        return Err(Refusal::MetadataTooLarge(VALUE_BYTES_MAX));
    }
    // Whoever reads it must be able to: so it nests no deeper, and has no greater numbers, than usual parsers take.
    serde_json::from_str::<Map<String, Value>>(value.get()).map_err(invalid)?;
    Ok(value.get())
}

impl Settings {
    /// The metadata of a channel.
    ///
    /// # Errors
    /// There is no such hub, the channel has none, or the database failed.
    pub async fn metadata(&self, hub: &str, channel: &str) -> Result<Metadata, Refusal> {
        self.known(hub)?;
        let none = || Refusal::NoMetadata { hub: hub.into(), channel: channel.to_owned() };
        self.table.metadata(hub, channel).await?.ok_or_else(none)
    }

    /// Writes the metadata of a channel. One that says the same already is left alone.
    ///
    /// # Errors
    /// There is no such hub, the value is too long or no JSON object, too many channels have metadata, or the database
    /// failed.
    pub async fn put_metadata(&self, hub: &str, channel: &str, value: &[u8]) -> Result<Metadata, Refusal> {
        // Meanwhile no hub goes.
        let _sources = self.sources.lock().await;
        self.known(hub)?;
        let metadata = self.table.put_metadata(hub, channel, check_value(value)?, self.options.metadata).await?;
        self.tell_metadata().await?;
        Ok(metadata)
    }

    /// Removes the metadata of a channel.
    ///
    /// # Errors
    /// There is no such hub, the channel has none, or the database failed.
    pub async fn remove_metadata(&self, hub: &str, channel: &str) -> Result<(), Refusal> {
        let _sources = self.sources.lock().await;
        self.known(hub)?;
        self.table.remove_metadata(hub, channel).await?;
        Ok(self.tell_metadata().await?)
    }

    fn known(&self, hub: &str) -> Result<(), Refusal> {
        self.hub(hub).map(drop).ok_or_else(|| Refusal::HubNotFound(hub.into()))
    }

    /// What has changed in the metadata since it had this revision, which counts by itself; others merge it.
    ///
    /// # Errors
    /// The database failed.
    pub async fn metadata_page(&self, after: i64) -> sqlx::Result<Page> {
        replica::page(&mut *self.table.pool.acquire().await?, after, METADATA_AFTER).await
    }

    /// Takes what another database says of metadata, where that is later than what is here. Returns the first revision
    /// of that database at which something can't be used, and from which to read again.
    ///
    /// # Errors
    /// The database failed; nothing was taken.
    pub async fn merge_metadata(&self, items: &[Item]) -> sqlx::Result<Option<i64>> {
        let (mut usable, mut refused) = (Vec::new(), Vec::new());
        for item in items {
            match item.check_metadata() {
                Ok(()) => usable.push(item),
                Err(reason) => refused.push(reason),
            }
        }
        let again = refused.iter().map(|refused| refused.changed).min();
        let mut sources = self.sources.lock().await;
        self.report_refused(&mut sources, refused);
        self.table.merge_metadata(&usable).await?;
        self.tell_metadata().await?;
        Ok(again)
    }

    /// Tells whoever listens that the metadata has another digest, if it has.
    pub(super) async fn tell_metadata(&self) -> sqlx::Result<()> {
        let query = sqlx::query_scalar("SELECT digest FROM channel_metadata_state");
        let now: i64 = query.fetch_one(&self.table.pool).await?;
        self.metadata.send_if_modified(|digest| std::mem::replace(digest, now.cast_unsigned()) != now.cast_unsigned());
        Ok(())
    }

    /// Puts together what all sources say, of which the operator or the file says something new, and removes the metadata
    /// of hubs that are gone by that.
    pub(super) async fn merge_managed(&self, sources: &mut Sources, word: Word) {
        let before = std::mem::take(&mut sources.snapshot);
        sources.merge();
        let is_certain = |hub: &&HubId| word == Word::Own || sources.snapshot.source_of_hub(hub).is_some();
        let gone: Vec<_> = sources.snapshot.hubs_gone(&before).filter(is_certain).cloned().collect();
        for hub in gone {
            self.leave_hub(sources, &hub).await;
        }
    }

    /// Removes the metadata that was written here of hubs that left the file while this node did not run.
    pub(super) async fn leave_absent_hubs(&self, sources: &mut Sources) {
        // What an operator said last is kept, so what it says next is compared with that.
        if self.has_operator() {
            return;
        }
        match self.table.hubs_with_metadata_of_this_node().await {
            Ok(hubs) => {
                for hub in hubs.into_iter().filter(|hub| self.hub(hub).is_none()) {
                    self.leave_hub(sources, &hub).await;
                }
            }
            Err(error) => error!(%error, "Metadata of channels of hubs that are gone was not looked for."),
        }
    }

    async fn leave_hub(&self, sources: &mut Sources, hub: &str) {
        // What is in force matters more: that waits for nothing.
        let left = match self.table.leave_hub(hub).await {
            Ok(change) => {
                sources.follow(change);
                self.tell_metadata().await
            }
            Err(error) => Err(error),
        };
        if let Err(error) = left {
            error!(%hub, %error, "The hub is gone, but metadata of its channels may still be in the database.");
        }
    }
}

impl Table {
    async fn metadata(&self, hub: &str, channel: &str) -> sqlx::Result<Option<Metadata>> {
        find(&mut *self.pool.acquire().await?, hub, channel).await
    }

    async fn put_metadata(&self, hub: &str, channel: &str, value: &str, limits: Limits) -> Result<Metadata, Refusal> {
        let mut transaction = self.begin().await?;
        match find(&mut transaction, hub, channel).await? {
            Some(held) if held.value == value => return Ok(held),
            Some(_) => {}
            None => check_room(&mut transaction, hub, limits).await?,
        }
        let stamp = self.stamp(&mut transaction).await?;
        write(&mut transaction, &Written { hub, channel, stamp, value: Some(value) }).await?;
        transaction.commit().await?;
        Ok(Metadata { value: value.to_owned(), written_ms: stamp.ms })
    }

    async fn remove_metadata(&self, hub: &str, channel: &str) -> Result<(), Refusal> {
        let mut transaction = self.begin().await?;
        if find(&mut transaction, hub, channel).await?.is_none() {
            return Err(Refusal::NoMetadata { hub: hub.into(), channel: channel.to_owned() });
        }
        let stamp = self.stamp(&mut transaction).await?;
        write(&mut transaction, &Written { hub, channel, stamp, value: None }).await?;
        forget_old(&mut transaction).await?;
        Ok(transaction.commit().await?)
    }

    async fn merge_metadata(&self, items: &[&Item]) -> sqlx::Result<()> {
        let mut transaction = self.begin().await?;
        let oldest = oldest_removal();
        for item in items.iter().filter(|item| item.content.is_some() || item.stamp.ms >= oldest) {
            let Item { hub, name: channel, stamp, content, .. } = item;
            let value = content.as_ref().map(|Content { resource, .. }| resource.as_str());
            write(&mut transaction, &Written { hub, channel, stamp: *stamp, value }).await?;
            see(&mut transaction, stamp.ms).await?;
        }
        forget_old(&mut transaction).await?;
        transaction.commit().await
    }

    async fn hubs_with_metadata_of_this_node(&self) -> sqlx::Result<Vec<String>> {
        let query = "SELECT DISTINCT hub FROM channel_metadata WHERE node = ? AND digest <> 0";
        sqlx::query_scalar(query).bind(self.node).fetch_all(&self.pool).await
    }

    /// Removes all metadata of a hub that the database does not hold itself, for other nodes too. They do the same, and
    /// what one wrote later without knowing yet that the hub is gone is removed there: so the mark covers just what is
    /// here, and not what is written to a hub of the same name that others have already.
    async fn leave_hub(&self, hub: &str) -> sqlx::Result<Change<replica::Changes>> {
        let mut transaction = self.begin().await?;
        let before = revision(&mut transaction).await?;
        if !is_there(&mut transaction, hub).await?
            && let Some(stamp) = last_written(&mut transaction, hub).await?
        {
            remove_hub_at(&mut transaction, hub, stamp).await?;
        }
        commit(transaction, before, Vec::new()).await
    }
}

async fn find(connection: &mut SqliteConnection, hub: &str, channel: &str) -> sqlx::Result<Option<Metadata>> {
    let query = "SELECT value, stamp FROM channel_metadata WHERE hub = ? AND channel = ? AND value IS NOT NULL";
    let row = sqlx::query(query).bind(hub).bind(channel).fetch_optional(connection).await?;
    row.map(|row| Ok(Metadata { value: row.try_get("value")?, written_ms: row.try_get("stamp")? })).transpose()
}

async fn check_room(connection: &mut SqliteConnection, hub: &str, limits: Limits) -> Result<(), Refusal> {
    let query = sqlx::query_scalar("SELECT COUNT(*) FROM channel_metadata WHERE hub = ? AND value IS NOT NULL");
    let of_hub: i64 = query.bind(hub).fetch_one(&mut *connection).await?;
    if of_hub >= limits.of_hub as i64 {
        return Err(Refusal::TooMuchMetadataOfHub { hub: hub.into(), channels: limits.of_hub });
    }
    let in_all: i64 = sqlx::query_scalar("SELECT held FROM channel_metadata_state").fetch_one(connection).await?;
    if in_all >= limits.in_all as i64 {
        return Err(Refusal::TooMuchMetadata(limits.in_all));
    }
    Ok(())
}

/// Writes it if nothing later is known: neither of the channel, nor that the hub was removed.
async fn write(connection: &mut SqliteConnection, written: &Written<'_>) -> sqlx::Result<()> {
    let Written { hub, channel, stamp, value } = written;
    sqlx::query(
        "INSERT INTO channel_metadata (hub, channel, stamp, node, digest, value)
         SELECT ?1, ?2, ?3, ?4, ?5, ?6
         WHERE NOT EXISTS (
             SELECT 1 FROM settings_removed
             WHERE hub = ?1 AND kind = 'Hub' AND name = ?1 AND (stamp, node) >= (?3, ?4)
         )
         ON CONFLICT (hub, channel) DO UPDATE
         SET stamp = excluded.stamp, node = excluded.node, digest = excluded.digest, value = excluded.value
         WHERE (excluded.stamp, excluded.node, excluded.digest) > (stamp, node, digest)",
    )
    .bind(hub)
    .bind(channel)
    .bind(stamp.ms)
    .bind(stamp.node)
    .bind(written.digest())
    .bind(value)
    .execute(connection)
    .await?;
    Ok(())
}

impl Written<'_> {
    /// 48 bits, of which many can be added; 0 if it was removed, because removals are forgotten at times that differ.
    fn digest(&self) -> i64 {
        let Written { hub, channel, stamp, value } = self;
        let Some(value) = value else { return 0 };
        let mut hasher = Xxh3::new();
        for text in [hub, channel, value] {
            hasher.update(&(text.len() as u64).to_le_bytes());
            hasher.update(text.as_bytes());
        }
        hasher.update(&stamp.ms.to_le_bytes());
        hasher.update(&stamp.node.to_le_bytes());
        ((hasher.digest() >> 16) as i64).max(1)
    }
}

async fn last_written(connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<Option<Stamp>> {
    let query = "SELECT stamp, node FROM channel_metadata WHERE hub = ? ORDER BY stamp DESC, node DESC LIMIT 1";
    let row = sqlx::query(query).bind(hub).fetch_optional(connection).await?;
    row.as_ref().map(replica::stamp).transpose()
}

/// Whether any channel of the hub has metadata.
pub(super) async fn is_held(connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM channel_metadata WHERE hub = ? AND value IS NOT NULL)";
    sqlx::query_scalar(query).bind(hub).fetch_one(connection).await
}

/// Removes what was written of a hub up to that stamp, and what is remembered of it.
pub(super) async fn remove_of_hub(connection: &mut SqliteConnection, hub: &str, stamp: Stamp) -> sqlx::Result<()> {
    let delete = sqlx::query("DELETE FROM channel_metadata WHERE hub = ? AND (stamp, node) <= (?, ?)");
    delete.bind(hub).bind(stamp.ms).bind(stamp.node).execute(connection).await?;
    Ok(())
}

async fn forget_old(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    forget_removals(
        connection,
        "DELETE FROM channel_metadata WHERE value IS NULL AND stamp < ?",
        "DELETE FROM channel_metadata
         WHERE value IS NULL AND stamp <= (
             SELECT stamp FROM channel_metadata WHERE value IS NULL ORDER BY stamp DESC LIMIT 1 OFFSET ?
         )",
    )
    .await
}
