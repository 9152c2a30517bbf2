//! Taking settings over from the databases of other nodes.
//!
//! Each row is a register of which the last write wins: that with the later stamp, and of equal stamps that of the greater
//! node. A removal is such a write too. Every node that has heard of the same writes has the same rows, in whichever
//! order they came.

use appsockets_core::settings::entry::{ResourceId, ResourceKind, Source};
use sqlx::{Row as _, Sqlite, SqliteConnection, Transaction};

use super::sqlite::{Table, revision, usable};
use crate::edge::clock;

/// Removals are forgotten after this. A node that was away for longer may bring back what was removed meanwhile.
const REMEMBERED_MS: i64 = 30 * 24 * 3600 * 1000;

/// When something was written, and by whom: the greater counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    pub ms: i64,
    pub node: i64,
}

/// A row of another node's database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub hub: String,
    pub kind: String,
    pub name: String,
    pub stamp: Stamp,
    /// None: it was removed.
    pub content: Option<Content>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub source: String,
    pub uid: String,
    pub generation: i64,
    /// JSON.
    pub resource: String,
}

/// What has changed in a database since a revision of it, and the revision that this leads to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub rows: Vec<Row>,
    pub revision: i64,
}

/// What came of taking rows over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    pub taken: usize,
    /// Rows that this version can't use.
    pub refused: usize,
}

impl Table {
    /// All rows that have changed since that revision; from 0, all.
    pub async fn changes(&self, after: i64) -> sqlx::Result<Changes> {
        let mut transaction = self.pool().begin().await?;
        let mut changes = Changes { rows: Vec::new(), revision: revision(&mut transaction).await? };
        let rows = sqlx::query(
            "SELECT hub, kind, name, stamp, stamped_by, source, uid, generation, resource FROM settings
             WHERE changed > ?1 OR ?1 = 0
             UNION ALL
             SELECT hub, kind, name, stamp, stamped_by, NULL, NULL, NULL, NULL FROM settings_removals
             WHERE changed > ?1 OR ?1 = 0",
        )
        .bind(after)
        .fetch_all(&mut *transaction)
        .await?;
        for row in &rows {
            let source: Option<String> = row.try_get("source")?;
            let content = match source {
                Some(source) => Some(Content {
                    source,
                    uid: row.try_get("uid")?,
                    generation: row.try_get("generation")?,
                    resource: row.try_get("resource")?,
                }),
                None => None,
            };
            changes.rows.push(Row {
                hub: row.try_get("hub")?,
                kind: row.try_get("kind")?,
                name: row.try_get("name")?,
                stamp: Stamp { ms: row.try_get("stamp")?, node: row.try_get("stamped_by")? },
                content,
            });
        }
        Ok(changes)
    }

    /// Takes over those rows that are later than what is here.
    pub async fn merge(&self, rows: Vec<Row>) -> sqlx::Result<Merged> {
        let mut merged = Merged::default();
        let mut transaction = self.begin().await?;
        for row in rows {
            if !row.is_usable() {
                merged.refused += 1;
            } else if merge(&mut transaction, row).await? {
                merged.taken += 1;
            }
        }
        let before = clock::now().unix_ms.cast_signed() - REMEMBERED_MS;
        sqlx::query("DELETE FROM settings_removals WHERE stamp < ?").bind(before).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(merged)
    }
}

/// False if what is here is as late or later.
async fn merge(transaction: &mut Transaction<'_, Sqlite>, row: Row) -> sqlx::Result<bool> {
    if known(transaction, &row).await?.is_some_and(|known| known >= row.stamp) {
        return Ok(false);
    }
    match &row.content {
        Some(content) => insert(transaction, &row, content).await?,
        None => remove(transaction, &row).await?,
    }
    Ok(true)
}

/// The latest that is known and would make the row old: its own stamp, that of its removal, or that of the removal of its
/// hub. A removal stays known beside what was written later: it concerns all that was written before.
async fn known(connection: &mut SqliteConnection, row: &Row) -> sqlx::Result<Option<Stamp>> {
    let rows = sqlx::query(
        "SELECT stamp, stamped_by FROM settings WHERE hub = ?1 AND kind = ?2 AND name = ?3 AND ?4
         UNION ALL
         SELECT stamp, stamped_by FROM settings_removals WHERE hub = ?1 AND kind = ?2 AND name = ?3
         UNION ALL
         SELECT stamp, stamped_by FROM settings_removals WHERE hub = ?1 AND kind = 'Hub' AND name = ?1",
    )
    .bind(&row.hub)
    .bind(&row.kind)
    .bind(&row.name)
    .bind(row.content.is_some())
    .fetch_all(connection)
    .await?;
    let stamps = rows.iter().map(|row| Ok(Stamp { ms: row.try_get(0)?, node: row.try_get(1)? }));
    Ok(stamps.collect::<sqlx::Result<Vec<_>>>()?.into_iter().max())
}

async fn insert(connection: &mut SqliteConnection, row: &Row, content: &Content) -> sqlx::Result<()> {
    let Content { source, uid, generation, resource } = content;
    sqlx::query(
        "INSERT INTO settings (hub, kind, name, source, uid, generation, resource, stamp, stamped_by, changed)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, (SELECT revision FROM settings_revision) + 1)
         ON CONFLICT (hub, kind, name) DO UPDATE SET source = excluded.source, uid = excluded.uid,
             generation = excluded.generation, resource = excluded.resource, stamp = excluded.stamp,
             stamped_by = excluded.stamped_by, changed = excluded.changed",
    )
    .bind(&row.hub)
    .bind(&row.kind)
    .bind(&row.name)
    .bind(source)
    .bind(uid)
    .bind(generation)
    .bind(resource)
    .bind(row.stamp.ms)
    .bind(row.stamp.node)
    .execute(connection)
    .await?;
    Ok(())
}

/// With a hub goes everything of it that was written before.
async fn remove(connection: &mut SqliteConnection, row: &Row) -> sqlx::Result<()> {
    bury(connection, &row.hub, &row.kind, &row.name, row.stamp).await?;
    let all_of_hub = row.kind == ResourceKind::Hub.name();
    sqlx::query(
        "DELETE FROM settings WHERE hub = ?1 AND (stamp, stamped_by) < (?4, ?5) AND (?6 OR (kind = ?2 AND name = ?3))",
    )
    .bind(&row.hub)
    .bind(&row.kind)
    .bind(&row.name)
    .bind(row.stamp.ms)
    .bind(row.stamp.node)
    .bind(all_of_hub)
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers that a row was removed.
pub(super) async fn bury(
    connection: &mut SqliteConnection,
    hub: &str,
    kind: &str,
    name: &str,
    stamp: Stamp,
) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO settings_removals (hub, kind, name, stamp, stamped_by, changed)
         VALUES (?, ?, ?, ?, ?, (SELECT revision FROM settings_revision) + 1)
         ON CONFLICT (hub, kind, name) DO UPDATE SET stamp = excluded.stamp, stamped_by = excluded.stamped_by,
             changed = excluded.changed",
    )
    .bind(hub)
    .bind(kind)
    .bind(name)
    .bind(stamp.ms)
    .bind(stamp.node)
    .execute(connection)
    .await?;
    Ok(())
}

/// The stamp of a write that is made now: later than any that is known.
pub(super) async fn next_stamp(connection: &mut SqliteConnection, node: i64) -> sqlx::Result<Stamp> {
    let latest: Option<i64> = sqlx::query_scalar(
        "SELECT max(stamp) FROM (SELECT stamp FROM settings UNION ALL SELECT stamp FROM settings_removals)",
    )
    .fetch_one(connection)
    .await?;
    let now_ms = clock::now().unix_ms.cast_signed();
    Ok(Stamp { ms: now_ms.max(latest.unwrap_or_default() + 1), node })
}

impl Row {
    /// Whether this version of the node would have written it.
    fn is_usable(&self) -> bool {
        let id = ResourceKind::from_name(&self.kind).map(|kind| ResourceId::new(kind, &*self.hub, &*self.name));
        match &self.content {
            None => id.is_some(),
            Some(content) => {
                let source = Source::from_name(&content.source).is_some_and(|source| !source.manages());
                source && content.generation > 0 && usable(&content.resource, id.as_ref()).is_ok()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use appsockets_core::settings::{
        entry::ResourceId,
        resource::{ChannelRulesSpec, HubSpec, Resource},
    };
    use proptest::{collection::vec, prelude::*};

    use super::{Merged, Row, Table};
    use crate::store;

    async fn table(folder: &tempfile::TempDir, node: u64) -> Table {
        let database = store::open(&folder.path().join(node.to_string())).await.unwrap();
        Table::new(database.writer().clone(), node)
    }

    fn hub(name: &str, public: bool) -> Resource {
        Resource::Hub { name: name.to_owned(), spec: HubSpec { default_public: public, ..HubSpec::default() } }
    }

    fn rules(hub: &str) -> Resource {
        Resource::ChannelRules { hub: hub.to_owned(), name: "open".to_owned(), spec: ChannelRulesSpec::default() }
    }

    /// Everything, in an order that two tables share.
    async fn all(table: &Table) -> Vec<Row> {
        let mut rows = table.changes(0).await.unwrap().rows;
        rows.retain(|row| row.content.is_some());
        rows.sort_by(|a, b| (&a.hub, &a.kind, &a.name).cmp(&(&b.hub, &b.kind, &b.name)));
        rows
    }

    async fn pull(to: &Table, from: &Table, after: i64) -> (Merged, i64) {
        let changes = from.changes(after).await.unwrap();
        (to.merge(changes.rows).await.unwrap(), changes.revision)
    }

    #[tokio::test]
    async fn only_what_has_changed_is_taken_over_and_once() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (table(&folder, 1).await, table(&folder, 2).await);
        one.put(hub("a", true)).await.unwrap();
        one.put(rules("a")).await.unwrap();
        let (merged, reached) = pull(&two, &one, 0).await;
        assert_eq!(merged, Merged { taken: 2, refused: 0 });
        assert_eq!(all(&one).await, all(&two).await);
        one.put(hub("b", true)).await.unwrap();
        let changes = one.changes(reached).await.unwrap();
        assert_eq!(changes.rows.iter().map(|row| &*row.hub).collect::<Vec<_>>(), ["b"]);
        assert_eq!(two.merge(changes.rows.clone()).await.unwrap().taken, 1);
        assert_eq!(two.merge(changes.rows).await.unwrap().taken, 0);
    }

    #[tokio::test]
    async fn what_was_removed_does_not_come_back() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (table(&folder, 1).await, table(&folder, 2).await);
        one.put(hub("a", true)).await.unwrap();
        one.put(rules("a")).await.unwrap();
        pull(&two, &one, 0).await;
        two.remove(&ResourceId::hub("a")).await.unwrap();
        pull(&two, &one, 0).await;
        assert_eq!(all(&two).await, []);
        pull(&one, &two, 0).await;
        assert_eq!(all(&one).await, []);
        // Made again it is a new one, everywhere.
        one.put(hub("a", false)).await.unwrap();
        pull(&two, &one, 0).await;
        assert_eq!(all(&two).await.len(), 1);
        assert_eq!(all(&one).await, all(&two).await);
    }

    #[tokio::test]
    async fn a_hub_that_is_made_again_inherits_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two, three) = (table(&folder, 1).await, table(&folder, 2).await, table(&folder, 3).await);
        one.put(hub("a", true)).await.unwrap();
        one.put(rules("a")).await.unwrap();
        pull(&two, &one, 0).await;
        pull(&three, &one, 0).await;
        two.remove(&ResourceId::hub("a")).await.unwrap();
        two.put(hub("a", true)).await.unwrap();
        // Who still has the old rules does not bring them back, and loses them.
        pull(&two, &three, 0).await;
        pull(&three, &two, 0).await;
        assert_eq!(all(&two).await.len(), 1);
        assert_eq!(all(&three).await, all(&two).await);
    }

    #[tokio::test]
    async fn nonsense_is_refused_and_the_rest_is_taken() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (table(&folder, 1).await, table(&folder, 2).await);
        one.put(hub("a", true)).await.unwrap();
        let good = one.changes(0).await.unwrap().rows.remove(0);
        let spoil = |change: fn(&mut Row)| {
            let mut row = good.clone();
            row.hub = "b".to_owned();
            change(&mut row);
            row
        };
        let rows = vec![
            spoil(|_| {}),
            spoil(|row| row.kind = "Nothing".to_owned()),
            spoil(|row| row.content.as_mut().unwrap().resource = "{".to_owned()),
            spoil(|row| row.content.as_mut().unwrap().source = "file".to_owned()),
            good.clone(),
        ];
        assert_eq!(two.merge(rows).await.unwrap(), Merged { taken: 1, refused: 4 });
        assert_eq!(all(&two).await, [good]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Act {
        Put(usize, u8, bool),
        PutRules(usize, u8),
        Remove(usize, u8),
        Pull(usize, usize),
    }

    fn acts() -> impl Strategy<Value = Vec<Act>> {
        let (node, name) = (0..3usize, 0..2u8);
        let act = prop_oneof![
            (node.clone(), name.clone(), any::<bool>()).prop_map(|(node, name, public)| Act::Put(node, name, public)),
            (node.clone(), name.clone()).prop_map(|(node, name)| Act::PutRules(node, name)),
            (node.clone(), name).prop_map(|(node, name)| Act::Remove(node, name)),
            (node.clone(), node).prop_map(|(to, from)| Act::Pull(to, from)),
        ];
        vec(act, 0..25)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn all_who_have_heard_the_same_have_the_same(acts in acts()) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async {
                let folder = tempfile::tempdir().unwrap();
                let mut tables = Vec::new();
                for node in 1..=3 {
                    tables.push(table(&folder, node).await);
                }
                let mut reached = [[0; 3]; 3];
                for act in acts {
                    match act {
                        Act::Put(node, name, public) => drop(tables[node].put(hub(&name.to_string(), public)).await),
                        Act::PutRules(node, name) => drop(tables[node].put(rules(&name.to_string())).await),
                        Act::Remove(node, name) => drop(tables[node].remove(&ResourceId::hub(name.to_string())).await),
                        Act::Pull(to, from) => {
                            reached[to][from] = pull(&tables[to], &tables[from], reached[to][from]).await.1;
                        }
                    }
                }
                // What each has heard reaches the last in two rounds.
                for _ in 0..2 {
                    for (to, from) in (0..3).flat_map(|to| (0..3).map(move |from| (to, from))) {
                        reached[to][from] = pull(&tables[to], &tables[from], reached[to][from]).await.1;
                    }
                }
                assert_eq!(all(&tables[0]).await, all(&tables[1]).await);
                assert_eq!(all(&tables[0]).await, all(&tables[2]).await);
            });
        }
    }
}
