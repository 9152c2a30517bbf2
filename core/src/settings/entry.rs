//! One resource as a source of settings holds it, and the names that all sources share.

use std::{fmt, num::ParseIntError, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::resource::Resource;
use crate::channel::HubId;

/// Where a resource comes from. For one identity a lesser source wins over a greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Custom resources, handed over by the operator.
    Operator,
    /// The file that the node was started with.
    File,
    /// The administration interface.
    Api,
    /// Made for a client that named a hub which did not exist.
    Dynamic,
}

impl Source {
    pub const ALL: [Source; 4] = [Source::Operator, Source::File, Source::Api, Source::Dynamic];

    pub const fn name(self) -> &'static str {
        match self {
            Source::Operator => "operator",
            Source::File => "file",
            Source::Api => "api",
            Source::Dynamic => "dynamic",
        }
    }

    pub fn from_name(name: &str) -> Option<Source> {
        Source::ALL.into_iter().find(|source| source.name() == name)
    }

    /// Whether what it says of a hub is the whole of that hub, so that no other source may add to it.
    pub const fn manages(self) -> bool {
        matches!(self, Source::Operator | Source::File)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ResourceKind {
    Hub,
    ChannelRules,
    Namespace,
    Channel,
    AuthProvider,
}

impl ResourceKind {
    pub const ALL: [ResourceKind; 5] = [
        ResourceKind::Hub,
        ResourceKind::ChannelRules,
        ResourceKind::Namespace,
        ResourceKind::Channel,
        ResourceKind::AuthProvider,
    ];

    /// As it is written in `kind:`.
    pub const fn name(self) -> &'static str {
        match self {
            ResourceKind::Hub => "Hub",
            ResourceKind::ChannelRules => "ChannelRules",
            ResourceKind::Namespace => "Namespace",
            ResourceKind::Channel => "Channel",
            ResourceKind::AuthProvider => "AuthProvider",
        }
    }

    pub fn from_name(name: &str) -> Option<ResourceKind> {
        ResourceKind::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

/// What makes two resources the same one. Ordered by hub first, so that a hub's resources are neighbours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ResourceId {
    pub hub: HubId,
    pub kind: ResourceKind,
    /// The hub's own name for the kinds of which a hub has one.
    pub name: Arc<str>,
}

impl ResourceId {
    pub fn new(kind: ResourceKind, hub: impl Into<HubId>, name: impl Into<Arc<str>>) -> ResourceId {
        ResourceId { hub: hub.into(), kind, name: name.into() }
    }

    pub fn hub(name: impl Into<HubId>) -> ResourceId {
        let hub = name.into();
        ResourceId { name: hub.clone(), hub, kind: ResourceKind::Hub }
    }
}

impl fmt::Display for ResourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, hub) = (self.kind.name(), &self.hub);
        match self.kind {
            ResourceKind::Hub | ResourceKind::AuthProvider => write!(f, "{kind} {hub}"),
            _ => write!(f, "{kind} {hub}/{}", self.name),
        }
    }
}

/// A resource with its origin. Immutable: a change makes a new one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub id: ResourceId,
    pub source: Source,
    /// Tells a resource from an earlier one of the same name; empty where the source has no such thing.
    pub uid: Arc<str>,
    /// Rises with each change of this uid; 0 where the source does not count.
    pub generation: u64,
    pub resource: Resource,
    content: u128,
}

impl Entry {
    pub fn new(source: Source, uid: impl Into<Arc<str>>, generation: u64, resource: Resource) -> Entry {
        let content = content_hash(&resource);
        Entry { id: resource.id(), source, uid: uid.into(), generation, resource, content }
    }

    /// A hash of what the resource says, the same on every machine.
    pub fn content(&self) -> u128 {
        self.content
    }
}

/// Over the JSON text, whose fields have one order because the types that it is written from have one.
fn content_hash(resource: &Resource) -> u128 {
    let json = serde_json::to_vec(resource).expect("resources have only text for keys, which JSON can hold");
    xxh3_128(&json)
}

/// The name of a whole snapshot: two nodes with the same revision serve the same settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(pub u128);

impl Revision {
    /// Over entries in the order of their identities.
    pub fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Revision {
        let mut hasher = Xxh3::new();
        for entry in entries {
            let Entry { id, source, uid, generation, resource: _, content } = entry;
            hash_id(id, &mut hasher);
            hash_text(source.name(), &mut hasher);
            hash_text(uid, &mut hasher);
            hasher.update(&generation.to_le_bytes());
            hasher.update(&content.to_le_bytes());
        }
        Revision(hasher.digest128())
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl FromStr for Revision {
    type Err = ParseIntError;

    fn from_str(text: &str) -> Result<Self, ParseIntError> {
        u128::from_str_radix(text, 16).map(Revision)
    }
}

pub(super) fn hash_id(id: &ResourceId, hasher: &mut Xxh3) {
    hash_text(&id.hub, hasher);
    hash_text(id.kind.name(), hasher);
    hash_text(&id.name, hasher);
}

/// With its length, so that no two sequences of texts are the same bytes.
fn hash_text(text: &str, hasher: &mut Xxh3) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}
