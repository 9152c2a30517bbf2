//! Settings in the node's SQLite database: what came through the administration interface, and the hubs that were made
//! for clients.

use std::sync::Arc;

use appsockets_core::{
    channel::HubId,
    settings::{
        entry::{Entry, ResourceId, ResourceKind, Source},
        resource::{AuthProviderSpec, HubSpec, Resource},
    },
};
use sqlx::{Row, Sqlite, SqliteConnection, SqlitePool, Transaction, sqlite::SqliteRow};

use super::{
    exchange::{REMOVALS_KEPT_MS, REMOVALS_MAX, Stamp},
    metadata, replica,
};
use crate::edge::clock;

/// The tables of `migrations/0001_settings.sql`, `migrations/0003_settings_of_nodes.sql` and
/// `migrations/0004_channel_metadata.sql`.
#[derive(Clone, Debug)]
pub struct Table {
    pub(super) pool: SqlitePool,
    /// The number of the node that writes here.
    pub(super) node: i64,
}

/// All that the table holds at one moment.
#[derive(Debug, Default)]
pub struct Listing {
    pub revision: i64,
    pub entries: Vec<Arc<Entry>>,
    /// Rows that this version of the node can't use.
    pub unreadable: Vec<Unreadable>,
}

/// A row that can't be used.
#[derive(Debug)]
pub struct Unreadable {
    pub hub: HubId,
    /// Its kind and name.
    pub row: String,
    /// A sentence for the log, without the row's content.
    pub reason: &'static str,
}

/// What a write did.
#[derive(Debug)]
pub struct Change<T> {
    /// The table's revision just before, and just after.
    pub before: i64,
    pub after: i64,
    pub done: T,
}

/// Why a write was not done.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    #[error("there is no hub {0} in the database: create it first")]
    HubNotFound(HubId),
    #[error("there is no {0} in the database")]
    NotFound(ResourceId),
    #[error("the database failed: {0}")]
    Database(#[from] sqlx::Error),
}

impl Table {
    /// Takes the pool of a database whose tables are up to date. Uses one connection at a time.
    pub fn new(pool: SqlitePool, node: u64) -> Table {
        Table { pool, node: node.cast_signed() }
    }

    /// Rises with each change, whoever makes it.
    pub async fn revision(&self) -> sqlx::Result<i64> {
        revision(&mut *self.pool.acquire().await?).await
    }

    pub async fn list(&self) -> sqlx::Result<Listing> {
        // One transaction, so that the revision is that of the rows.
        let mut transaction = self.pool.begin().await?;
        let mut listing = Listing { revision: revision(&mut transaction).await?, ..Listing::default() };
        let rows = sqlx::query("SELECT hub, kind, name, source, uid, generation, resource FROM settings")
            .fetch_all(&mut *transaction)
            .await?;
        for row in &rows {
            match decode(row)? {
                Ok(entry) => listing.entries.push(Arc::new(entry)),
                Err(unreadable) => listing.unreadable.push(unreadable),
            }
        }
        Ok(listing)
    }

    /// Writes a resource for the administration interface. One that says the same already is left alone.
    ///
    /// # Errors
    /// The hub of the resource is not in the table, or the database failed.
    pub async fn put(&self, resource: Resource) -> Result<Change<Arc<Entry>>, WriteError> {
        let id = resource.id();
        let mut transaction = self.begin().await?;
        let before = revision(&mut transaction).await?;
        if id.kind != ResourceKind::Hub && !is_there(&mut transaction, &id.hub).await? {
            return Err(WriteError::HubNotFound(id.hub));
        }
        let held = find(&mut transaction, &id).await?;
        let is_new = held.is_none();
        let json = json(&resource)?;
        if let Some(held) = held.filter(|held| held.source == Source::Api.name() && held.json == json) {
            let entry = Entry::new(Source::Api, held.uid, held.generation, resource);
            return Ok(Change { before, after: before, done: Arc::new(entry) });
        }
        if id.kind == ResourceKind::Hub && is_new {
            self.begin_hub(&mut transaction, &id.hub, true).await?;
        }
        let stamp = self.stamp(&mut transaction).await?;
        let row = sqlx::query(
            "INSERT INTO settings (hub, kind, name, source, uid, generation, resource, stamp, node)
             VALUES (?, ?, ?, 'api', ?, 1, ?, ?, ?)
             ON CONFLICT (hub, kind, name) DO UPDATE
             SET source = excluded.source, generation = generation + 1, resource = excluded.resource,
                 stamp = excluded.stamp, node = excluded.node
             RETURNING uid, generation",
        )
        .bind(&*id.hub)
        .bind(id.kind.name())
        .bind(&*id.name)
        .bind(new_uid()?)
        .bind(json)
        .bind(stamp.ms)
        .bind(stamp.node)
        .fetch_one(&mut *transaction)
        .await?;
        if id.kind != ResourceKind::Hub {
            forget_removal(&mut transaction, &id).await?;
        }
        let entry =
            Entry::new(Source::Api, row.try_get::<String, _>(0)?, row.try_get::<i64, _>(1)?.cast_unsigned(), resource);
        Ok(commit(transaction, before, Arc::new(entry)).await?)
    }

    /// Makes a hub for a client that named it, with the auth provider that it is to have. Gives what was written: nothing
    /// if there is a hub of this name, made by somebody else.
    ///
    /// It gets the least stamp that counts, so that it gives way to what an administrator said at the same time elsewhere.
    ///
    /// # Errors
    /// The database failed.
    pub async fn create_dynamic(
        &self,
        hub: &str,
        spec: &HubSpec,
        auth: Option<AuthProviderSpec>,
    ) -> Result<Change<Vec<Arc<Entry>>>, WriteError> {
        let resource = Resource::Hub { name: hub.to_string(), spec: spec.clone() };
        let auth = auth.map(|spec| Resource::AuthProvider { hub: hub.to_owned(), spec });
        let mut transaction = self.begin().await?;
        let before = revision(&mut transaction).await?;
        if find(&mut transaction, &resource.id()).await?.is_some() {
            return Ok(Change { before, after: before, done: Vec::new() });
        }
        self.begin_hub(&mut transaction, hub, false).await?;
        let least = removal(&mut transaction, hub).await?.map_or(0, |removed| removed.ms + 1);
        let mut made = Vec::new();
        for resource in [resource].into_iter().chain(auth) {
            let (id, uid) = (resource.id(), new_uid()?);
            sqlx::query(
                "INSERT INTO settings (hub, kind, name, source, uid, generation, resource, stamp, node)
                 VALUES (?, ?, ?, 'dynamic', ?, 1, ?, ?, ?)",
            )
            .bind(hub)
            .bind(id.kind.name())
            .bind(&*id.name)
            .bind(&uid)
            .bind(json(&resource)?)
            .bind(least)
            .bind(self.node)
            .execute(&mut *transaction)
            .await?;
            made.push(Arc::new(Entry::new(Source::Dynamic, uid, 1, resource)));
        }
        see(&mut transaction, least).await?;
        Ok(commit(transaction, before, made).await?)
    }

    /// Removes a resource; with a hub, everything of that hub, so that a later one of the same name inherits nothing.
    ///
    /// # Errors
    /// There is no such resource, or the database failed.
    pub async fn remove(&self, id: &ResourceId) -> Result<Change<()>, WriteError> {
        let mut transaction = self.begin().await?;
        let before = revision(&mut transaction).await?;
        let removed = sqlx::query("DELETE FROM settings WHERE hub = ? AND kind = ? AND name = ?")
            .bind(&*id.hub)
            .bind(id.kind.name())
            .bind(&*id.name)
            .execute(&mut *transaction)
            .await?;
        if removed.rows_affected() == 0 {
            return Err(WriteError::NotFound(id.clone()));
        }
        if id.kind == ResourceKind::Hub {
            self.remove_hub(&mut transaction, &id.hub).await?;
        } else {
            let stamp = self.stamp(&mut transaction).await?;
            remember_removal(&mut transaction, (&id.hub, id.kind.name(), &id.name), stamp).await?;
        }
        forget_old_removals(&mut transaction).await?;
        Ok(commit(transaction, before, ()).await?)
    }

    /// A hub made anew begins empty, also where what was set for an earlier one arrives late.
    async fn begin_hub(&self, connection: &mut SqliteConnection, hub: &str, by_hand: bool) -> sqlx::Result<()> {
        let count = sqlx::query_scalar("SELECT COUNT(*) FROM settings WHERE hub = ?");
        let homeless: i64 = count.bind(hub).fetch_one(&mut *connection).await?;
        let was_removed = removal(connection, hub).await?.is_some();
        // Metadata alone may be that of a hub of which a node that is new has not heard yet.
        let inherits = (by_hand || was_removed) && metadata::is_held(connection, hub).await?;
        if homeless > 0 || (by_hand && was_removed) || inherits {
            self.remove_hub(connection, hub).await?;
        }
        Ok(())
    }

    /// Removes everything of a hub, and what is remembered of it besides.
    async fn remove_hub(&self, connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<()> {
        let stamp = self.stamp(connection).await?;
        remove_hub_at(connection, hub, stamp).await
    }

    /// Locks the file for writing at once: one that reads first and writes later may find that it can't.
    pub(super) async fn begin(&self) -> sqlx::Result<Transaction<'static, Sqlite>> {
        self.pool.begin_with("BEGIN IMMEDIATE").await
    }

    /// For a write that is later than all that was seen here.
    pub(super) async fn stamp(&self, connection: &mut SqliteConnection) -> sqlx::Result<Stamp> {
        let ms = sqlx::query_scalar("UPDATE settings_revision SET clock = MAX(clock + 1, ?) RETURNING clock")
            .bind(clock::now().unix_ms.cast_signed())
            .fetch_one(connection)
            .await?;
        Ok(Stamp { ms, node: self.node })
    }
}

/// Later writes here get greater stamps than this.
pub(super) async fn see(connection: &mut SqliteConnection, ms: i64) -> sqlx::Result<()> {
    sqlx::query("UPDATE settings_revision SET clock = MAX(clock, ?)").bind(ms).execute(connection).await?;
    Ok(())
}

/// Removes what was written to a hub up to that stamp, and what is remembered of it besides.
pub(super) async fn remove_hub_at(connection: &mut SqliteConnection, hub: &str, stamp: Stamp) -> sqlx::Result<()> {
    for delete in [
        "DELETE FROM settings WHERE hub = ? AND (stamp, node) <= (?, ?)",
        "DELETE FROM settings_removed WHERE hub = ? AND (stamp, node) <= (?, ?)",
    ] {
        sqlx::query(delete).bind(hub).bind(stamp.ms).bind(stamp.node).execute(&mut *connection).await?;
    }
    remember_removal(connection, (hub, ResourceKind::Hub.name(), hub), stamp).await
}

/// When the last hub of this name was removed, if that is remembered.
async fn removal(connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<Option<Stamp>> {
    let query = sqlx::query("SELECT stamp, node FROM settings_removed WHERE hub = ? AND kind = 'Hub' AND name = ?");
    let row = query.bind(hub).bind(hub).fetch_optional(connection).await?;
    row.as_ref().map(replica::stamp).transpose()
}

/// With a hub goes its metadata, wherever it is heard that the hub went.
pub(super) async fn remember_removal(
    connection: &mut SqliteConnection,
    (hub, kind, name): (&str, &str, &str),
    stamp: Stamp,
) -> sqlx::Result<()> {
    if kind == ResourceKind::Hub.name() {
        metadata::remove_of_hub(connection, hub, stamp).await?;
    }
    let insert = sqlx::query(
        "INSERT INTO settings_removed (hub, kind, name, stamp, node) VALUES (?, ?, ?, ?, ?)
         ON CONFLICT (hub, kind, name) DO UPDATE SET stamp = excluded.stamp, node = excluded.node",
    );
    insert.bind(hub).bind(kind).bind(name).bind(stamp.ms).bind(stamp.node).execute(connection).await?;
    Ok(())
}

/// The resource is there again.
async fn forget_removal(connection: &mut SqliteConnection, id: &ResourceId) -> sqlx::Result<()> {
    let delete = sqlx::query("DELETE FROM settings_removed WHERE hub = ? AND kind = ? AND name = ?");
    delete.bind(&*id.hub).bind(id.kind.name()).bind(&*id.name).execute(connection).await?;
    Ok(())
}

/// Removals of which all nodes know by now, and those beyond the bound.
pub(super) async fn forget_old_removals(connection: &mut SqliteConnection) -> sqlx::Result<()> {
    forget_removals(
        connection,
        "DELETE FROM settings_removed WHERE stamp < ?",
        "DELETE FROM settings_removed
         WHERE stamp <= (SELECT stamp FROM settings_removed ORDER BY stamp DESC LIMIT 1 OFFSET ?)",
    )
    .await
}

/// By a statement for those before a stamp, and one for those beyond a number.
pub(super) async fn forget_removals(
    connection: &mut SqliteConnection,
    old: &'static str,
    beyond: &'static str,
) -> sqlx::Result<()> {
    sqlx::query(old).bind(oldest_removal()).execute(&mut *connection).await?;
    sqlx::query(beyond).bind(REMOVALS_MAX).execute(connection).await?;
    Ok(())
}

/// The stamp from which on removals are remembered.
pub(super) fn oldest_removal() -> i64 {
    clock::now().unix_ms.cast_signed() - REMOVALS_KEPT_MS
}

/// A row as it is compared with.
struct Held {
    source: String,
    uid: String,
    generation: u64,
    json: String,
}

async fn find(connection: &mut SqliteConnection, id: &ResourceId) -> sqlx::Result<Option<Held>> {
    let row =
        sqlx::query("SELECT source, uid, generation, resource FROM settings WHERE hub = ? AND kind = ? AND name = ?")
            .bind(&*id.hub)
            .bind(id.kind.name())
            .bind(&*id.name)
            .fetch_optional(connection)
            .await?;
    row.map(|row| {
        Ok(Held {
            source: row.try_get("source")?,
            uid: row.try_get("uid")?,
            generation: row.try_get::<i64, _>("generation")?.cast_unsigned(),
            json: row.try_get("resource")?,
        })
    })
    .transpose()
}

/// Whether the database itself has the hub.
pub(super) async fn is_there(connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<bool> {
    let query = "SELECT EXISTS (SELECT 1 FROM settings WHERE hub = ?1 AND kind = 'Hub' AND name = ?1)";
    sqlx::query_scalar(query).bind(hub).fetch_one(connection).await
}

pub(super) async fn revision(connection: &mut SqliteConnection) -> sqlx::Result<i64> {
    sqlx::query_scalar("SELECT revision FROM settings_revision").fetch_one(connection).await
}

pub(super) async fn commit<T>(
    mut transaction: Transaction<'_, Sqlite>,
    before: i64,
    done: T,
) -> sqlx::Result<Change<T>> {
    let after = revision(&mut transaction).await?;
    transaction.commit().await?;
    Ok(Change { before, after, done })
}

/// A row that is not what this version would have written is told apart from a database that fails.
fn decode(row: &SqliteRow) -> sqlx::Result<Result<Entry, Unreadable>> {
    let (hub, kind, name): (String, String, String) = (row.try_get("hub")?, row.try_get("kind")?, row.try_get("name")?);
    let (source, uid): (String, String) = (row.try_get("source")?, row.try_get("uid")?);
    let json: String = row.try_get("resource")?;
    Ok(entry_of((&hub, &kind, &name), &source, &uid, row.try_get("generation")?, &json).map_err(|reason| Unreadable {
        hub: hub.as_str().into(),
        row: format!("{kind} {name}"),
        reason,
    }))
}

/// What a row says, if this version can use it.
pub(super) fn entry_of(
    (hub, kind, name): (&str, &str, &str),
    source: &str,
    uid: &str,
    generation: i64,
    json: &str,
) -> Result<Entry, &'static str> {
    let id = ResourceKind::from_name(kind).map(|kind| ResourceId::new(kind, hub, name));
    let resource = usable(json, id.as_ref())?;
    let source = Source::from_name(source).ok_or("its source is unknown")?;
    Ok(Entry::new(source, uid, generation.cast_unsigned(), resource))
}

fn usable(json: &str, id: Option<&ResourceId>) -> Result<Resource, &'static str> {
    let resource: Resource = serde_json::from_str(json).map_err(|_| "its content is not that of its kind")?;
    if Some(&resource.id()) != id {
        return Err("its content is about another resource");
    }
    if !resource.problems().is_empty() {
        return Err("its content is not valid");
    }
    Ok(resource)
}

fn json(resource: &Resource) -> sqlx::Result<String> {
    serde_json::to_string(resource).map_err(|error| sqlx::Error::Encode(error.into()))
}

/// 128 random bits in hexadecimal digits.
fn new_uid() -> sqlx::Result<String> {
    let high = getrandom::u64().map_err(|error| sqlx::Error::Encode(error.into()))?;
    let low = getrandom::u64().map_err(|error| sqlx::Error::Encode(error.into()))?;
    Ok(format!("{high:016x}{low:016x}"))
}
