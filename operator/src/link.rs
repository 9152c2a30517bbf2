//! One node: it is told what to serve, and asked again and again what it has.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use appsockets_core::{channel::HubId, settings::entry::Entry};
use appsockets_proto::configuration::{
    self as wire, Head, Held, Identity, PushRequest, ShedRequest, ShowRequest,
    configuration_client::ConfigurationClient,
};
use futures_util::stream;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};
use tonic::transport::{Channel, ClientTlsConfig, Endpoint};
use tracing::{debug, warn};

use crate::{
    decide::Decided,
    events::{Events, Note},
    lease::Lease,
    metrics::Metrics,
    pods,
    resolve::Wanted,
    rollout::Load,
    status,
    watching::Signal,
    world::ClusterKey,
};

/// How often a node is asked what it has.
const HEARTBEAT: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A node with all that it can hold takes this long at most.
const PUSH_TIMEOUT: Duration = Duration::from_secs(60);
const RETRY: Duration = Duration::from_secs(1);
/// For how long a node may not be reached before that is said.
const GRACE: Duration = Duration::from_secs(10);
/// What is older is not acted on: what a node said of itself and of others, and what it was to be told.
const STALE: Duration = Duration::from_secs(5);
/// Resources in a part of a push.
const PART: usize = 1000;

/// What all links share.
pub struct Links {
    pub decided: watch::Receiver<Arc<Decided>>,
    pub lease: Arc<Lease>,
    pub sequence: AtomicU64,
    pub events: Events,
    pub metrics: Metrics,
    /// By the uid of the node's pod.
    reports: Mutex<BTreeMap<String, Report>>,
    /// How many sessions nodes are still to be told to send elsewhere, and over which time.
    sheds: Mutex<BTreeMap<String, Shed>>,
    /// A report has changed.
    pub changed: Signal,
}

/// Sessions that a node is to send elsewhere.
#[derive(Clone, Copy)]
struct Shed {
    sessions: u64,
    spread: Duration,
    asked: Instant,
}

/// What is known of a node.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub serves: Option<Arc<Wanted>>,
    pub withheld: BTreeSet<HubId>,
    /// Hubs that stay there because too many would go at once.
    pub removals_held: u32,
    pub unreachable: Option<String>,
    /// What the node said of itself, and when.
    pub load: Option<(Instant, Load)>,
    /// Which keys it has.
    pub keys: Option<String>,
    /// The numbers of nodes that say to it that they serve the same.
    pub alike: BTreeSet<u64>,
}

impl Links {
    pub fn new(decided: watch::Receiver<Arc<Decided>>, lease: Arc<Lease>, events: Events, metrics: Metrics) -> Links {
        let (sequence, reports, sheds, changed) = Default::default();
        Links { decided, lease, sequence, events, metrics, reports, sheds, changed }
    }

    pub fn report(&self, pod_uid: &str) -> Report {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).get(pod_uid).cloned().unwrap_or_default()
    }

    pub fn forget(&self, pod_uid: &str) {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
        self.sheds.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
        self.changed.send();
    }

    /// Has a node send so many of its sessions elsewhere, within a heartbeat from now.
    pub fn shed(&self, pod_uid: &str, sessions: u64, spread: Duration) {
        let shed = Shed { sessions, spread, asked: Instant::now() };
        self.sheds.lock().unwrap_or_else(PoisonError::into_inner).insert(pod_uid.to_owned(), shed);
    }

    /// What it was not told in time it is not told any more: by then the sessions may be meant to stay.
    fn to_shed(&self, pod_uid: &str) -> Option<Shed> {
        let shed = self.sheds.lock().unwrap_or_else(PoisonError::into_inner).remove(pod_uid);
        shed.filter(|shed| shed.asked.elapsed() <= STALE)
    }

    /// It changes at every heartbeat, so nobody is woken by most of it.
    fn note(&self, pod_uid: &str, held: &Held) {
        let mut reports = self.reports.lock().unwrap_or_else(PoisonError::into_inner);
        if reports.entry(pod_uid.to_owned()).or_default().note(held) {
            self.changed.send();
        }
    }

    /// What is known of nodes that are live, by their pods. One that can't be reached serves what another one serves
    /// to which it says so.
    pub fn nodes(&self, pods: &[Arc<Pod>]) -> Vec<status::Node> {
        let report = |pod: &Arc<Pod>| self.report(&pod.uid().unwrap_or_default());
        nodes(&pods.iter().map(|pod| (&**pod, report(pod))).collect::<Vec<_>>())
    }

    fn tell(&self, pod_uid: &str, change: impl FnOnce(&mut Report)) {
        change(self.reports.lock().unwrap_or_else(PoisonError::into_inner).entry(pod_uid.to_owned()).or_default());
        self.changed.send();
    }
}

fn nodes(known: &[(&Pod, Report)]) -> Vec<status::Node> {
    let node = |(pod, report): &(&Pod, Report)| {
        let number = pods::number(pod).filter(|_| report.unreachable.is_some());
        let by_hearsay = number.and_then(|number| known.iter().find_map(|(_, by)| by.hears_of(number)));
        let Report { serves, withheld, unreachable, .. } = match by_hearsay {
            Some(serves) => Report { serves: Some(serves), ..Report::default() },
            None => report.clone(),
        };
        status::Node { name: pod.name_any(), serves, withheld, unreachable }
    };
    known.iter().map(node).collect()
}

impl Report {
    /// Takes what a node says of itself. True: others have come to serve the same as it, or no longer do.
    fn note(&mut self, held: &Held) -> bool {
        let load = Load { sessions: held.sessions, view: held.view, settled: held.settled };
        self.load = Some((Instant::now(), load));
        self.keys = Some(held.keys.clone());
        let alike = held.alike.iter().copied().collect();
        let is_new = self.alike != alike;
        self.alike = alike;
        is_new
    }

    /// What it said of itself, unless that is too old to act on.
    pub fn recent(&self) -> Option<Load> {
        self.load.filter(|(at, _)| at.elapsed() <= STALE).map(|(_, load)| load)
    }

    /// What that node serves, as far as this one knows it.
    fn hears_of(&self, number: u64) -> Option<Arc<Wanted>> {
        let heard = self.recent().is_some() && self.alike.contains(&number);
        self.serves.clone().filter(|_| heard && self.withheld.is_empty() && self.unreachable.is_none())
    }
}

/// A node to talk to.
#[derive(Clone)]
pub struct Target {
    pub cluster: ClusterKey,
    pub pod: String,
    pub pod_uid: String,
    /// Of its port for the operator.
    pub address: String,
    pub tls: ClientTlsConfig,
}

/// What the node took last from this operator.
struct Taken {
    wanted: Arc<Wanted>,
    /// What it then named its state.
    handed: String,
    /// Whether that state is just what was wanted, so that a difference can be told.
    exact: bool,
    /// How many hubs were allowed to go.
    removals_max: u32,
    /// Which push it was.
    stamp: (u64, u64),
}

/// Talks to a node for ever.
pub async fn run(links: Arc<Links>, target: Target) {
    let mut reached = Instant::now();
    let mut taken = None;
    loop {
        let error = match talk(&links, &target, &mut taken, &mut reached).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if reached.elapsed() > GRACE {
            let error = format!("{error:#}");
            // The first reason stays: another one each second would be a write each second.
            if links.report(&target.pod_uid).unreachable.is_none() {
                warn!(pod = target.pod, error, "A node can't be reached.");
                links.tell(&target.pod_uid, |report| report.unreachable = Some(error));
            }
        }
        sleep(RETRY).await;
    }
}

enum Never {}

async fn talk(
    links: &Links,
    target: &Target,
    taken: &mut Option<Taken>,
    reached: &mut Instant,
) -> anyhow::Result<Never> {
    let endpoint = Endpoint::from_shared(format!("https://{}", target.address))?
        .tls_config(target.tls.clone())?
        .connect_timeout(CALL_TIMEOUT)
        .tcp_nodelay(true);
    let mut client = ConfigurationClient::new(endpoint.connect().await?);
    let mut decided = links.decided.clone();
    let mut term = links.lease.term();
    loop {
        let held = timeout(CALL_TIMEOUT, client.show(ShowRequest {})).await.context("it does not answer")??;
        let mut held = held.into_inner();
        *reached = Instant::now();
        links.note(&target.pod_uid, &held);
        if links.report(&target.pod_uid).unreachable.is_some() {
            links.tell(&target.pod_uid, |report| report.unreachable = None);
        }
        if let Some(before) = taken.take_if(|taken| taken.handed != held.handed) {
            links.tell(&target.pod_uid, |report| report.serves = None);
            drifted(links, target, before.stamp, &held);
        }
        if let Some(Shed { sessions, spread, .. }) = links.to_shed(&target.pod_uid) {
            let request = ShedRequest { sessions, spread_ms: u32::try_from(spread.as_millis()).unwrap_or(u32::MAX) };
            timeout(CALL_TIMEOUT, client.shed(request)).await.context("it does not answer")??;
        }
        // What changed while the node was being told is told at once.
        loop {
            let now = decided.borrow_and_update().clone();
            term.mark_unchanged();
            let Some(wanted) = now.resolved.wanted.get(&target.cluster) else { break };
            let cluster = now.cluster(&target.cluster);
            let removals_max = cluster.map_or(0, crate::decide::removals_max);
            let own_term = *links.lease.term().borrow();
            let same = |taken: &Taken| {
                taken.wanted.is(wanted) && taken.removals_max == removals_max && taken.stamp.0 == own_term
            };
            if taken.as_ref().is_some_and(same) {
                // The same, decided anew.
                links.tell_if_new(target, wanted);
                break;
            }
            if cluster.is_none_or(|cluster| cluster.spec.paused) {
                break;
            }
            *taken = push(links, target, &mut client, &mut held, taken.take(), wanted, removals_max).await?;
            *reached = Instant::now();
        }
        tokio::select! {
            changed = decided.changed() => changed.context("nothing is decided any more")?,
            changed = term.changed() => changed.context("there is no lease any more")?,
            () = sleep(HEARTBEAT) => {}
        }
    }
}

/// A node has something else than it took last from this link. It may be a later push, which other nodes gave it.
fn drifted(links: &Links, target: &Target, taken: (u64, u64), held: &Held) {
    if (held.term, held.sequence) > taken {
        return;
    }
    let note = "What the node serves was not what it was told last: it is told again.";
    links.events.pod(&target.cluster.0, &target.pod, &target.pod_uid, Note::warning("DriftCorrected", note));
    links.metrics.drifts.inc();
}

impl Links {
    fn tell_if_new(&self, target: &Target, wanted: &Arc<Wanted>) {
        let known = self.report(&target.pod_uid).serves.is_some_and(|serves| Arc::ptr_eq(&serves, wanted));
        if !known {
            self.tell(&target.pod_uid, |report| report.serves = Some(wanted.clone()));
        }
    }
}

/// Tells a node what to serve. None: it could not be told a difference, or not by this term.
async fn push(
    links: &Links,
    target: &Target,
    client: &mut ConfigurationClient<Channel>,
    held: &mut Held,
    taken: Option<Taken>,
    wanted: &Arc<Wanted>,
    removals_max: u32,
) -> anyhow::Result<Option<Taken>> {
    // It may have it already, from an operator before or from another node. It is told all the same, so that an older
    // operator can't change it any more.
    let has = wanted.kept.is_empty() && held.handed == wanted.revision.to_string();
    let base = if has {
        Some(Taken {
            wanted: wanted.clone(),
            handed: held.handed.clone(),
            exact: true,
            removals_max,
            stamp: (held.term, held.sequence),
        })
    } else {
        taken.filter(|taken| taken.exact && taken.wanted.kept == wanted.kept)
    };
    let term = *links.lease.term().borrow();
    if held.term > term {
        links.lease.raise(held.term + 1);
        bail!("it has taken a push of term {}, and this operator's is {term}", held.term);
    }
    let sequence = links.sequence.fetch_add(1, Ordering::Relaxed) + 1;
    let handed = base.as_ref().map_or(String::new(), |base| base.handed.clone());
    let head = Head { term, sequence, base: handed, removals_max };
    let began = Instant::now();
    let parts = parts(head, base.as_ref().map(|base| &*base.wanted), wanted);
    let answer = timeout(PUSH_TIMEOUT, client.push(stream::iter(parts))).await.context("it takes no push")??;
    *held = answer.into_inner();
    links.metrics.pushed(if held.taken { "taken" } else { "refused" }, began.elapsed());
    if !held.taken {
        if held.term > term {
            links.lease.raise(held.term + 1);
        }
        debug!(pod = target.pod, refused = held.refused, "A node did not take what it was told.");
        // The whole is told next, and later than what it may have got from another node meanwhile.
        anyhow::ensure!(base.is_some() || held.term == term, "it refuses: {}", held.refused);
        return Ok(None);
    }
    let withheld: BTreeSet<HubId> = held.withheld.iter().map(|hub| HubId::from(hub.as_str())).collect();
    let exact = withheld.is_empty() && held.removals_held == 0;
    links.tell(&target.pod_uid, |report| {
        report.note(held);
        (report.serves, report.withheld) = (Some(wanted.clone()), withheld);
        (report.removals_held, report.unreachable) = (held.removals_held, None);
    });
    Ok(Some(Taken {
        wanted: wanted.clone(),
        handed: held.handed.clone(),
        exact,
        removals_max,
        stamp: (term, sequence),
    }))
}

/// A push of the whole, or of what has changed.
fn parts(head: Head, base: Option<&Wanted>, wanted: &Wanted) -> Vec<PushRequest> {
    let before = |entry: &Entry| base.and_then(|base| base.entries.get(&entry.id));
    let set = wanted.entries.values().filter(|entry| before(entry).is_none_or(|before| before != *entry));
    let set: Vec<_> = set.map(|entry| wire_entry(entry)).collect();
    let gone = base.into_iter().flat_map(|base| base.entries.keys()).filter(|id| !wanted.entries.contains_key(id));
    let removed: Vec<_> = gone
        .map(|id| Identity { hub: id.hub.to_string(), kind: id.kind.name().to_owned(), name: id.name.to_string() })
        .collect();
    let kept: Vec<_> = wanted.kept.iter().cloned().collect();
    let mut parts = vec![PushRequest { head: Some(head), ..PushRequest::default() }];
    parts.extend(set.chunks(PART).map(|set| PushRequest { set: set.to_vec(), ..PushRequest::default() }));
    parts.extend(
        removed.chunks(PART).map(|removed| PushRequest { removed: removed.to_vec(), ..PushRequest::default() }),
    );
    parts.extend(kept.chunks(PART).map(|kept| PushRequest { kept: kept.to_vec(), ..PushRequest::default() }));
    parts
}

fn wire_entry(entry: &Entry) -> wire::Entry {
    let resource = serde_json::to_string(&entry.resource).unwrap_or_default();
    wire::Entry { uid: entry.uid.to_string(), generation: entry.generation, resource }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    fn pod(name: &str, role: &str) -> Pod {
        let metadata = json!({"name": name, "labels": {"appsockets.io/role": role}});
        serde_json::from_value(json!({ "metadata": metadata })).unwrap()
    }

    fn reached(serves: &Arc<Wanted>, alike: &[u64]) -> Report {
        let mut report = Report { serves: Some(serves.clone()), ..Report::default() };
        report.note(&Held { alike: alike.to_vec(), ..Held::default() });
        report
    }

    fn away(serves: &Arc<Wanted>) -> Report {
        Report { unreachable: Some("timed out".into()), serves: Some(serves.clone()), ..Report::default() }
    }

    #[test]
    fn a_node_that_can_not_be_reached_serves_what_it_says_to_others_that_it_serves() {
        let [old, new] = [(); 2].map(|()| Arc::new(Wanted::new(BTreeMap::default(), BTreeSet::default())));
        let (first, second, edge) = (pod("main-0", "core"), pod("main-1", "core"), pod("main-edge-1", "edge"));
        let serves_new = |by: Report, pod: &Pod, report: Report| {
            let nodes = nodes(&[(&first, by), (pod, report)]);
            assert_eq!(nodes[1].name, pod.name_any());
            let is_new = nodes[1].serves.as_ref().is_some_and(|serves| Arc::ptr_eq(serves, &new));
            assert_eq!(is_new, nodes[1].unreachable.is_none());
            is_new
        };
        assert!(serves_new(reached(&new, &[2]), &second, away(&old)));
        assert!(serves_new(reached(&new, &[(1 << 32) + 2]), &edge, away(&old)));
        assert!(!serves_new(reached(&new, &[2]), &edge, away(&old)), "that is another node");
        assert!(!serves_new(reached(&new, &[3]), &second, away(&old)), "nobody hears it");
        assert!(!serves_new(Report { unreachable: Some("gone".into()), ..reached(&new, &[2]) }, &second, away(&old)));
        assert!(!serves_new(
            Report { withheld: [HubId::from("shop")].into(), ..reached(&new, &[2]) },
            &second,
            away(&old)
        ));
        let mut stale = reached(&new, &[2]);
        let load = stale.load.unwrap().1;
        stale.load = Instant::now().checked_sub(STALE + Duration::from_millis(1)).map(|at| (at, load));
        assert!(!serves_new(stale, &second, away(&old)), "it was heard too long ago");
        let own = nodes(&[(&first, reached(&new, &[2])), (&second, reached(&old, &[]))]);
        assert!(own[1].serves.as_ref().is_some_and(|serves| Arc::ptr_eq(serves, &old)), "what it says itself counts");
    }

    #[test]
    fn who_serves_the_same_is_told_when_it_changes() {
        let mut report = Report::default();
        let held = |alike: &[u64]| Held { alike: alike.to_vec(), ..Held::default() };
        assert!(!report.note(&held(&[])));
        assert!(report.note(&held(&[2, 3])));
        assert!(!report.note(&held(&[3, 2])));
        assert!(report.note(&held(&[3])));
    }
}
