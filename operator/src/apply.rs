//! Makes the objects of each cluster what they ought to be, and puts right what others have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    NamespaceResourceScope, api::apps::v1::StatefulSet, apimachinery::pkg::apis::meta::v1::OwnerReference,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::reflector::{ObjectRef, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{
    children::{Children, Names, Pods, Role, children},
    decide::Decided,
    events::{Events, Note},
    keys::{self, Keys},
    resolve::key_of,
    rolling::{Rolling, Surroundings},
    told::Told,
    watching::Watched,
};

/// By which the API server knows what the operator has set.
pub const MANAGER: &str = "appsockets-operator";
/// How often everything is looked at although nothing has changed.
const LOOK: Duration = Duration::from_secs(10);
/// The same, while pods move on.
const LOOK_BUSY: Duration = Duration::from_millis(500);
/// For all objects of a cluster.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(30);

/// Why the objects of a cluster are not what they ought to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub reason: &'static str,
    pub message: String,
    /// Whether only a person can help.
    pub stalled: bool,
}

/// Of which clusters the objects are not what they ought to be.
pub type Problems = Told<Problem>;

/// Of which generation of a cluster the objects are all there, and what follows from them is known.
pub type Made = Told<i64>;

/// Applies what clusters are made of, for ever.
pub struct Applying {
    pub client: Client,
    pub watched: Arc<Watched>,
    pub decided: watch::Receiver<Arc<Decided>>,
    pub problems: Arc<Problems>,
    pub made: Arc<Made>,
    pub rolling: Rolling,
    pub keys: Keys,
    pub events: Events,
    /// By the uid of the cluster and the object: a cluster that is made anew has written nothing yet.
    pub applied: BTreeMap<(String, String), Applied>,
}

/// What clusters are made of.
trait Object:
    Resource<Scope = NamespaceResourceScope, DynamicType = ()>
    + Serialize
    + DeserializeOwned
    + Clone
    + Debug
    + Send
    + Sync
    + 'static
{
}

impl<K> Object for K where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Serialize
        + DeserializeOwned
        + Clone
        + Debug
        + Send
        + Sync
        + 'static
{
}

/// What was written last.
pub struct Applied {
    wanted: String,
    version: u64,
    /// The version of the whole object, which rises also with what has no generation.
    whole: u64,
    /// What the API server then had of the metadata.
    ours: Ours,
    /// Whether the watch has come as far as the write, so that an absence says something.
    seen: bool,
}

impl Applied {
    /// Whether somebody has changed the object since. It is compared with what the API server made of the write: what is
    /// left out there would be written for ever.
    fn drifted<K: Object>(&mut self, there: Option<&K>, wanted: &K) -> bool {
        let Some(there) = there else { return self.seen };
        self.seen |= version(there) >= self.version;
        version(there) > self.version || (whole(there) > self.whole && Ours::of(there, wanted) != self.ours)
    }
}

/// The labels, annotations and owners of an object that are the operator's. A change of them raises no generation.
#[derive(Clone, Debug, PartialEq)]
struct Ours {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    owners: Vec<OwnerReference>,
}

impl Ours {
    fn of<K: Resource>(there: &K, wanted: &K) -> Ours {
        let (mut labels, mut annotations) = (there.labels().clone(), there.annotations().clone());
        labels.retain(|name, _| wanted.labels().contains_key(name));
        annotations.retain(|name, _| wanted.annotations().contains_key(name));
        let mut owners = there.owner_references().to_vec();
        owners.retain(|owner| wanted.owner_references().iter().any(|wanted| wanted.uid == owner.uid));
        Ours { labels, annotations, owners }
    }
}

impl Applying {
    pub async fn run(mut self) {
        let mut children_changed = self.watched.children.subscribe();
        loop {
            let decided = self.decided.borrow_and_update().clone();
            children_changed.mark_unchanged();
            let clusters = || decided.world.clusters.iter().filter_map(|cluster| cluster.0.as_ref().ok());
            let uids: BTreeSet<_> = clusters().filter_map(|cluster| cluster.uid()).collect();
            self.applied.retain(|(uid, _), _| uids.contains(uid));
            self.rolling.forget_others(&uids);
            let there = clusters().map(key_of).collect();
            self.problems.forget_others(&there);
            self.made.forget_others(&there);
            self.rolling.rollouts.forget_others(&there);
            self.keys.rotations.forget_others(&there);
            let mut look = LOOK;
            for cluster in clusters() {
                let key = key_of(cluster);
                // What is decided may be kept although its resource is gone, for the sake of nodes that live.
                if !self.watched.has_cluster(cluster) {
                    continue;
                }
                if cluster.spec.paused || cluster.metadata.deletion_timestamp.is_some() {
                    self.problems.set(&key, None);
                    self.rolling.rollouts.set(&key, None);
                    continue;
                }
                let applying = Box::pin(self.cluster(cluster, &decided));
                let problem = timeout(CLUSTER_TIMEOUT, applying).await.unwrap_or_else(|_| Err(late())).err();
                if let Some(problem) = problem.as_ref().filter(|problem| problem.reason != keys::READING) {
                    warn!(reason = problem.reason, "{}/{}: {}", key.0, key.1, problem.message);
                }
                self.problems.set(&key, problem);
                if self.rolling.is_busy(cluster) || self.keys.rotations.of(&key).is_some_and(|waiting| waiting.soon) {
                    look = LOOK_BUSY;
                }
            }
            tokio::select! {
                changed = self.decided.changed() => if changed.is_err() { return },
                changed = children_changed.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(look) => {}
            }
        }
    }

    async fn cluster(&mut self, cluster: &AppSocketsCluster, decided: &Decided) -> Result<(), Problem> {
        let (namespace, name) = key_of(cluster);
        self.keys.ensure(cluster, decided.world.secrets.get(&namespace), &self.rolling).await?;
        let watched = self.watched.clone();
        let names = Names::of(cluster);
        let core_set = self.set(cluster, names.set(Role::Core), true).await?;
        let edge_set = self.set(cluster, names.set(Role::Edge), cluster.spec.edges.is_some()).await?;
        // One of somebody else is not touched where none is asked for.
        let edge_set = edge_set.filter(|set| cluster.spec.edges.is_some() || owned(cluster, "", &**set).is_ok());
        let mut is_over = true;
        let mut pods = async |role: Role, set: Option<&StatefulSet>| {
            let behind = set.is_some_and(|set| self.is_behind(cluster, set));
            let surroundings = Surroundings { behind, is_later: !is_over, decided };
            let (window, over) = self.rolling.window(cluster, role, set, surroundings).await;
            is_over &= over;
            window
        };
        let core = Pods { window: pods(Role::Core, core_set.as_deref()).await, before: core_set.as_deref() };
        let edges = match cluster.spec.edges.is_some() || edge_set.is_some() {
            true => Some(Pods { window: pods(Role::Edge, edge_set.as_deref()).await, before: edge_set.as_deref() }),
            false => {
                self.rolling.forget(cluster, Role::Edge);
                None
            }
        };
        self.rolling.tell(cluster);
        // Those that leave are still of the set, until the last is gone.
        let edges = edges.filter(|edges| cluster.spec.edges.is_some() || !is_empty(edges));
        let Children { account, size, nodes, clients, budget, edge_budget, autoscaler, policy, stateful_set, edges } =
            children(cluster, core, edges);
        self.ensure(cluster, &watched.accounts, account).await?;
        self.ensure(cluster, &watched.config_maps, size).await?;
        self.ensure(cluster, &watched.services, nodes).await?;
        self.ensure(cluster, &watched.services, clients).await?;
        self.ensure(cluster, &watched.budgets, budget).await?;
        self.wanted(cluster, &watched.budgets, edge_budget, names.budget(Role::Edge)).await?;
        self.wanted(cluster, &watched.autoscalers, autoscaler, &name).await?;
        self.wanted(cluster, &watched.policies, policy, &names.nodes).await?;
        // Last, so that no pod begins before what it needs is there.
        let mut changed = self.ensure(cluster, &watched.stateful_sets, stateful_set).await?;
        changed |= self.wanted(cluster, &watched.stateful_sets, edges, names.set(Role::Edge)).await?;
        // What follows from a set that was just changed is not known yet.
        if is_over && !changed {
            self.made.set(&key_of(cluster), cluster.metadata.generation);
        }
        Ok(())
    }

    /// A StatefulSet as it is. One that is asked for and not seen may be there all the same, if somebody has taken its
    /// labels: its pods would be deleted by who takes it for missing.
    async fn set(
        &self,
        cluster: &AppSocketsCluster,
        name: &str,
        asked: bool,
    ) -> Result<Option<Arc<StatefulSet>>, Problem> {
        let namespace = cluster.namespace().unwrap_or_default();
        let seen = self.watched.stateful_sets.get(&ObjectRef::new(name).within(&namespace));
        if seen.is_some() || !asked {
            return Ok(seen);
        }
        let api: Api<StatefulSet> = Api::namespaced(self.client.clone(), &namespace);
        let found =
            api.get_opt(name).await.map_err(|error| refused(&format!("StatefulSet {namespace}/{name}"), &error))?;
        Ok(found.filter(|set| owned(cluster, "StatefulSet", set).is_ok()).map(Arc::new))
    }

    /// Whether what is known of a StatefulSet is older than what was written of it.
    fn is_behind(&self, cluster: &AppSocketsCluster, set: &StatefulSet) -> bool {
        let key = (cluster.uid().unwrap_or_default(), id(set));
        self.applied.get(&key).is_some_and(|applied| applied.version > version(set))
    }

    /// Deletes an object of the cluster that is no longer asked for.
    async fn absent<K: Object>(
        &mut self,
        cluster: &AppSocketsCluster,
        store: &Store<K>,
        name: &str,
    ) -> Result<(), Problem> {
        let namespace = cluster.namespace().unwrap_or_default();
        let Some(there) = store.get(&ObjectRef::new(name).within(&namespace)) else { return Ok(()) };
        let kind = K::kind(&());
        if owned(cluster, &kind, &*there).is_err() {
            return Ok(());
        }
        self.applied.remove(&(cluster.uid().unwrap_or_default(), id(&*there)));
        let only_it = Preconditions { uid: there.uid(), resource_version: None };
        let params = DeleteParams { preconditions: Some(only_it), ..DeleteParams::default() };
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        match api.delete(name, &params).await {
            Ok(_) => info!("The {} is no longer wanted, and deleted.", id(&*there)),
            Err(kube::Error::Api(status)) if status.code == 404 => {}
            Err(error) => return Err(refused(&id(&*there), &error)),
        }
        Ok(())
    }

    /// Makes an object what it ought to be, or deletes the one of that name where there ought to be none.
    async fn wanted<K: Object>(
        &mut self,
        cluster: &AppSocketsCluster,
        store: &Store<K>,
        wanted: Option<K>,
        name: &str,
    ) -> Result<bool, Problem> {
        match wanted {
            Some(wanted) => self.ensure(cluster, store, wanted).await,
            None => self.absent(cluster, store, name).await.map(|()| false),
        }
    }

    /// Makes an object what it ought to be, if it is not known to be that already, and tells whether that changed it.
    async fn ensure<K: Object>(
        &mut self,
        cluster: &AppSocketsCluster,
        store: &Store<K>,
        wanted: K,
    ) -> Result<bool, Problem> {
        let kind = K::kind(&()).into_owned();
        let (name, namespace) = (wanted.name_any(), wanted.namespace().unwrap_or_default());
        let id = id(&wanted);
        let key = (cluster.uid().unwrap_or_default(), id.clone());
        let json = serde_json::to_string(&wanted).unwrap_or_default();
        let there = store.get(&ObjectRef::new(&name).within(&namespace));
        let applied = self.applied.get_mut(&key);
        let drifted = applied.is_some_and(|applied| applied.drifted(there.as_deref(), &wanted));
        let applied = self.applied.get(&key);
        if applied.is_some_and(|applied| applied.wanted == json) && !drifted {
            return Ok(false);
        }
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        if applied.is_none() {
            let found = match &there {
                Some(there) => Some((**there).clone()),
                None => api.get_opt(&name).await.map_err(|error| refused(&id, &error))?,
            };
            found.map_or(Ok(()), |found| owned(cluster, &kind, &found))?;
        }
        let params = PatchParams::apply(MANAGER).force();
        let patch = Patch::Apply(&wanted);
        let written = api.patch(&name, &params, &patch).await.map_err(|error| refused(&id, &error))?;
        let (is_new, is_gone) = (there.is_none() && applied.is_none(), there.is_none());
        let changed = there.is_some_and(|there| there.resource_version() != written.resource_version());
        if drifted && (changed || is_gone) {
            info!("The {id} was changed by somebody, and is put right.");
            let note = format!("The {id} was not as it ought to be: it is put right.");
            self.events.cluster(cluster, Note::warning("DriftCorrected", &note));
        } else if is_new || changed {
            info!("The {id} is applied.");
        }
        let (version, whole, ours) = (version(&written), whole(&written), Ours::of(&written, &wanted));
        self.applied.insert(key, Applied { wanted: json, version, whole, ours, seen: false });
        Ok(is_gone || changed)
    }
}

/// Whether a StatefulSet has no pods and is to have none.
fn is_empty(pods: &Pods<'_>) -> bool {
    let there = pods.before.and_then(|set| set.status.as_ref()).map_or(0, |status| status.replicas);
    pods.window.replicas == 0 && there == 0
}

fn id<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// What rises when somebody changes an object: its generation, which leaves out its status, where it has one.
fn version<K: Resource>(object: &K) -> u64 {
    let generation = object.meta().generation.and_then(|generation| generation.try_into().ok());
    generation.unwrap_or_else(|| whole(object))
}

/// What rises when anything of an object changes.
fn whole<K: Resource>(object: &K) -> u64 {
    object.meta().resource_version.as_ref().and_then(|version| version.parse().ok()).unwrap_or(0)
}

/// Whether an object is the cluster's own. Nothing of others is taken over.
pub fn owned<K: Resource>(cluster: &AppSocketsCluster, kind: &str, found: &K) -> Result<(), Problem> {
    let uid = cluster.uid().unwrap_or_default();
    if found.owner_references().iter().any(|owner| owner.uid == uid) {
        return Ok(());
    }
    let name = found.name_any();
    Err(Problem {
        reason: "NameTaken",
        message: format!(
            "There is a {kind} {name} already, which is not this cluster's: delete it, or name the cluster otherwise."
        ),
        stalled: true,
    })
}

fn late() -> Problem {
    let message = "The API server does not answer when it is given the cluster's objects.".to_owned();
    Problem { reason: "NotApplied", message, stalled: false }
}

pub fn refused(id: &str, error: &kube::Error) -> Problem {
    let (reason, stalled) = match error {
        kube::Error::Api(status) if status.code == 403 => ("Forbidden", true),
        kube::Error::Api(status) if status.code == 422 || status.code == 400 => ("Invalid", true),
        _ => ("NotApplied", false),
    };
    let why = match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    };
    Problem { reason, message: format!("The API server does not take the {id}: {why}"), stalled }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::{Applied, Ours, StatefulSet, version, whole};

    fn set(generation: i64, whole: u64, metadata: &Value) -> StatefulSet {
        let mut all = json!({
            "name": "main", "generation": generation, "resourceVersion": whole.to_string(),
            "labels": {"appsockets.io/cluster": "main", "team": "a"}, "annotations": {"made": "x", "others": "y"},
            "ownerReferences": [{"apiVersion": "v1", "kind": "AppSocketsCluster", "name": "main", "uid": "uid-1"}],
        });
        for (name, value) in metadata.as_object().unwrap() {
            all[name] = value.clone();
        }
        serde_json::from_value(json!({"metadata": all})).unwrap()
    }

    #[test]
    fn what_others_take_from_an_object_is_noticed() {
        let none = json!({});
        let mut wanted = set(0, 0, &none);
        for ours in [&mut wanted.metadata.labels, &mut wanted.metadata.annotations] {
            ours.as_mut().unwrap().retain(|name, _| name != "team" && name != "others");
        }
        let written = set(2, 10, &none);
        let drifted = |there: Option<&StatefulSet>| {
            let (version, whole, ours) = (version(&written), whole(&written), Ours::of(&written, &wanted));
            Applied { wanted: String::new(), version, whole, ours, seen: false }.drifted(there, &wanted)
        };
        let changed = |generation, whole, metadata: Value| drifted(Some(&set(generation, whole, &metadata)));
        assert!(!changed(2, 10, json!({})) && !changed(2, 11, json!({})), "a status was written");
        assert!(changed(3, 11, json!({})), "somebody has changed the spec");
        assert!(changed(2, 11, json!({"ownerReferences": []})));
        assert!(changed(2, 11, json!({"labels": {"team": "a"}})));
        assert!(changed(2, 11, json!({"annotations": {"made": "z", "others": "y"}})));
        let others = json!({"labels": {"appsockets.io/cluster": "main", "team": "b"}, "annotations": {"made": "x"}});
        assert!(!changed(2, 11, others), "that is nothing of the operator");
        assert!(!changed(2, 9, json!({"annotations": {"made": "w"}})), "the watch is behind");
        assert!(!drifted(None), "it may not be seen yet");
    }
}
