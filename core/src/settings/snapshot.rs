//! All settings of a cluster at one time, from all their sources.

use std::{collections::BTreeMap, sync::Arc};

use super::entry::{Entry, ResourceId, ResourceKind, Revision, Source};
use crate::channel::HubId;

/// The entries that count: one for each identity.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Snapshot {
    entries: BTreeMap<ResourceId, Arc<Entry>>,
}

/// The resource belongs to another source of settings, and only that one may change it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{id} is managed by the {}: change it there", by.name())]
pub struct ManagedElsewhere {
    pub id: ResourceId,
    pub by: Source,
}

impl Snapshot {
    /// Merges what all sources say, in any order. For one identity the first source in the order of [`Source`] wins.
    /// Where the operator or a file has the hub itself, what sources of lower rank say of that hub does not count.
    pub fn from_sources(entries: impl IntoIterator<Item = Arc<Entry>>) -> Snapshot {
        let mut winners: BTreeMap<ResourceId, Arc<Entry>> = BTreeMap::new();
        for entry in entries {
            match winners.get(&entry.id) {
                Some(held) if rank(held) <= rank(&entry) => {}
                _ => {
                    winners.insert(entry.id.clone(), entry);
                }
            }
        }
        let mut snapshot = Snapshot { entries: winners };
        snapshot.drop_overruled();
        snapshot
    }

    pub fn revision(&self) -> Revision {
        Revision::of(self.entries.values().map(|entry| &**entry))
    }

    pub fn get(&self, id: &ResourceId) -> Option<&Arc<Entry>> {
        self.entries.get(id)
    }

    /// By hub, then kind, then name.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.entries.values()
    }

    /// All that is set for one hub.
    pub fn of_hub<'a>(&'a self, hub: &'a str) -> impl Iterator<Item = &'a Arc<Entry>> {
        // The least identity that a hub can have: its kind is the first one and its name is empty.
        let first = ResourceId::new(ResourceKind::Hub, hub, "");
        self.entries.range(first..).map(|(_, entry)| entry).take_while(move |entry| &*entry.id.hub == hub)
    }

    /// Where the hub itself comes from; None if there is no such hub.
    pub fn source_of_hub(&self, hub: &HubId) -> Option<Source> {
        self.entries.get(&ResourceId::hub(hub.clone())).map(|entry| entry.source)
    }

    /// Whether a source may write or remove the resource.
    pub fn may_change(&self, id: &ResourceId, source: Source) -> Result<(), ManagedElsewhere> {
        let holder = self.entries.get(id).map(|entry| entry.source);
        let managers = [self.source_of_hub(&id.hub), holder];
        match managers.into_iter().flatten().find(|by| by.manages() && *by < source) {
            Some(by) => Err(ManagedElsewhere { id: id.clone(), by }),
            None => Ok(()),
        }
    }

    /// The hubs that the operator or a file had before and that are gone since, or are others of the same name: the
    /// operator's have an identity of their own, a file's do not.
    pub fn hubs_gone<'a>(&'a self, before: &'a Snapshot) -> impl Iterator<Item = &'a HubId> {
        let managed = before.entries().filter(|entry| entry.id.kind == ResourceKind::Hub && entry.source.manages());
        let gone = managed.filter(|held| match self.get(&held.id) {
            None => true,
            Some(now) => [held.source, now.source] == [Source::Operator; 2] && held.uid != now.uid,
        });
        gone.map(|held| &held.id.hub)
    }

    fn drop_overruled(&mut self) {
        // A hub's own entry is the first of its neighbours, because its kind is the first one.
        let mut manager: Option<(HubId, Source)> = None;
        self.entries.retain(|id, entry| {
            if id.kind == ResourceKind::Hub {
                manager = entry.source.manages().then(|| (id.hub.clone(), entry.source));
            }
            !manager.as_ref().is_some_and(|(hub, source)| *hub == id.hub && *source < entry.source)
        });
    }
}

/// The lesser wins. What follows the source only makes the choice certain: no source names an identity twice.
fn rank(entry: &Entry) -> (Source, std::cmp::Reverse<(u64, &str, u128)>) {
    (entry.source, std::cmp::Reverse((entry.generation, &entry.uid, entry.content())))
}
