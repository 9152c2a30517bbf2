//! Makes the objects of each cluster what they ought to be, and puts right what others have changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::Arc,
    time::Duration,
};

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
    runtime::reflector::{ObjectRef, Store},
};
use serde::{Serialize, de::DeserializeOwned};
use tokio::{sync::watch, time::timeout};
use tracing::{info, warn};

use crate::{
    children::{Children, Names, children},
    decide::Decided,
    events::{Events, Note},
    keys::{self, Keys},
    resolve::key_of,
    rolling::Rolling,
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

/// What was written last.
pub struct Applied {
    wanted: String,
    version: u64,
    /// Whether the watch has come as far as the write, so that an absence says something.
    seen: bool,
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
                if cluster.spec.paused || cluster.metadata.deletion_timestamp.is_some() {
                    self.problems.set(&key, None);
                    self.rolling.rollouts.set(&key, None);
                    continue;
                }
                let applying = self.cluster(cluster, &decided);
                let problem = timeout(CLUSTER_TIMEOUT, applying).await.unwrap_or_else(|_| Err(late())).err();
                if let Some(problem) = problem.as_ref().filter(|problem| problem.reason != keys::READING) {
                    warn!(reason = problem.reason, "{}/{}: {}", key.0, key.1, problem.message);
                }
                self.problems.set(&key, problem);
                if self.rolling.is_busy(cluster) || self.keys.rotations.of(&key).is_some() {
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
        let set = watched.stateful_sets.get(&ObjectRef::new(&name).within(&namespace));
        let behind = set.as_ref().is_some_and(|set| {
            let key = (cluster.uid().unwrap_or_default(), id(&**set));
            self.applied.get(&key).is_some_and(|applied| applied.version > version(&**set))
        });
        let (window, is_over) = self.rolling.window(cluster, set.as_deref(), behind, decided).await;
        let Children { account, size, nodes, clients, budget, autoscaler, policy, stateful_set } =
            children(cluster, window, set.as_deref());
        self.ensure(cluster, &watched.accounts, account).await?;
        self.ensure(cluster, &watched.config_maps, size).await?;
        self.ensure(cluster, &watched.services, nodes).await?;
        self.ensure(cluster, &watched.services, clients).await?;
        self.ensure(cluster, &watched.budgets, budget).await?;
        match autoscaler {
            Some(autoscaler) => drop(self.ensure(cluster, &watched.autoscalers, autoscaler).await?),
            None => self.absent(cluster, &watched.autoscalers, &name).await?,
        }
        match policy {
            Some(policy) => drop(self.ensure(cluster, &watched.policies, policy).await?),
            None => self.absent(cluster, &watched.policies, &Names::of(cluster).nodes).await?,
        }
        // Last, so that no pod begins before what it needs is there.
        let changed = self.ensure(cluster, &watched.stateful_sets, stateful_set).await?;
        // What follows from a set that was just changed is not known yet.
        if is_over && !changed {
            self.made.set(&key_of(cluster), cluster.metadata.generation);
        }
        Ok(())
    }

    /// Deletes an object of the cluster that is no longer asked for.
    async fn absent<K>(&mut self, cluster: &AppSocketsCluster, store: &Store<K>, name: &str) -> Result<(), Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + Debug + 'static,
    {
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

    /// Makes an object what it ought to be, if it is not known to be that already, and tells whether that changed it.
    async fn ensure<K>(&mut self, cluster: &AppSocketsCluster, store: &Store<K>, wanted: K) -> Result<bool, Problem>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Serialize
            + DeserializeOwned
            + Clone
            + Debug
            + Send
            + Sync
            + 'static,
    {
        let kind = K::kind(&()).into_owned();
        let (name, namespace) = (wanted.name_any(), wanted.namespace().unwrap_or_default());
        let id = id(&wanted);
        let key = (cluster.uid().unwrap_or_default(), id.clone());
        let json = serde_json::to_string(&wanted).unwrap_or_default();
        let there = store.get(&ObjectRef::new(&name).within(&namespace));
        let applied = self.applied.get_mut(&key);
        let drifted = match (applied, &there) {
            (None, _) => false,
            (Some(applied), None) => applied.seen,
            (Some(applied), Some(there)) => {
                applied.seen |= version(&**there) >= applied.version;
                version(&**there) > applied.version
            }
        };
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
        self.applied.insert(key, Applied { wanted: json, version: version(&written), seen: false });
        Ok(is_gone || changed)
    }
}

fn id<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any())
}

/// What rises when somebody changes an object: its generation, which leaves out its status, where it has one.
fn version<K: Resource>(object: &K) -> u64 {
    let metadata = object.meta();
    let version = metadata.resource_version.as_ref().and_then(|version| version.parse().ok());
    metadata.generation.and_then(|generation| generation.try_into().ok()).or(version).unwrap_or(0)
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
