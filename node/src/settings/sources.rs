//! The settings of each source, side by side.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use appsockets_core::settings::{
    entry::{Entry, ResourceId, ResourceKind, Source},
    push::Handed,
    snapshot::Snapshot,
};
use tracing::error;

use super::{
    exchange::Refused,
    replica::Changes,
    sqlite::{Change, Listing, Unreadable},
};

/// What each source last said, and what follows from it.
#[derive(Debug, Default)]
pub(super) struct Sources {
    pub(super) operator: Handed,
    pub(super) file: Vec<Arc<Entry>>,
    pub(super) database: BTreeMap<ResourceId, Arc<Entry>>,
    /// The revision of the database that `database` holds.
    pub(super) seen: Option<i64>,
    /// Whether `database` holds all of it.
    pub(super) whole: bool,
    pub(super) snapshot: Snapshot,
    /// What other nodes said and this one can't use, as far as it was logged.
    pub(super) refused: BTreeSet<Refused>,
}

impl Sources {
    /// Takes over all that the database holds.
    pub(super) fn take(&mut self, listing: Listing) {
        let withheld: HashSet<_> = listing.unreadable.iter().map(|row| row.hub.clone()).collect();
        let is_withheld = |entry: &Arc<Entry>| withheld.contains(&entry.id.hub);
        // A hub of which a row can't be used stays as it was, or is left out: what lacks may be what protects it.
        let kept = self.database.values().filter(|entry| is_withheld(entry)).cloned();
        let read = listing.entries.into_iter().filter(|entry| !is_withheld(entry));
        self.database = kept.chain(read).map(|entry| (entry.id.clone(), entry)).collect();
        self.seen = Some(listing.revision);
        self.whole = listing.unreadable.is_empty();
        for Unreadable { hub, row, reason } in listing.unreadable {
            error!(%hub, %row, %reason, "A resource in the database can't be used, so its hub stays as it was.");
        }
    }

    /// Takes over what a write has changed. False: others have written as well, so all has to be read.
    pub(super) fn follow(&mut self, change: Change<Changes>) -> bool {
        if !self.whole || self.seen != Some(change.before) {
            return false;
        }
        for (id, entry) in change.done {
            match entry {
                Some(entry) => self.database.insert(id, entry),
                None => self.database.remove(&id),
            };
        }
        self.seen = Some(change.after);
        true
    }

    /// That everything of a hub goes which the database holds.
    pub(super) fn gone_with(&self, hub: &str) -> impl Iterator<Item = (ResourceId, Option<Arc<Entry>>)> + use<'_> {
        let first = ResourceId::new(ResourceKind::Hub, hub, "");
        let of_hub = self.database.range(first.clone()..).take_while(move |(id, _)| id.hub == first.hub);
        of_hub.map(|(id, _)| (id.clone(), None))
    }

    /// Hubs in the database that were made for clients.
    pub(super) fn dynamic_hubs(&self) -> usize {
        let is_one = |entry: &&Arc<Entry>| entry.source == Source::Dynamic && entry.id.kind == ResourceKind::Hub;
        self.database.values().filter(is_one).count()
    }

    /// Rows of the database.
    pub(super) fn count(&self, source: Source) -> usize {
        self.database.values().filter(|entry| entry.source == source).count()
    }

    /// Puts together what all sources say.
    pub(super) fn merge(&mut self) {
        let entries = self.operator.entries().chain(&self.file).chain(self.database.values()).cloned();
        self.snapshot = Snapshot::from_sources(entries);
    }
}
