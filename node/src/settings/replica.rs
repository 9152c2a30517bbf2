//! The database as one of several that hold the same: what it tells the others, and what it takes from them.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::settings::entry::{Entry, ResourceId, ResourceKind};
use futures_util::TryStreamExt;
use sqlx::{Row, SqliteConnection, sqlite::SqliteRow};

use super::{
    exchange::{Content, HubState, Item, Name, Page, Stamp, Version},
    sqlite::{Change, Table, commit, entry_of, forget_old_removals, oldest_removal, remember_removal, revision, see},
};

/// A page ends when it has so many items, or so many bytes of them.
const PAGE_ITEMS_MAX: usize = 1_000;
const PAGE_BYTES_MAX: usize = 1 << 20;

const SETTINGS_AFTER: &str = "
    SELECT hub, kind, name, stamp, node, changed, source, uid, generation, resource
    FROM settings WHERE changed > ?1
    UNION ALL
    SELECT hub, kind, name, stamp, node, changed, NULL, NULL, NULL, NULL
    FROM settings_removed WHERE changed > ?1
    ORDER BY changed";

/// What is in force after a merge that was not before; None: it is gone.
pub type Changes = Vec<(ResourceId, Option<Arc<Entry>>)>;

impl Table {
    /// What has changed here since that revision.
    pub async fn page(&self, after: i64) -> sqlx::Result<Page> {
        let mut connection = self.pool.acquire().await?;
        page(&mut connection, after, SETTINGS_AFTER).await
    }

    /// Takes what other databases say of some hubs, where that is later than what is held.
    pub async fn merge(&self, hubs: Vec<(String, Vec<Item>)>) -> sqlx::Result<Change<Changes>> {
        let mut transaction = self.begin().await?;
        let before = revision(&mut transaction).await?;
        let mut changes = Vec::new();
        let mut seen = 0;
        let oldest = oldest_removal();
        for (hub, items) in hubs {
            let held = state(&mut transaction, &hub).await?;
            let mut state = held.clone();
            for item in items.into_iter().filter(|item| item.content.is_some() || item.stamp.ms >= oldest) {
                seen = seen.max(item.stamp.ms);
                state.take(item);
            }
            replace(&mut transaction, &hub, &held, &state).await?;
            changes.extend(differences(&hub, &held, &state));
        }
        see(&mut transaction, seen).await?;
        forget_old_removals(&mut transaction).await?;
        commit(transaction, before, changes).await
    }
}

impl Item {
    /// About its bytes.
    pub fn weight(&self) -> usize {
        const FIELDS: usize = 64;
        let content = self.content.as_ref().map_or(0, |content| content.resource.len() + content.uid.len());
        FIELDS + self.hub.len() + self.name.len() + content
    }
}

/// One page of what a query gives whose rows changed after a revision, in that order.
pub(super) async fn page(connection: &mut SqliteConnection, after: i64, query: &'static str) -> sqlx::Result<Page> {
    let mut rows = sqlx::query(query).bind(after).fetch(connection);
    let mut page = Page { reached: after, ..Page::default() };
    let mut bytes = 0;
    while let Some(row) = rows.try_next().await? {
        if page.items.len() >= PAGE_ITEMS_MAX || bytes >= PAGE_BYTES_MAX {
            page.more = true;
            break;
        }
        let item = item(&row)?;
        page.reached = item.changed;
        bytes += item.weight();
        page.items.push(item);
    }
    Ok(page)
}

pub(super) fn stamp(row: &SqliteRow) -> sqlx::Result<Stamp> {
    Ok(Stamp { ms: row.try_get("stamp")?, node: row.try_get("node")? })
}

fn name(row: &SqliteRow) -> sqlx::Result<Name> {
    Ok((row.try_get("kind")?, row.try_get("name")?))
}

fn content(row: &SqliteRow, source: String) -> sqlx::Result<Content> {
    let (uid, generation, resource) = (row.try_get("uid")?, row.try_get("generation")?, row.try_get("resource")?);
    Ok(Content { source, uid, generation, resource })
}

fn item(row: &SqliteRow) -> sqlx::Result<Item> {
    let (kind, name) = name(row)?;
    let source: Option<String> = row.try_get("source")?;
    let content = source.map(|source| content(row, source)).transpose()?;
    Ok(Item { hub: row.try_get("hub")?, kind, name, stamp: stamp(row)?, changed: row.try_get("changed")?, content })
}

async fn state(connection: &mut SqliteConnection, hub: &str) -> sqlx::Result<HubState> {
    let query = "SELECT kind, name, stamp, node, source, uid, generation, resource FROM settings WHERE hub = ?";
    let rows = sqlx::query(query).bind(hub).fetch_all(&mut *connection).await?;
    let rows = rows.iter().map(|row| {
        let version = Version { stamp: stamp(row)?, content: content(row, row.try_get("source")?)? };
        Ok((name(row)?, version))
    });
    let rows: sqlx::Result<BTreeMap<_, _>> = rows.collect();
    let query = "SELECT kind, name, stamp, node FROM settings_removed WHERE hub = ?";
    let removed = sqlx::query(query).bind(hub).fetch_all(connection).await?;
    let removed: sqlx::Result<_> = removed.iter().map(|row| Ok((name(row)?, stamp(row)?))).collect();
    Ok(HubState { rows: rows?, removed: removed? })
}

/// Writes what differs, and nothing else: others read what is written.
async fn replace(connection: &mut SqliteConnection, hub: &str, held: &HubState, state: &HubState) -> sqlx::Result<()> {
    for name in held.rows.keys().filter(|name| !state.rows.contains_key(*name)) {
        delete(connection, "DELETE FROM settings WHERE hub = ? AND kind = ? AND name = ?", hub, name).await?;
    }
    for name in held.removed.keys().filter(|name| !state.removed.contains_key(*name)) {
        delete(connection, "DELETE FROM settings_removed WHERE hub = ? AND kind = ? AND name = ?", hub, name).await?;
    }
    for (name, version) in state.rows.iter().filter(|(name, version)| held.rows.get(*name) != Some(*version)) {
        let Version { stamp, content: Content { source, uid, generation, resource } } = version;
        sqlx::query(
            "INSERT INTO settings (hub, kind, name, source, uid, generation, resource, stamp, node)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (hub, kind, name) DO UPDATE
             SET source = excluded.source, uid = excluded.uid, generation = excluded.generation,
                 resource = excluded.resource, stamp = excluded.stamp, node = excluded.node",
        )
        .bind(hub)
        .bind(&name.0)
        .bind(&name.1)
        .bind(source)
        .bind(uid)
        .bind(generation)
        .bind(resource)
        .bind(stamp.ms)
        .bind(stamp.node)
        .execute(&mut *connection)
        .await?;
    }
    for (name, stamp) in state.removed.iter().filter(|(name, stamp)| held.removed.get(*name) != Some(*stamp)) {
        remember_removal(connection, (hub, &name.0, &name.1), *stamp).await?;
    }
    Ok(())
}

async fn delete(
    connection: &mut SqliteConnection,
    query: &'static str,
    hub: &str,
    (kind, name): &Name,
) -> sqlx::Result<()> {
    sqlx::query(query).bind(hub).bind(kind).bind(name).execute(connection).await?;
    Ok(())
}

/// Rows that can't be used stay out: whoever held one before reads everything anew anyway.
fn differences(hub: &str, held: &HubState, state: &HubState) -> Changes {
    let id = |(kind, name): &Name| Some(ResourceId::new(ResourceKind::from_name(kind)?, hub, name.as_str()));
    let gone = held.rows.keys().filter(|name| !state.rows.contains_key(*name));
    let gone = gone.filter_map(|name| Some((id(name)?, None)));
    let new = state.rows.iter().filter(|(name, version)| held.rows.get(*name) != Some(*version));
    let new = new.filter_map(|(name, version)| {
        let Content { source, uid, generation, resource } = &version.content;
        let entry = entry_of((hub, &name.0, &name.1), source, uid, *generation, resource).ok()?;
        Some((id(name)?, Some(Arc::new(entry))))
    });
    gone.chain(new).collect()
}
