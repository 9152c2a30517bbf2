//! Writes of each resource what is to be said of it, where that is not there already.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use futures_util::{StreamExt, stream};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams},
    core::object::HasStatus,
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until, timeout},
};
use tracing::warn;

use crate::{
    apply::{MANAGER, Made, Problems},
    children::CLUSTER_LABEL,
    cluster_status,
    decide::Decided,
    events::{Events, Note},
    keys::Rotations,
    link::Links,
    metrics::Metrics,
    pods,
    rolling::Rollouts,
    status::{self, Node, Outcome},
    verdict::Verdict,
    watching::Watched,
    world::{ClusterKey, Key, Read},
};

/// Writes at a time.
const AT_ONCE: usize = 32;
/// Writes before everything is looked at anew.
const BATCH: usize = 512;
/// What passes within it is not said: most changes are in effect sooner.
const PASSING: Duration = Duration::from_millis(400);
/// After a write did not succeed.
const RETRY: Duration = Duration::from_secs(2);
/// The same, where it was refused again and again.
const RETRY_MAX: Duration = Duration::from_secs(30);
/// How often everything is looked at although nothing has changed.
const LOOK: Duration = Duration::from_secs(10);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Resources of a cluster that are told one by one when a node can't be reached; beyond, only the cluster is.
const TOLD_MAX: usize = 500;

/// Says of each resource what is to be said, for ever.
pub struct Statuses {
    pub client: Client,
    pub watched: Arc<Watched>,
    pub decided: watch::Receiver<Arc<Decided>>,
    pub links: Arc<Links>,
    pub problems: Arc<Problems>,
    pub made: Arc<Made>,
    pub rollouts: Arc<Rollouts>,
    pub rotations: Arc<Rotations>,
    pub events: Events,
    pub metrics: Metrics,
    pub memory: BTreeMap<String, Memory>,
}

/// What is remembered of a resource, by its uid.
#[derive(Default)]
pub struct Memory {
    written: Option<Written>,
    /// Since when it is not yet in effect.
    passing: Option<Instant>,
    /// When the next write may be tried, where the last one did not succeed.
    retry: Option<Instant>,
    /// Writes that were refused in a row.
    refused: u32,
}

/// What was written last.
struct Written {
    /// That of the object by the write.
    version: u64,
    asked: Value,
    /// What the API server made of it.
    status: Value,
}

/// What is to be done about a resource's status.
enum Next {
    Nothing,
    /// There may be something then.
    Later(Instant),
    Write(Value, Option<Note>),
}

impl Memory {
    fn next(&mut self, subject: &Subject<'_>, now: Instant) -> Next {
        let version = subject.metadata.resource_version.as_ref().and_then(|version| version.parse::<u64>().ok());
        // What is seen of the object may be older than the write.
        let written = self.written.as_ref().filter(|written| version.is_none_or(|version| version <= written.version));
        let before = written.map_or(&subject.status, |written| &written.status);
        let status = said(subject, before);
        // What the API server leaves out or adds is not asked for again.
        if contains(before, &status) || written.is_some_and(|written| written.asked == status) {
            (self.passing, self.retry, self.refused) = (None, None, 0);
            return Next::Nothing;
        }
        let passes = matches!(subject.outcome, Outcome::InProgress { .. });
        let since = passes.then(|| *self.passing.get_or_insert(now) + PASSING);
        if let Some(due) = since.max(self.retry).filter(|due| *due > now) {
            return Next::Later(due);
        }
        let is_first = self.retry.is_none();
        Next::Write(status, is_first.then(|| note(subject, before)).flatten())
    }

    fn wrote(&mut self, asked: Value, version: u64, status: Value) {
        *self = Memory { written: Some(Written { version, asked, status }), ..Memory::default() };
    }

    /// The API server has not taken it. What it refuses it refuses again, until somebody has changed something.
    fn failed(&mut self, is_refused: bool, now: Instant) {
        let pause = if is_refused { RETRY * 2_u32.saturating_pow(self.refused.min(8)) } else { RETRY };
        self.retry = Some(now + pause.min(RETRY_MAX));
        self.refused = if is_refused { self.refused + 1 } else { 0 };
    }
}

/// A resource, and what is to be said of it.
pub struct Subject<'a> {
    pub resource: ApiResource,
    pub metadata: &'a ObjectMeta,
    /// The status that the API server has.
    pub status: Value,
    pub outcome: Outcome,
    pub paused: Option<String>,
    /// Beside the conditions.
    pub more: Value,
}

struct Write {
    resource: ApiResource,
    namespace: String,
    name: String,
    uid: String,
    status: Value,
}

impl Statuses {
    pub async fn run(mut self) {
        let (nodes, problems) = (self.links.changed.subscribe(), self.problems.changed.subscribe());
        let (made, rollouts) = (self.made.changed.subscribe(), self.rollouts.changed.subscribe());
        let rotations = self.rotations.changed.subscribe();
        let (world, children) = (self.watched.world.subscribe(), self.watched.children.subscribe());
        let mut signals = [nodes, problems, made, rollouts, rotations, world, children];
        self.watched.listed().await;
        loop {
            let decided = self.decided.borrow_and_update().clone();
            signals.iter_mut().for_each(watch::Receiver::mark_unchanged);
            let began = Instant::now();
            let (writes, next) = self.writes(&decided);
            let took = began.elapsed();
            if !writes.is_empty() {
                self.write(writes).await;
                continue;
            }
            let [nodes, problems, made, rollouts, rotations, world, children] = &mut signals;
            tokio::select! {
                changed = self.decided.changed() => if changed.is_err() { return },
                _ = nodes.changed() => {}
                _ = problems.changed() => {}
                _ = made.changed() => {}
                _ = rollouts.changed() => {}
                _ = rotations.changed() => {}
                _ = world.changed() => {}
                _ = children.changed() => {}
                () = sleep_until(next.unwrap_or_else(|| Instant::now() + LOOK)) => {}
            }
            // Where looking takes long, at most half of the time goes into it.
            tokio::time::sleep(took).await;
        }
    }

    /// What is to be written now, and when there may be more although nothing changes.
    fn writes(&mut self, decided: &Decided) -> (Vec<Write>, Option<Instant>) {
        let nodes = self.nodes();
        let (watched, links) = (self.watched.clone(), self.links.clone());
        let (problems, made, rollouts) = (self.problems.clone(), self.made.clone(), self.rollouts.clone());
        let rotations = self.rotations.clone();
        let look = cluster_status::Look {
            decided,
            nodes: &nodes,
            watched: &watched,
            links: &links,
            problems: &problems,
            made: &made,
            rollouts: &rollouts,
            rotations: &rotations,
        };
        let subjects = subjects(&look);
        let (now, mut next) = (Instant::now(), None::<Instant>);
        let (mut writes, mut there, mut counts) = (Vec::new(), BTreeSet::new(), [0; 3]);
        for subject in subjects {
            let uid = subject.metadata.uid.clone().unwrap_or_default();
            there.insert(uid.clone());
            counts[match subject.outcome {
                Outcome::Ready { .. } => 0,
                Outcome::InProgress { .. } => 1,
                Outcome::Stalled { .. } => 2,
            }] += 1;
            let memory = self.memory.entry(uid.clone()).or_default();
            let (status, note) = match memory.next(&subject, now) {
                Next::Nothing => continue,
                Next::Later(due) => {
                    next = Some(next.map_or(due, |next| next.min(due)));
                    continue;
                }
                Next::Write(..) if writes.len() == BATCH => continue,
                Next::Write(status, note) => (status, note),
            };
            if let Some(note) = note {
                let mut about = DynamicObject::new("", &subject.resource);
                about.metadata = subject.metadata.clone();
                self.events.about(about.object_ref(&subject.resource), note);
            }
            writes.push(Write {
                resource: subject.resource,
                namespace: subject.metadata.namespace.clone().unwrap_or_default(),
                name: subject.metadata.name.clone().unwrap_or_default(),
                uid,
                status,
            });
        }
        self.memory.retain(|uid, _| there.contains(uid));
        for (count, ready) in counts.into_iter().zip(["True", "Unknown", "False"]) {
            self.metrics.resources(ready, count);
        }
        (writes, next)
    }

    async fn write(&mut self, writes: Vec<Write>) {
        let client = &self.client;
        let writing = stream::iter(writes).map(|write| async move {
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &write.namespace, &write.resource);
            let Write { resource, name, uid, status, .. } = write;
            // The uid keeps what is said of one resource from another that came after it.
            let patch = json!({
                "apiVersion": resource.api_version, "kind": resource.kind,
                "metadata": {"name": name, "uid": uid}, "status": status,
            });
            let params = PatchParams::apply(MANAGER).force();
            let written = timeout(CALL_TIMEOUT, api.patch_status(&name, &params, &Patch::Apply(&patch))).await;
            (uid, name, status, written)
        });
        let mut written = writing.buffer_unordered(AT_ONCE);
        let mut outcomes = Vec::new();
        while let Some(outcome) = written.next().await {
            outcomes.push(outcome);
        }
        drop(written);
        let now = Instant::now();
        for (uid, name, asked, outcome) in outcomes {
            let memory = self.memory.entry(uid).or_default();
            let outcome = match outcome {
                Ok(Ok(object)) => {
                    let version = object.resource_version().and_then(|version| version.parse().ok()).unwrap_or(0);
                    memory.wrote(asked, version, object.data["status"].clone());
                    "written"
                }
                Ok(Err(error)) => {
                    let code = if let kube::Error::Api(status) = &error { status.code } else { 0 };
                    memory.failed((400..500).contains(&code) && code != 429, now);
                    let gone = matches!(code, 404 | 409);
                    if !gone {
                        warn!(name, %error, "A status was not written.");
                    }
                    if gone { "gone" } else { "refused" }
                }
                Err(_) => {
                    memory.failed(false, now);
                    "late"
                }
            };
            self.metrics.status_written(outcome);
        }
    }

    /// The nodes that count, by cluster.
    fn nodes(&self) -> BTreeMap<ClusterKey, Vec<Node>> {
        let mut live = self.watched.pods.state();
        live.retain(|pod| pods::is_live(pod));
        live.sort_by_key(|pod| pod.name_any());
        self.metrics.nodes.set(i64::try_from(live.len()).unwrap_or(i64::MAX));
        let mut clusters: BTreeMap<ClusterKey, Vec<_>> = BTreeMap::new();
        for pod in live {
            let cluster = pod.labels().get(CLUSTER_LABEL).cloned().unwrap_or_default();
            clusters.entry((pod.namespace().unwrap_or_default(), cluster)).or_default().push(pod);
        }
        clusters.into_iter().map(|(cluster, pods)| (cluster, self.links.nodes(&pods))).collect()
    }
}

/// What those who look at events are told: what has become worse, and when that is over.
fn note(subject: &Subject<'_>, before: &Value) -> Option<Note> {
    let reason = |status: &Value| {
        let conditions = status["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        ready.and_then(|ready| ready["reason"].as_str()).unwrap_or_default().to_owned()
    };
    let was = reason(before);
    const WELL: [&str; 8] = ["", "Pending", "Served", "Applying", "NoNodes", "Serving", "Starting", "RollingOut"];
    let was_bad = !WELL.contains(&&*was);
    match &subject.outcome {
        Outcome::Stalled { reason, message } if *reason != was => Some(Note::warning(reason, message)),
        Outcome::InProgress { reason: reason @ "RollingOut", message } if *reason != was => {
            Some(Note::normal(reason, message))
        }
        Outcome::Ready { reason, message } if was == "RollingOut" => Some(Note::normal(reason, message)),
        Outcome::InProgress { reason: reason @ "NodeLagging", message } if *reason != was => {
            Some(Note::warning(reason, message))
        }
        Outcome::Ready { reason, message } if was_bad => Some(Note::normal(reason, message)),
        _ => None,
    }
}

/// All resources, and what is to be said of them.
fn subjects<'a>(look: &cluster_status::Look<'a>) -> Vec<Subject<'a>> {
    let world = &look.decided.world;
    let looking = Looking::new(look.decided, look.nodes);
    let mut subjects = Vec::new();
    looking.tenants::<Hub>("Hub", &world.hubs, &mut subjects);
    looking.tenants::<ChannelRules>("ChannelRules", &world.rules, &mut subjects);
    looking.tenants::<HubNamespace>("Namespace", &world.namespaces, &mut subjects);
    looking.tenants::<AuthProvider>("AuthProvider", &world.providers, &mut subjects);
    for cluster in &world.clusters {
        let resource = ApiResource::erase::<AppSocketsCluster>(&());
        match &cluster.0 {
            Ok(cluster) => {
                subjects.push(look.subject(cluster, resource));
            }
            Err(unread) => {
                let key = Key::new("AppSocketsCluster", &unread.metadata);
                subjects.extend(looking.subject(&key, &unread.metadata, unread.status.clone(), resource));
            }
        }
    }
    subjects
}

struct Looking<'a> {
    decided: &'a Decided,
    nodes: &'a BTreeMap<ClusterKey, Vec<Node>>,
    /// How many resources each cluster has.
    counts: BTreeMap<&'a ClusterKey, usize>,
}

impl<'a> Looking<'a> {
    fn new(decided: &'a Decided, nodes: &'a BTreeMap<ClusterKey, Vec<Node>>) -> Looking<'a> {
        let mut counts = BTreeMap::new();
        for (cluster, _) in decided.resolved.places.values() {
            *counts.entry(cluster).or_default() += 1;
        }
        Looking { decided, nodes, counts }
    }

    fn tenants<'w, K>(&self, kind: &'static str, objects: &'w [Read<K>], subjects: &mut Vec<Subject<'w>>)
    where
        K: Resource<DynamicType = ()> + HasStatus,
        K::Status: serde::Serialize,
    {
        for object in objects {
            let status = match &object.0 {
                Ok(object) => object.status().map(|status| serde_json::to_value(status).unwrap_or_default()),
                Err(unread) => Some(unread.status.clone()),
            };
            let status = status.unwrap_or_default();
            let metadata = object.meta();
            subjects.extend(self.subject(&Key::new(kind, metadata), metadata, status, ApiResource::erase::<K>(&())));
        }
    }

    fn subject<'w>(
        &self,
        key: &Key,
        metadata: &'w ObjectMeta,
        status: Value,
        resource: ApiResource,
    ) -> Option<Subject<'w>> {
        let resolved = &self.decided.resolved;
        let verdict = resolved.verdicts.get(key)?;
        let place = resolved.places.get(key).filter(|_| *verdict == Verdict::Wanted);
        let (outcome, paused) = match place
            .and_then(|(cluster, ids)| Some((cluster, ids, resolved.wanted.get(cluster)?)))
        {
            Some((cluster, ids, wanted)) => {
                let nodes = self.nodes.get(cluster).map_or(&[][..], Vec::as_slice);
                let strict = self.counts.get(cluster).is_some_and(|count| *count <= TOLD_MAX);
                let paused = self.decided.cluster(cluster).is_some_and(|cluster| cluster.spec.paused);
                let paused = paused.then(|| format!("The AppSocketsCluster {}/{} is paused.", cluster.0, cluster.1));
                let outcome = status::of_tenant(verdict, ids, wanted, nodes, strict);
                let replicas = self.decided.cluster(cluster).map_or(0, |cluster| cluster.spec.replicas);
                (status::with_copies(outcome, ids, wanted, replicas), paused)
            }
            None => (status::of_tenant(verdict, &[], &Default::default(), &[], false), None),
        };
        let more = beside(&status);
        Some(Subject { resource, metadata, status, outcome, paused, more })
    }
}

/// What a status says beside what is said here. It stays: of a cluster that can't be read nobody knows better.
fn beside(status: &Value) -> Value {
    let mut rest = status.as_object().cloned().unwrap_or_default();
    rest.retain(|name, _| name != "conditions" && name != "observedGeneration");
    Value::Object(rest)
}

/// The status that says it.
fn said(subject: &Subject<'_>, before: &Value) -> Value {
    let generation = subject.metadata.generation.unwrap_or(0);
    let conditions: Vec<Condition> = serde_json::from_value(before["conditions"].clone()).unwrap_or_default();
    let conditions =
        status::conditions(&subject.outcome, subject.paused.as_deref(), generation, &conditions, Timestamp::now());
    let mut status = subject.more.clone();
    status["observedGeneration"] = json!(generation);
    status["conditions"] = json!(conditions);
    status
}

/// Whether a status says this already: conditions that are to go may not be there.
fn contains(before: &Value, status: &Value) -> bool {
    let (Some(before), Some(status)) = (before.as_object(), status.as_object()) else { return false };
    let sorted = |conditions: &Value| {
        let mut conditions = conditions.as_array().cloned().unwrap_or_default();
        conditions.sort_by_key(|condition| condition["type"].as_str().unwrap_or_default().to_owned());
        conditions
    };
    before.keys().all(|name| status.contains_key(name))
        && status.iter().all(|(name, value)| match name.as_str() {
            "conditions" => before.get(name).map(sorted) == Some(sorted(value)),
            _ => before.get(name) == Some(value),
        })
}

#[cfg(test)]
mod tests;
