//! Carries out the steps of rollouts: looks at the pods of a cluster, and moves them on.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use appsockets_crds::{AppSocketsCluster, RolloutStatus};
use k8s_openapi::api::{apps::v1::StatefulSet, core::v1::Pod};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, Preconditions},
};
use serde_json::json;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use crate::{
    apply::MANAGER,
    children::{ACCEPTING, CLUSTER_LABEL, Names, Role},
    decide::Decided,
    events::{Events, Note},
    link::{Links, Report},
    pods,
    resolve::key_of,
    rollout::{Gate, Look, Phase, STEERED, Seen, Step, Uneven, Window},
    status::{self, Outcome},
    told::Told,
    watching::Watched,
};

/// Names gates that are not waited for.
const SKIP_ANNOTATION: &str = "appsockets.io/skip-gates";
/// Names the revision that goes on after its first pods.
pub const PROMOTE_ANNOTATION: &str = "appsockets.io/promote";
/// The revision that a pod is of, by its set.
pub const REVISION_LABEL: &str = "controller-revision-hash";
/// Over which time sessions go elsewhere to be spread anew, where they are some of each node's.
const SHED_SPREAD: Duration = Duration::from_secs(5);
/// From spreading sessions to looking whether they are uneven again; doubled as long as it was for nothing.
const SPREAD_PAUSE: Duration = Duration::from_secs(30);
const SPREAD_PAUSE_MAX: Duration = Duration::from_secs(3600);
/// Nodes spread what they send elsewhere over this time at most.
const SHED_SPREAD_MAX: Duration = Duration::from_secs(600);
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How far a rollout has come.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    pub stalled: bool,
    pub message: String,
    pub status: RolloutStatus,
}

/// How far the rollouts have come that go on.
pub type Rollouts = Told<Progress>;

/// What is remembered of a StatefulSet's pods.
pub struct Memory {
    window: Window,
    /// What was seen last, apart from figures.
    seen: Vec<(String, Phase, bool, bool)>,
    since: Instant,
    sessions_before: Option<u64>,
    /// A pod that was deleted, until that is seen.
    replaced: Option<String>,
    progress: Option<Progress>,
    spreading: Option<Spreading>,
    pace: Pace,
}

/// How often sessions are spread anew.
struct Pace {
    next: Instant,
    /// From one time to the next, as long as it was for nothing.
    pause: Duration,
}

impl Pace {
    fn new(now: Instant) -> Pace {
        Pace { next: now, pause: SPREAD_PAUSE }
    }

    /// Sessions are even: what was done was not for nothing.
    fn rest(&mut self, now: Instant) {
        self.pause = SPREAD_PAUSE;
        self.next = self.next.min(now + SPREAD_PAUSE);
    }

    /// Sessions were spread.
    fn done(&mut self, now: Instant) {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(SPREAD_PAUSE_MAX);
    }
}

/// Sessions are being spread anew.
struct Spreading {
    uneven: Uneven,
    /// Over which time sessions go.
    over: Duration,
    began: Instant,
    told: bool,
}

/// Where the pods of a StatefulSet are moved on.
#[derive(Clone, Copy)]
pub struct Surroundings<'a> {
    /// Whether what is known of the set is older than what was written of it.
    pub behind: bool,
    /// Whether another set is to become new before.
    pub is_later: bool,
    pub decided: &'a Decided,
}

/// Moves the pods of clusters on.
pub struct Rolling {
    pub client: Client,
    pub watched: Arc<Watched>,
    pub links: Arc<Links>,
    pub rollouts: Arc<Rollouts>,
    pub events: Events,
    /// By the uid of the cluster.
    pub memory: BTreeMap<(String, Role), Memory>,
}

impl Rolling {
    pub fn forget_others(&mut self, uids: &BTreeSet<String>) {
        self.memory.retain(|(uid, _), _| uids.contains(uid));
    }

    /// There is no such set, and is to be none.
    pub fn forget(&mut self, cluster: &AppSocketsCluster, role: Role) {
        self.memory.remove(&(cluster.uid().unwrap_or_default(), role));
    }

    /// Moves the pods of a StatefulSet on by a step, and gives the ordinals that they are to have. Also tells whether
    /// nothing is left to be done.
    pub async fn window(
        &mut self,
        cluster: &AppSocketsCluster,
        role: Role,
        set: Option<&StatefulSet>,
        surroundings: Surroundings<'_>,
    ) -> (Window, bool) {
        let place = (cluster.uid().unwrap_or_default(), role);
        let (own, others): (Vec<_>, Vec<_>) = self.pods(cluster).into_iter().partition(|pod| Role::of(pod) == role);
        let Some((set, window)) = set.and_then(|set| Some((set, window(set)?))) else {
            self.memory.remove(&place);
            let live = own.iter().filter(|pod| !is_leaving(pod)).filter_map(|pod| pods::ordinal(pod));
            return (Window::covering(live, role.wanted(cluster)), false);
        };
        let mut memory = self.memory.remove(&place).unwrap_or_else(|| Memory::new(window, cluster));
        if !surroundings.behind {
            memory.window = window;
        }
        let mut look = self.look(cluster, role, set, (&own, &others), &memory, surroundings);
        memory.notice(&look, &own);
        look.quiet = memory.since.elapsed();
        let step = look.step();
        self.steer(cluster, &look, &own, &mut memory).await;
        let next = match &step {
            Step::Resize(next) => {
                let goes = next.start > window.start || next.replicas < window.replicas;
                if goes {
                    memory.sessions_before = Some(look.sessions());
                }
                let (namespace, name) = key_of(cluster);
                info!(?window, ?next, "{namespace}/{name}: the pods of {} nodes move on.", role.name());
                memory.window = *next;
                *next
            }
            Step::Replace(name) => {
                self.replace(&own, name, &mut memory).await;
                memory.sessions_before = Some(look.sessions());
                memory.window
            }
            Step::Stay => {
                memory.sessions_before = None;
                memory.window
            }
            Step::Follow | Step::Wait { .. } => memory.window,
        };
        memory.progress = progress(role, set, &look, &step, &memory);
        self.memory.insert(place, memory);
        (next, step == Step::Stay)
    }

    /// Lets others know how far the pods of a cluster have come: those of core nodes, and then those of edge nodes.
    pub fn tell(&self, cluster: &AppSocketsCluster) {
        let uid = cluster.uid().unwrap_or_default();
        let of = |role| self.memory.get(&(uid.clone(), role)).and_then(|memory| memory.progress.clone());
        self.rollouts.set(&key_of(cluster), of(Role::Core).or_else(|| of(Role::Edge)));
    }

    /// Whether there is something to look at again soon.
    pub fn is_busy(&self, cluster: &AppSocketsCluster) -> bool {
        let uid = cluster.uid().unwrap_or_default();
        let spreads = |(place, memory): (&(String, Role), &Memory)| place.0 == uid && memory.spreading.is_some();
        self.rollouts.of(&key_of(cluster)).is_some() || self.memory.iter().any(spreads)
    }

    /// The pods of a cluster, the lowest ordinal first.
    pub fn pods(&self, cluster: &AppSocketsCluster) -> Vec<Arc<Pod>> {
        let key = key_of(cluster);
        let mut own = self.watched.pods.state();
        own.retain(|pod| pod.namespace().as_deref() == Some(&key.0) && pod.labels().get(CLUSTER_LABEL) == Some(&key.1));
        let names = Names::of(cluster);
        own.retain(|pod| {
            let of_set = |ordinal| pod.name_any() == format!("{}-{ordinal}", names.set(Role::of(pod)));
            pods::ordinal(pod).is_some_and(of_set)
        });
        own.sort_by_key(|pod| pods::ordinal(pod));
        own
    }

    fn look(
        &self,
        cluster: &AppSocketsCluster,
        role: Role,
        set: &StatefulSet,
        (own, others): (&[Arc<Pod>], &[Arc<Pod>]),
        memory: &Memory,
        Surroundings { behind, is_later, decided }: Surroundings<'_>,
    ) -> Look {
        let revision = revision(set);
        let of = |pod: &Arc<Pod>| self.links.report(&pod.uid().unwrap_or_default());
        let reports: Vec<_> = own.iter().map(of).collect();
        let seen = |(pod, report): (&Arc<Pod>, &Report)| {
            let is_current = pod.labels().get(REVISION_LABEL).map(String::as_str) == revision;
            Seen {
                name: pod.name_any(),
                ordinal: pods::ordinal(pod).unwrap_or(0),
                current: is_current,
                phase: phase(pod),
                trouble: pods::trouble(pod),
                stuck: pods::is_stuck(pod),
                load: report.recent(),
                fresh: report.unreachable.is_none() && report.load.is_some_and(|(at, _)| at > memory.since),
            }
        };
        let live: Vec<_> = own.iter().chain(others).filter(|pod| pods::is_live(pod)).cloned().collect();
        let mut nodes = self.links.nodes(&live);
        nodes.retain(|node| own.iter().any(|pod| pod.name_any() == node.name));
        let lagging = decided.resolved.wanted.get(&key_of(cluster)).and_then(|wanted| status::of_nodes(wanted, &nodes));
        let lagging = lagging.map(|outcome| match outcome {
            Outcome::Ready { message, .. } | Outcome::InProgress { message, .. } | Outcome::Stalled { message, .. } => {
                message
            }
        });
        let Window { start, replicas } = memory.window;
        let ours = start..start + replicas;
        let others_leave = own
            .iter()
            .filter(|pod| pods::ordinal(pod).is_some_and(|ordinal| !ours.contains(&ordinal)))
            .all(|pod| is_leaving(pod));
        let observed = set.status.as_ref().and_then(|status| status.observed_generation);
        let annotation = |name: &str| cluster.annotations().get(name).map_or("", String::as_str);
        let skip = annotation(SKIP_ANNOTATION).split(',').map(str::trim);
        let skip = skip.filter_map(|name| Gate::ALL.into_iter().find(|gate| gate.name() == name)).collect();
        let is_promoted = revision.is_some_and(|revision| annotation(PROMOTE_ANNOTATION) == revision);
        let pause_after = cluster.spec.update.as_ref().and_then(|update| update.pause_after);
        Look {
            name: cluster.name_any(),
            replicas: role.wanted(cluster),
            takes_clients: takes_clients(cluster, role, others),
            stops: cluster.spec.replicas == 0,
            elsewhere: others.iter().map(of).filter_map(|report| report.recent()).map(|load| load.sessions).sum(),
            is_later,
            window: memory.window,
            caught_up: !behind
                && observed >= set.metadata.generation
                && revision.is_some()
                && others_leave
                && memory.replaced.is_none(),
            pods: pods_of(own.iter().zip(&reports).map(seen).collect(), memory.window, &set.name_any()),
            lagging,
            quiet: Duration::ZERO,
            sessions_before: memory.sessions_before,
            pause_after: pause_after.filter(|_| !is_promoted),
            skip,
        }
    }

    /// Tells services which pods take clients, and spreads sessions anew where that is to be.
    async fn steer(&self, cluster: &AppSocketsCluster, look: &Look, own: &[Arc<Pod>], memory: &mut Memory) {
        let gets = self.spread(cluster, look, own, memory);
        let accepting = match &gets {
            Some(gets) => gets.iter().map(String::as_str).collect(),
            None => look.accepting(),
        };
        let of = |seen: &Seen| own.iter().find(|pod| pod.name_any() == seen.name);
        let wanted = look.pods.iter().filter_map(|seen| {
            let now = match seen.phase {
                // It gets nobody, and may be back before anybody looks.
                Phase::Leaving | Phase::Unready => return None,
                Phase::Starting => look.takes_clients,
                Phase::Serving => accepting.contains(&*seen.name),
            };
            of(seen).filter(|pod| is_accepting(pod) != now).map(|pod| (pod, seen, now))
        });
        let mut wanted: Vec<_> = wanted.collect();
        wanted.sort_by_key(|(_, _, now)| !now);
        for (pod, seen, now) in wanted {
            let patch = json!({"metadata": {
                "uid": pod.uid(), "labels": {ACCEPTING: now.to_string()},
            }});
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            let patch = Patch::Merge(&patch);
            match timeout(CALL_TIMEOUT, api.patch(&seen.name, &params, &patch)).await {
                Ok(Ok(_)) => continue,
                Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409) => {}
                Ok(Err(error)) => warn!(pod = seen.name, %error, "Whether the pod takes clients was not written."),
                Err(_) => warn!(pod = seen.name, "Whether the pod takes clients was not written in time."),
            }
            // Those that are to get clients come first: without them the others keep theirs.
            return;
        }
    }

    /// The pods that take clients while sessions are being spread anew.
    fn spread(
        &self,
        cluster: &AppSocketsCluster,
        look: &Look,
        own: &[Arc<Pod>],
        memory: &mut Memory,
    ) -> Option<BTreeSet<String>> {
        let now = Instant::now();
        let steady = look.quiet > STEERED && cluster.spec.rebalance != Some(false);
        let Some(spreading) = &mut memory.spreading else {
            if !steady {
                return None;
            }
            let Some(uneven) = look.uneven() else {
                memory.pace.rest(now);
                return None;
            };
            if now < memory.pace.next {
                return None;
            }
            let gets = uneven.gets.clone();
            // Nodes that give all go no faster than if they stopped, one after the other.
            let drain = Duration::from_secs(cluster.spec.drain_seconds.try_into().unwrap_or(0));
            let all = drain * u32::try_from(uneven.gives.len()).unwrap_or(1);
            let over = if look.takes_clients { SHED_SPREAD } else { all.clamp(SHED_SPREAD, SHED_SPREAD_MAX) };
            memory.spreading = Some(Spreading { uneven, over, began: now, told: false });
            return Some(gets);
        };
        let took = now - spreading.began;
        if took > STEERED + spreading.over * 2 || !look.still_spreads(&spreading.uneven) {
            memory.spreading = None;
            memory.pace.done(now);
            return None;
        }
        if !spreading.told && took > STEERED {
            spreading.told = true;
            let sessions: u64 = spreading.uneven.gives.iter().map(|(_, sessions)| sessions).sum();
            let note = match look.takes_clients {
                true => format!("{sessions} sessions go from fuller nodes to others, so that all have their part."),
                false => format!("{sessions} sessions go from core nodes to edge nodes."),
            };
            self.events.cluster(cluster, Note::normal("Rebalanced", &note));
            for (name, sessions) in &spreading.uneven.gives {
                let pod = own.iter().find(|pod| pod.name_any() == *name);
                if let Some(uid) = pod.and_then(|pod| pod.uid()) {
                    self.links.shed(&uid, *sessions, spreading.over);
                }
            }
        }
        Some(spreading.uneven.gets.clone())
    }

    /// Deletes a pod, which its set makes anew.
    async fn replace(&self, own: &[Arc<Pod>], name: &str, memory: &mut Memory) {
        let Some(pod) = own.iter().find(|pod| pod.name_any() == name) else { return };
        let uid = pod.uid().unwrap_or_default();
        let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
        let only_it = Preconditions { uid: Some(uid.clone()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only_it), ..DeleteParams::default() };
        match timeout(CALL_TIMEOUT, api.delete(name, &params)).await {
            Ok(Ok(_)) => memory.replaced = Some(uid),
            Ok(Err(error)) => warn!(name, %error, "The pod was not deleted."),
            Err(_) => warn!(name, "The pod was not deleted in time."),
        }
    }
}

/// The pods that there are, and those that the set has not made, the lowest ordinal first.
fn pods_of(mut pods: Vec<Seen>, Window { start, replicas }: Window, set: &str) -> Vec<Seen> {
    let there: BTreeSet<_> = pods.iter().map(|pod| pod.ordinal).collect();
    let missing = (start..start.saturating_add(replicas)).filter(|ordinal| !there.contains(ordinal));
    pods.extend(missing.map(|ordinal| {
        let name = format!("{set}-{ordinal}");
        let trouble = format!("{name} is not made; if it stays so, the events of the StatefulSet {set} say why");
        Seen {
            ordinal,
            current: true,
            phase: Phase::Starting,
            trouble: Some(trouble),
            stuck: false,
            load: None,
            fresh: false,
            name,
        }
    }));
    pods.sort_by_key(|pod| pod.ordinal);
    pods
}

/// Whether clients are meant to come to the pods of a role, beside which there are those of the other one.
fn takes_clients(cluster: &AppSocketsCluster, role: Role, others: &[Arc<Pod>]) -> bool {
    let edges = Role::Edge.wanted(cluster);
    let serving = others.iter().filter(|pod| phase(pod) == Phase::Serving).count();
    match role {
        // A few of many edge nodes are not to get what all are meant to hold.
        Role::Core => edges == 0 || i32::try_from(serving).is_ok_and(|serving| serving * 2 <= edges),
        // Where nobody else serves, or there are to be no pods at all, none gives its clients to others.
        Role::Edge => edges > 0 || cluster.spec.replicas == 0 || serving == 0,
    }
}

fn progress(role: Role, set: &StatefulSet, look: &Look, step: &Step, memory: &Memory) -> Option<Progress> {
    let (waiting, message, stalled) = match step {
        Step::Stay => return None,
        Step::Wait { gate, message, stalled } => {
            (Some(gate.name().to_owned()), format!(" It waits: {}.", message.trim_end_matches('.')), *stalled)
        }
        Step::Follow | Step::Resize(_) | Step::Replace(_) => (None, String::new(), false),
    };
    let (updated, outdated) = (look.updated(), look.outdated());
    // A set that has not caught up says nothing new of what is waited for.
    if matches!(step, Step::Follow) && outdated == 0 && memory.progress.is_none() {
        return None;
    }
    let message = match outdated {
        0 => format!("Pods that serve: {updated}, wanted: {}.{message}", look.replicas),
        _ => format!("Pods of the new revision: {updated}, old ones: {outdated}.{message}"),
    };
    let count = |count: usize| i32::try_from(count).unwrap_or(i32::MAX);
    let status = RolloutStatus {
        role: role.name().to_owned(),
        revision: revision(set).unwrap_or_default().to_owned(),
        updated: count(updated),
        outdated: count(outdated),
        waiting_for: waiting,
        sessions: memory.sessions_before.map(|sessions| i64::try_from(sessions).unwrap_or(i64::MAX)),
    };
    Some(Progress { stalled, message, status })
}

impl Memory {
    fn new(window: Window, cluster: &AppSocketsCluster) -> Memory {
        // What an operator before has written.
        let before = cluster.status.as_ref().and_then(|status| status.rollout.as_ref()?.sessions);
        Memory {
            window,
            seen: Vec::new(),
            since: Instant::now(),
            sessions_before: before.and_then(|sessions| sessions.try_into().ok()),
            replaced: None,
            progress: None,
            spreading: None,
            pace: Pace::new(Instant::now()),
        }
    }

    /// Remembers when something has changed.
    fn notice(&mut self, look: &Look, own: &[Arc<Pod>]) {
        let there = |uid: &String| own.iter().any(|pod| pod.uid().as_ref() == Some(uid) && !is_leaving(pod));
        self.replaced.take_if(|uid| !there(uid));
        let of = |seen: &Seen| {
            let pod = own.iter().find(|pod| pod.name_any() == seen.name)?;
            Some((pod.uid().unwrap_or_default(), seen.phase, seen.current, is_accepting(pod)))
        };
        let seen: Vec<_> = look.pods.iter().filter_map(of).collect();
        if seen != self.seen {
            (self.seen, self.since) = (seen, Instant::now());
        }
    }
}

fn window(set: &StatefulSet) -> Option<Window> {
    let spec = set.spec.as_ref()?;
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start).unwrap_or(0);
    Some(Window { start, replicas: spec.replicas? })
}

/// That of the pods as the resource says now.
fn revision(set: &StatefulSet) -> Option<&str> {
    set.status.as_ref()?.update_revision.as_deref()
}

fn is_leaving(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_accepting(pod: &Pod) -> bool {
    pod.labels().get(ACCEPTING).is_some_and(|accepting| accepting == "true")
}

fn phase(pod: &Pod) -> Phase {
    match () {
        () if is_leaving(pod) => Phase::Leaving,
        () if pods::is_ready(pod) => Phase::Serving,
        () if pods::is_live(pod) => Phase::Unready,
        () => Phase::Starting,
    }
}

#[cfg(test)]
mod tests {
    use super::{Instant, Pace, SPREAD_PAUSE, SPREAD_PAUSE_MAX};

    #[test]
    fn sessions_that_do_not_become_even_are_spread_less_and_less_often() {
        let now = Instant::now();
        let mut pace = Pace::new(now);
        for times in [1, 2, 4] {
            pace.done(now);
            assert_eq!(pace.next, now + SPREAD_PAUSE * times);
        }
        for _ in 0..20 {
            pace.done(now);
        }
        assert_eq!(pace.next, now + SPREAD_PAUSE_MAX);
        pace.rest(now);
        assert_eq!(pace.next, now + SPREAD_PAUSE, "they have become even");
        pace.done(now);
        assert_eq!(pace.next, now + SPREAD_PAUSE);
    }
}
