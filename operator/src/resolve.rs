//! From what is there to what each cluster's nodes ought to serve, and what each resource is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::settings::{
    entry::{Entry, ResourceId, ResourceKind, Revision, Source},
    resource::Resource,
};
use appsockets_crds::{
    AppSocketsCluster, Hub,
    reference::{HubRef, SecretKeyRef},
};
use k8s_openapi::{ByteString, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{ResourceExt, core::error_boundary::InvalidObject};

use crate::{
    verdict::{Reason, Verdict},
    world::{ClusterKey, Key, Read, Secrets, World},
};

/// What follows from a world.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// What the nodes of each cluster ought to serve; also of those without hubs. Nobody can say that of a cluster that
    /// can't be understood, so it is not here, and its nodes keep what they have.
    pub wanted: BTreeMap<ClusterKey, Arc<Wanted>>,
    pub verdicts: BTreeMap<Key, Verdict>,
    /// Where the resources that nodes ought to serve are found among what is wanted.
    pub places: BTreeMap<Key, (ClusterKey, Vec<ResourceId>)>,
}

/// What the nodes of a cluster ought to serve.
#[derive(Debug, Default)]
pub struct Wanted {
    pub entries: BTreeMap<ResourceId, Arc<Entry>>,
    /// Of the entries.
    pub revision: Revision,
    /// The resources, by uid, of which nodes ought to keep what they have: they are there, but nobody can say what they
    /// ought to be.
    pub kept: BTreeSet<String>,
}

impl Wanted {
    pub fn new(entries: BTreeMap<ResourceId, Arc<Entry>>, kept: BTreeSet<String>) -> Wanted {
        let revision = Revision::of(entries.values().map(|entry| &**entry));
        Wanted { entries, revision, kept }
    }

    /// Whether it asks the same of nodes.
    pub fn is(&self, other: &Wanted) -> bool {
        self.revision == other.revision && self.kept == other.kept
    }
}

/// Decides everything anew.
pub fn resolve(world: &World) -> Resolved {
    let mut resolving = Resolving {
        clusters: known(&world.clusters).map(|cluster| (key_of(cluster), cluster)).collect(),
        known_hubs: known(&world.hubs)
            .map(|hub| ((hub.namespace().unwrap_or_default(), hub.name_any()), hub))
            .collect(),
        wanted: known(&world.clusters).map(|cluster| (key_of(cluster), BTreeMap::new())).collect(),
        kept: BTreeSet::new(),
        verdicts: BTreeMap::new(),
        places: BTreeMap::new(),
        owners: BTreeMap::new(),
        hubs: BTreeMap::new(),
        uncertain: BTreeSet::new(),
        unknown_clusters: BTreeSet::new(),
    };
    for cluster in unknown(&world.clusters) {
        let Key { namespace, name, .. } = Key::new("AppSocketsCluster", &cluster.metadata);
        resolving.unknown_clusters.insert((namespace, name));
    }
    for hub in unknown(&world.hubs) {
        let Key { namespace, name, .. } = Key::new("Hub", &hub.metadata);
        resolving.uncertain.insert((namespace, name));
    }
    resolving.undecodable("AppSocketsCluster", &world.clusters);
    for hub in resolving.by_age("Hub", &world.hubs) {
        resolving.hub(hub);
    }
    for rules in resolving.by_age("ChannelRules", &world.rules) {
        resolving.belonging("ChannelRules", &rules.metadata, &rules.spec.hub_ref, |hub| Ok(rules.resources(hub)));
    }
    for namespace in resolving.by_age("Namespace", &world.namespaces) {
        let resource = |hub: &str| Ok(vec![namespace.resource(hub)]);
        resolving.belonging("Namespace", &namespace.metadata, &namespace.spec.hub_ref, resource);
    }
    for provider in resolving.by_age("AuthProvider", &world.providers) {
        let namespace = provider.namespace().unwrap_or_default();
        let resource = |hub: &str| {
            let resource = provider.resource(hub, |secret| value(world, &namespace, secret));
            resource.map(|resource| vec![resource])
        };
        resolving.belonging("AuthProvider", &provider.metadata, &provider.spec.hub_ref, resource);
    }
    resolving.look_for_rules();
    resolving.resolved()
}

struct Resolving<'a> {
    clusters: BTreeMap<ClusterKey, &'a AppSocketsCluster>,
    known_hubs: BTreeMap<(String, String), &'a Hub>,
    wanted: BTreeMap<ClusterKey, BTreeMap<ResourceId, Arc<Entry>>>,
    kept: BTreeSet<String>,
    verdicts: BTreeMap<Key, Verdict>,
    places: BTreeMap<Key, (ClusterKey, Vec<ResourceId>)>,
    /// Whose an identity is in a cluster.
    owners: BTreeMap<(ClusterKey, ResourceId), Key>,
    /// Hubs that are served: where, and under which name.
    hubs: BTreeMap<(String, String), (ClusterKey, String)>,
    /// Hubs of which nodes keep what they have, and so also what belongs to them: it may be what protects them.
    uncertain: BTreeSet<(String, String)>,
    unknown_clusters: BTreeSet<ClusterKey>,
}

impl Resolving<'_> {
    fn resolved(self) -> Resolved {
        let Resolving { wanted, kept, verdicts, places, .. } = self;
        let wanted =
            wanted.into_iter().map(|(cluster, entries)| (cluster, Arc::new(Wanted::new(entries, kept.clone()))));
        Resolved { wanted: wanted.collect(), verdicts, places }
    }

    /// The older ones first, because of two with one identity the older wins. Those that can't be understood are told so.
    fn by_age<'a, K: ResourceExt>(&mut self, kind: &'static str, objects: &'a [Read<K>]) -> Vec<&'a K> {
        self.undecodable(kind, objects);
        let mut known: Vec<_> = known(objects).collect();
        known.sort_by_key(|object| (object.creation_timestamp().map(|time| time.0), object.uid()));
        known
    }

    fn undecodable<K>(&mut self, kind: &'static str, objects: &[Read<K>]) {
        for InvalidObject { metadata, error } in unknown(objects) {
            self.kept.extend(metadata.uid.clone());
            let message = format!("This operator can't read it, so nodes keep what they have: {error}.");
            self.verdicts.insert(Key::new(kind, metadata), Verdict::stalled(Reason::Undecodable, message));
        }
    }

    fn hub(&mut self, hub: &Hub) {
        let key = Key::new("Hub", &hub.metadata);
        let reference = &hub.spec.cluster_ref;
        let namespace = reference.namespace.clone().unwrap_or_else(|| key.namespace.clone());
        let cluster = (namespace, reference.name.clone());
        let found = self.clusters.get(&cluster);
        let verdict = match found {
            None if self.unknown_clusters.contains(&cluster) => Verdict::stalled(
                Reason::ClusterNotServed,
                format!("The AppSocketsCluster {}/{} can't be read: see its status.", cluster.0, cluster.1),
            ),
            None => Verdict::stalled(
                Reason::ClusterNotFound,
                format!("There is no AppSocketsCluster {}/{}: make one, or name another.", cluster.0, cluster.1),
            ),
            Some(found) if !allows(found, &key.namespace) => Verdict::stalled(
                Reason::RefNotGranted,
                format!(
                    "The AppSocketsCluster {}/{} has no hubs of the namespace {}: have it added to its spec.tenants.namespaces.",
                    cluster.0, cluster.1, key.namespace
                ),
            ),
            Some(_) => self.want(&cluster, &key, &hub.metadata, vec![hub.resource()]),
        };
        let place = (key.namespace.clone(), key.name.clone());
        match verdict {
            Verdict::Wanted => drop(self.hubs.insert(place, (cluster, hub.hub_name()))),
            Verdict::Stalled { reason: Reason::Invalid, .. } => drop(self.uncertain.insert(place)),
            _ => {}
        }
        self.verdicts.insert(key, verdict);
    }

    /// What belongs to a hub.
    fn belonging(
        &mut self,
        kind: &'static str,
        metadata: &ObjectMeta,
        reference: &HubRef,
        resources: impl FnOnce(&str) -> Result<Vec<Resource>, Verdict>,
    ) {
        let key = Key::new(kind, metadata);
        let namespace = reference.namespace.clone().unwrap_or_else(|| key.namespace.clone());
        if self.uncertain.contains(&(namespace, reference.name.clone())) {
            self.kept.extend(metadata.uid.clone());
        }
        let verdict = match self.served(&key, reference) {
            Err(verdict) => verdict,
            Ok((cluster, hub)) => match resources(&hub) {
                Ok(resources) => self.want(&cluster, &key, metadata, resources),
                Err(verdict) => {
                    self.kept.extend(metadata.uid.clone());
                    verdict
                }
            },
        };
        self.verdicts.insert(key, verdict);
    }

    /// Where a hub is served that something refers to, if that may.
    fn served(&self, from: &Key, reference: &HubRef) -> Result<(ClusterKey, String), Verdict> {
        let namespace = reference.namespace.clone().unwrap_or_else(|| from.namespace.clone());
        let wanted = (namespace, reference.name.clone());
        let place = format!("{}/{}", wanted.0, wanted.1);
        let hub = self.known_hubs.get(&wanted);
        let not_granted = || {
            let message = format!(
                "The Hub {place} lets nothing of the namespace {} refer to it: have that added to its spec.allowFrom.",
                from.namespace
            );
            Verdict::stalled(Reason::RefNotGranted, message)
        };
        match hub {
            // Whether a hub of another namespace is there is told only to who may refer to it.
            None if wanted.0 != from.namespace => Err(not_granted()),
            None => Err(Verdict::stalled(
                Reason::HubNotFound,
                format!("There is no Hub {place}: make one, or name another."),
            )),
            Some(hub) if wanted.0 != from.namespace && !hub.spec.allow_from.contains(&from.namespace) => {
                Err(not_granted())
            }
            Some(_) => self.hubs.get(&wanted).cloned().ok_or_else(|| {
                Verdict::stalled(Reason::HubNotServed, format!("The Hub {place} is not served: see its status."))
            }),
        }
    }

    /// Takes what a resource says, unless it can't be or an older resource has said it.
    fn want(&mut self, cluster: &ClusterKey, key: &Key, metadata: &ObjectMeta, resources: Vec<Resource>) -> Verdict {
        let problems: Vec<_> =
            resources.iter().flat_map(Resource::problems).map(|problem| problem.to_string()).collect();
        if !problems.is_empty() {
            self.kept.extend(metadata.uid.clone());
            return Verdict::stalled(Reason::Invalid, problems.join(" "));
        }
        let owner = |resource: &Resource| self.owners.get(&(cluster.clone(), resource.id()));
        if let Some((resource, owner)) = resources.iter().find_map(|resource| Some((resource, owner(resource)?))) {
            return Verdict::stalled(
                Reason::Conflict,
                format!(
                    "{} is already said by {owner}, which is older: delete one of them, or name another.",
                    resource.id()
                ),
            );
        }
        let uid = metadata.uid.clone().unwrap_or_default();
        let generation = metadata.generation.unwrap_or_default().max(0).unsigned_abs();
        let wanted = self.wanted.entry(cluster.clone()).or_default();
        let mut ids = Vec::with_capacity(resources.len());
        for resource in resources {
            self.owners.insert((cluster.clone(), resource.id()), key.clone());
            let entry = Entry::new(Source::Operator, uid.as_str(), generation, resource);
            ids.push(entry.id.clone());
            wanted.insert(entry.id.clone(), Arc::new(entry));
        }
        self.places.insert(key.clone(), (cluster.clone(), ids));
        Verdict::Wanted
    }

    /// Tells those that name channel rules which are not there. Nodes close these channels meanwhile.
    fn look_for_rules(&mut self) {
        for (cluster, entries) in &self.wanted {
            for entry in entries.values() {
                let rules = match &entry.resource {
                    Resource::Hub { spec, .. } => spec.default_rules.as_deref(),
                    Resource::Namespace { spec, .. } => Some(&*spec.rules),
                    _ => None,
                };
                let Some(rules) = rules else { continue };
                let id = ResourceId::new(ResourceKind::ChannelRules, entry.id.hub.clone(), rules);
                if entries.contains_key(&id) {
                    continue;
                }
                let message = format!(
                    "The hub {} has no ChannelRules {rules}, so these channels are closed to all without an explicit \
                     authorization: make them, or name others.",
                    entry.id.hub
                );
                if let Some(owner) = self.owners.get(&(cluster.clone(), entry.id.clone())) {
                    let verdict = Verdict::stalled(Reason::RulesNotFound, message);
                    self.verdicts.insert(owner.clone(), verdict);
                }
            }
        }
    }
}

/// Which cluster it is.
pub fn key_of(cluster: &AppSocketsCluster) -> ClusterKey {
    (cluster.namespace().unwrap_or_default(), cluster.name_any())
}

fn allows(cluster: &AppSocketsCluster, namespace: &str) -> bool {
    let tenants = cluster.spec.tenants.clone().unwrap_or_default();
    cluster.namespace().as_deref() == Some(namespace)
        || tenants.all
        || tenants.namespaces.iter().any(|allowed| allowed == namespace)
}

fn known<K>(objects: &[Read<K>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

fn unknown<K>(objects: &[Read<K>]) -> impl Iterator<Item = &InvalidObject> {
    objects.iter().filter_map(|object| object.0.as_ref().err())
}

/// What stands in a Secret.
fn value(world: &World, namespace: &str, secret: &SecretKeyRef) -> Result<String, Verdict> {
    let SecretKeyRef { name, key } = secret;
    let not_found = |message: String| Err(Verdict::stalled(Reason::SecretNotFound, message));
    match world.secrets.get(namespace) {
        None => Err(Verdict::Waiting {
            reason: "ReadingSecrets",
            message: format!("The Secrets of the namespace {namespace} are being read."),
        }),
        Some(Secrets::Forbidden) => Err(Verdict::stalled(
            Reason::SecretNotReadable,
            format!(
                "The operator may not read Secrets of the namespace {namespace}: let it, with kubectl create rolebinding \
                 appsockets-operator-secrets --clusterrole=appsockets-operator-tenant-secrets \
                 --serviceaccount=NAMESPACE:appsockets-operator -n {namespace}, where NAMESPACE is the operator's."
            ),
        )),
        Some(Secrets::Read(secrets)) => {
            match secrets.get(name).map(|secret| secret.data.as_ref().and_then(|data| data.get(key))) {
                None => not_found(format!("There is no Secret {namespace}/{name}: make one, or name another.")),
                Some(None) => {
                    not_found(format!("The Secret {namespace}/{name} has no key {key}: add it, or name another."))
                }
                Some(Some(ByteString(value))) => String::from_utf8(value.clone()).or_else(|_| {
                    not_found(format!("The key {key} of the Secret {namespace}/{name} is no text: write it in UTF-8."))
                }),
            }
        }
    }
}

#[cfg(test)]
mod tests;
