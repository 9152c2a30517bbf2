//! From the entries of a snapshot to the form in which hubs are used.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use xxhash_rust::xxh3::Xxh3;

use super::{
    entry::{Entry, ResourceId, Revision, hash_id},
    hub::{Hub, Rules},
    problem::Problem,
    resource::{HubSpec, Resource},
    snapshot::Snapshot,
};
use crate::channel::HubId;

/// A snapshot, ready to be used.
#[derive(Clone, Debug, Default)]
pub struct Compiled {
    pub revision: Revision,
    /// Pointer-equal to those of the previous one where nothing of the hub changed.
    pub hubs: HashMap<HubId, Arc<Hub>>,
    /// What could not be used as it was written; only hubs that have some.
    pub problems: BTreeMap<HubId, Vec<Problem>>,
    digests: HashMap<HubId, u128>,
}

impl Compiled {
    /// The hubs that were added, changed or removed since, by name.
    pub fn changed(&self, previous: &Compiled) -> Vec<HubId> {
        let differs = |hub: &HubId| self.digests.get(hub) != previous.digests.get(hub);
        let removed = previous.digests.keys().filter(|hub| !self.digests.contains_key(*hub));
        let mut changed: Vec<HubId> = self.digests.keys().filter(|hub| differs(hub)).chain(removed).cloned().collect();
        changed.sort_unstable();
        changed
    }
}

impl Snapshot {
    /// Follows from the entries alone; the previous one only saves work.
    pub fn compile(&self, previous: Option<&Compiled>) -> Compiled {
        let entries: Vec<&Entry> = self.entries().map(|entry| &**entry).collect();
        let mut compiled = Compiled { revision: self.revision(), ..Compiled::default() };
        for group in entries.chunk_by(|a, b| a.id.hub == b.id.hub) {
            compiled.add(group, previous);
        }
        compiled
    }
}

impl Compiled {
    /// Takes all entries of one hub.
    fn add(&mut self, group: &[&Entry], previous: Option<&Compiled>) {
        let Some(Entry { resource: Resource::Hub { spec, .. }, id, .. }) = group.first() else {
            return self.add_homeless(group);
        };
        let digest = digest(group);
        let unchanged = previous.filter(|previous| previous.digests.get(&id.hub) == Some(&digest));
        let (hub, problems) = match unchanged.and_then(|previous| Some((previous, previous.hubs.get(&id.hub)?))) {
            Some((previous, hub)) => (hub.clone(), previous.problems.get(&id.hub).cloned().unwrap_or_default()),
            None => build(id, spec, group),
        };
        self.digests.insert(hub.id.clone(), digest);
        if !problems.is_empty() {
            self.problems.insert(hub.id.clone(), problems);
        }
        self.hubs.insert(hub.id.clone(), hub);
    }

    fn add_homeless(&mut self, group: &[&Entry]) {
        for Entry { id, .. } in group {
            let sentence = format!("There is no hub {}, so this has no effect: add a Hub of that name.", id.hub);
            let problem = Problem::new(id.to_string(), sentence);
            self.problems.entry(id.hub.clone()).or_default().push(problem);
        }
    }
}

fn build(id: &ResourceId, spec: &HubSpec, group: &[&Entry]) -> (Arc<Hub>, Vec<Problem>) {
    let mut rules = RulesByName::new(spec, group);
    let mut hub = Hub::with_spec(id.hub.clone(), spec);
    if let Some(name) = &spec.default_rules {
        hub.default_rules = rules.find(name, id, "spec.defaultRules");
    }
    for Entry { id, resource, .. } in group {
        match resource {
            Resource::Hub { .. } | Resource::ChannelRules { .. } => {}
            Resource::Namespace { name, spec, .. } => {
                hub.by_namespace.insert(name.as_str().into(), rules.find(&spec.rules, id, "spec.rules"));
            }
            Resource::Channel { name, spec, .. } => {
                hub.by_channel.insert(name.as_str().into(), rules.find(&spec.rules, id, "spec.rules"));
            }
            Resource::AuthProvider { spec, .. } => hub.auth = Some(Arc::new(spec.clone())),
        }
    }
    (Arc::new(hub), rules.problems)
}

/// The channel rules of one hub, and what was asked of them in vain.
struct RulesByName<'a> {
    rules: HashMap<&'a str, Rules>,
    problems: Vec<Problem>,
}

impl<'a> RulesByName<'a> {
    fn new(hub: &HubSpec, group: &[&'a Entry]) -> RulesByName<'a> {
        let rules = group.iter().filter_map(|entry| match &entry.resource {
            Resource::ChannelRules { name, spec, .. } => Some((name.as_str(), Rules::new(spec, hub))),
            _ => None,
        });
        RulesByName { rules: rules.collect(), problems: Vec::new() }
    }

    /// Missing rules leave the channels closed: the hub's own might be more open than what was meant.
    fn find(&mut self, name: &str, id: &ResourceId, field: &str) -> Rules {
        if let Some(rules) = self.rules.get(name) {
            return *rules;
        }
        let sentence = format!(
            "The hub {} has no channel rules {name}, so these channels are closed to all without an explicit \
             authorization: add ChannelRules of that name, or name others.",
            id.hub
        );
        self.problems.push(Problem::new(field, sentence).within(id));
        Rules::CLOSED
    }
}

/// Over what the entries say and not where they come from: a hub that moves to another source unchanged is unchanged.
fn digest(group: &[&Entry]) -> u128 {
    let mut hasher = Xxh3::new();
    for entry in group {
        hash_id(&entry.id, &mut hasher);
        hasher.update(&entry.content().to_le_bytes());
    }
    hasher.digest128()
}
