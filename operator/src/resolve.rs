//! From what is there to what each cluster's nodes ought to serve, and what each resource is told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::HubId,
    settings::{
        entry::{Entry, ResourceId, ResourceKind, Revision, Source},
        resource::Resource,
    },
};
use appsockets_crds::{AppSocketsCluster, Hub, reference::HubRef};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use crate::{
    verdict::{Reason, Verdict},
    world::{ClusterKey, Key, Read, Unread, World},
};

mod secrets;

/// What follows from a world.
#[derive(Clone, Debug, Default)]
pub struct Resolved {
    /// What the nodes of each cluster ought to serve; also of those without hubs. Nobody can say that of a cluster that
    /// can't be understood, or of whose hubs only some are seen, so it is not here, and its nodes keep what they have.
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
    let is_seen = |cluster: &&AppSocketsCluster| unseen(cluster, world.scope.as_deref()).is_none();
    let clusters: BTreeMap<_, _> =
        known(&world.clusters).filter(is_seen).map(|cluster| (key_of(cluster), cluster)).collect();
    let all_clusters =
        world.clusters.iter().map(|cluster| (cluster.namespace().unwrap_or_default(), cluster.name_any()));
    let mut resolving = Resolving {
        unserved: all_clusters.filter(|cluster| !clusters.contains_key(cluster)).collect(),
        wanted: clusters.keys().map(|cluster| (cluster.clone(), BTreeMap::new())).collect(),
        clusters,
        known_hubs: known(&world.hubs)
            .map(|hub| ((hub.namespace().unwrap_or_default(), hub.name_any()), hub))
            .collect(),
        kept: BTreeSet::new(),
        kept_rules: BTreeMap::new(),
        verdicts: BTreeMap::new(),
        places: BTreeMap::new(),
        owners: BTreeMap::new(),
        hubs: BTreeMap::new(),
        uncertain: BTreeSet::new(),
    };
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
            let resource = provider.resource(hub, |secret| secrets::value(world, &namespace, secret));
            resource.map(|resource| vec![resource])
        };
        resolving.belonging("AuthProvider", &provider.metadata, &provider.spec.hub_ref, resource);
    }
    resolving.look_for_rules();
    resolving.resolved()
}

struct Resolving<'a> {
    clusters: BTreeMap<ClusterKey, &'a AppSocketsCluster>,
    /// Those that nobody can say the whole of.
    unserved: BTreeSet<ClusterKey>,
    known_hubs: BTreeMap<Place, &'a Hub>,
    wanted: BTreeMap<ClusterKey, BTreeMap<ResourceId, Arc<Entry>>>,
    kept: BTreeSet<String>,
    /// Channel rules of which nodes keep what they have, by name: where they are, and the hub that they are for, unless
    /// nobody can read that.
    kept_rules: BTreeMap<String, Vec<(String, Option<Place>)>>,
    verdicts: BTreeMap<Key, Verdict>,
    places: BTreeMap<Key, (ClusterKey, Vec<ResourceId>)>,
    /// Whose an identity is in a cluster.
    owners: BTreeMap<(ClusterKey, ResourceId), Key>,
    /// Hubs that are served: where, and under which name.
    hubs: BTreeMap<Place, (ClusterKey, String)>,
    /// Hubs of which nodes keep what they have, and so also what belongs to them: it may be what protects them.
    uncertain: BTreeSet<Place>,
}

/// Kubernetes namespace and name of a resource.
type Place = (String, String);

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
        for Unread { metadata, error, .. } in unknown(objects) {
            self.keep(&Key::new(kind, metadata), metadata, None);
            let message = format!("This operator can't read it, so nodes keep what they have: {error}.");
            self.verdicts.insert(Key::new(kind, metadata), Verdict::stalled(Reason::Undecodable, message));
        }
    }

    /// Has nodes keep what they have of a resource.
    fn keep(&mut self, key: &Key, metadata: &ObjectMeta, hub: Option<Place>) {
        self.kept.extend(metadata.uid.clone());
        if key.kind == "ChannelRules" {
            self.kept_rules.entry(key.name.clone()).or_default().push((key.namespace.clone(), hub));
        }
    }

    fn hub(&mut self, hub: &Hub) {
        let key = Key::new("Hub", &hub.metadata);
        let reference = &hub.spec.cluster_ref;
        let namespace = reference.namespace.clone().unwrap_or_else(|| key.namespace.clone());
        let cluster = (namespace, reference.name.clone());
        let found = self.clusters.get(&cluster);
        let verdict = match found {
            None if self.unserved.contains(&cluster) => Verdict::stalled(
                Reason::ClusterNotServed,
                format!("The AppSocketsCluster {}/{} is handed nothing over: see its status.", cluster.0, cluster.1),
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
        if verdict == Verdict::Wanted {
            self.hubs.insert(place, (cluster, hub.hub_name()));
        } else if verdict.is_stalled_by(Reason::Invalid) {
            self.keep(&key, &hub.metadata, None);
            self.uncertain.insert(place);
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
        let place = (namespace, reference.name.clone());
        let (verdict, is_unusable) = match self.served(&key, reference) {
            Err(verdict) => (verdict, false),
            Ok((cluster, hub)) => match resources(&hub) {
                Err(verdict) => (verdict, true),
                Ok(resources) => {
                    let verdict = self.want(&cluster, &key, metadata, resources);
                    let is_invalid = verdict.is_stalled_by(Reason::Invalid);
                    (verdict, is_invalid)
                }
            },
        };
        if is_unusable || self.uncertain.contains(&place) {
            self.keep(&key, metadata, Some(place));
        }
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
            // Nodes may hold what it was before, so nobody younger gets its place.
            for resource in &resources {
                self.owners.entry((cluster.clone(), resource.id())).or_insert_with(|| key.clone());
            }
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

    /// Whether nodes keep what they have of a hub's channel rules. Rules that nobody can read are taken for this hub's
    /// where they may be.
    fn has_kept_rules(&self, cluster: &ClusterKey, hub: &HubId, rules: &str) -> bool {
        let Some(kept) = self.kept_rules.get(rules) else { return false };
        let Some(hub) = self.owners.get(&(cluster.clone(), ResourceId::hub(hub.clone()))) else { return false };
        let place = (hub.namespace.clone(), hub.name.clone());
        let allows = |namespace: &String| {
            *namespace == place.0
                || self.known_hubs.get(&place).is_some_and(|hub| hub.spec.allow_from.contains(namespace))
        };
        kept.iter().any(|(namespace, of)| of.as_ref().map_or_else(|| allows(namespace), |of| *of == place))
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
                let hub = &entry.id.hub;
                let (reason, message) = match self.has_kept_rules(cluster, hub, rules) {
                    true => (
                        Reason::RulesNotServed,
                        format!(
                            "The ChannelRules {rules} of the hub {hub} can't be used, so nodes keep what they have of \
                             them, and close these channels where that is nothing: see their status."
                        ),
                    ),
                    false => (
                        Reason::RulesNotFound,
                        format!(
                            "The hub {hub} has no ChannelRules {rules}, so these channels are closed to all without an \
                             explicit authorization: make them, or name others."
                        ),
                    ),
                };
                if let Some(owner) = self.owners.get(&(cluster.clone(), entry.id.clone())) {
                    self.verdicts.insert(owner.clone(), Verdict::stalled(reason, message));
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

/// The Kubernetes namespaces that may have hubs in a cluster although this operator does not see them; None: it sees
/// all. What nodes are handed is the whole, so they would take the hubs of such a namespace for gone.
pub fn unseen(cluster: &AppSocketsCluster, scope: Option<&str>) -> Option<String> {
    let (scope, tenants) = (scope?, cluster.spec.tenants.as_ref()?);
    let others: Vec<_> = tenants.namespaces.iter().map(String::as_str).filter(|other| *other != scope).collect();
    match (tenants.all, &*others) {
        (true, _) => Some("all namespaces".to_owned()),
        (false, []) => None,
        (false, [other]) => Some(format!("the namespace {other}")),
        (false, [other, more @ ..]) => Some(format!("the namespace {other} and {} more", more.len())),
    }
}

fn known<K>(objects: &[Read<K>]) -> impl Iterator<Item = &K> {
    objects.iter().filter_map(|object| object.0.as_ref().ok())
}

fn unknown<K>(objects: &[Read<K>]) -> impl Iterator<Item = &Unread> {
    objects.iter().filter_map(|object| object.0.as_ref().err())
}

#[cfg(test)]
mod tests;
