//! What nodes without a common database tell each other of their settings, and who is right where they differ.
//!
//! The later write of an identity wins. Whoever has heard the same writes and removals, in whatever order, holds the same.

use std::collections::BTreeMap;

use appsockets_core::{
    channel::{HubId, is_valid_name},
    settings::entry::{Entry, ResourceKind, Source},
};

use super::{
    metadata::{self, check_value},
    sqlite::entry_of,
};

/// For how long a removal is remembered, in milliseconds. A node that was away for longer brings back what it still has.
pub const REMOVALS_KEPT_MS: i64 = 30 * 24 * 3600 * 1000;
/// Removals that are remembered; the oldest go first.
pub const REMOVALS_MAX: i64 = 100_000;
/// No clock will ever say this. Later writes must get greater stamps still, so one that can't be exceeded is refused.
const STAMP_MAX: i64 = 1 << 52;
const UID_LENGTH_MAX: usize = 64;

/// When something was written: no two writes of one cluster have the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Unix milliseconds, or more if the writer had seen a greater one: so a write is later than all that it knew.
    pub ms: i64,
    /// The node that wrote it.
    pub node: i64,
}

/// Kind and name of a resource within its hub.
pub type Name = (String, String);

/// What one database says of one identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    pub hub: String,
    pub kind: String,
    pub name: String,
    pub stamp: Stamp,
    /// The revision of that database at which it last changed there.
    pub changed: i64,
    /// None: it was removed; with a hub, everything of that hub.
    pub content: Option<Content>,
}

/// A resource as a database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    pub source: String,
    pub uid: String,
    pub generation: i64,
    /// JSON.
    pub resource: String,
}

/// Some of what a database holds, in the order in which it changed there.
#[derive(Clone, Debug, Default)]
pub struct Page {
    pub items: Vec<Item>,
    /// From where to read on.
    pub reached: i64,
    pub more: bool,
}

/// An item that is not taken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    pub hub: HubId,
    /// Its kind and name.
    pub row: String,
    /// A sentence for the log, without the item's content.
    pub reason: &'static str,
    /// Of the item.
    pub changed: i64,
}

/// A row of which there may be another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    pub stamp: Stamp,
    pub content: Content,
}

/// All that is held of one hub.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HubState {
    pub rows: BTreeMap<Name, Version>,
    pub removed: BTreeMap<Name, Stamp>,
}

impl Item {
    /// Whether this version can use it as a resource.
    pub fn check(&self) -> Result<(), Refused> {
        self.timely().and_then(|()| self.resource()).map_err(|reason| self.refused(reason))
    }

    /// Whether this version can use it as metadata of a channel.
    pub fn check_metadata(&self) -> Result<(), Refused> {
        self.timely().and_then(|()| self.metadata()).map_err(|reason| self.refused(reason))
    }

    fn refused(&self, reason: &'static str) -> Refused {
        let row = format!("{} {}", self.kind, self.name);
        Refused { hub: self.hub.as_str().into(), row, reason, changed: self.changed }
    }

    fn timely(&self) -> Result<(), &'static str> {
        if (0..=STAMP_MAX).contains(&self.stamp.ms) { Ok(()) } else { Err("its time is none") }
    }

    fn metadata(&self) -> Result<(), &'static str> {
        if self.kind != metadata::KIND {
            return Err("its kind is unknown");
        }
        if !is_valid_name(&self.hub) || !is_valid_name(&self.name) {
            return Err("its name is not valid");
        }
        match &self.content {
            Some(content) if check_value(content.resource.as_bytes()).is_err() => Err("its content is not valid"),
            _ => Ok(()),
        }
    }

    fn resource(&self) -> Result<(), &'static str> {
        match &self.content {
            None if ResourceKind::from_name(&self.kind).is_none() => Err("its kind is unknown"),
            None => Ok(()),
            Some(content) => self.entry(content).map(drop),
        }
    }

    fn entry(&self, content: &Content) -> Result<Entry, &'static str> {
        let Content { source, uid, generation, resource } = content;
        if uid.is_empty() || uid.len() > UID_LENGTH_MAX || *generation < 1 {
            return Err("nothing tells it from others of its name");
        }
        let entry = entry_of((&self.hub, &self.kind, &self.name), source, uid, *generation, resource)?;
        // What a file or the operator says is said to each node by those.
        if entry.source.manages() { Err("its source is not a database") } else { Ok(entry) }
    }
}

impl Version {
    /// The stamp decides. What follows it only makes the choice certain, for databases of nodes that had no numbers.
    fn rank(&self) -> (Stamp, bool, &str, i64, &str) {
        let Content { source, uid, generation, resource } = &self.content;
        (self.stamp, source == Source::Api.name(), uid, *generation, resource)
    }
}

impl HubState {
    /// Takes what another database says of this hub, if it is later than what is known.
    pub fn take(&mut self, item: Item) {
        let Item { hub, kind, name, stamp, changed: _, content } = item;
        let hub = (ResourceKind::Hub.name().to_owned(), hub);
        let name = (kind, name);
        let covered =
            [self.removed.get(&hub), self.removed.get(&name)].into_iter().flatten().any(|gone| *gone >= stamp);
        if covered {
            return;
        }
        match content {
            Some(content) => self.write(&hub, name, Version { stamp, content }),
            None if name == hub => {
                self.rows.retain(|_, version| version.stamp > stamp);
                self.removed.retain(|_, gone| *gone > stamp);
                self.removed.insert(name, stamp);
            }
            None if self.rows.get(&name).is_some_and(|version| version.stamp > stamp) => {}
            None => {
                self.rows.remove(&name);
                self.removed.insert(name, stamp);
            }
        }
    }

    fn write(&mut self, hub: &Name, name: Name, version: Version) {
        if self.rows.get(&name).is_some_and(|held| held.rank() >= version.rank()) {
            return;
        }
        // Whoever gets the row needs to know no more; a hub's removal still covers other rows.
        if name != *hub {
            self.removed.remove(&name);
        }
        self.rows.insert(name, version);
    }
}
