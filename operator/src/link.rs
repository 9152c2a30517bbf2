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
/// From one push that fails to the next, at most.
const PUSH_RETRY_MAX: Duration = Duration::from_secs(30);
/// Resources in a part of a push.
const PART: usize = 1000;
/// Bytes in a part of a push that has several resources. A node takes 8 MiB, more than any resource has.
const PART_BYTES: usize = 1 << 20;
/// A node names no more hubs than these.
const WITHHELD_MAX: usize = 100;

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
    /// Whether more hubs may be withheld than are named.
    pub unnamed: bool,
    /// Why it does not take what it is told.
    pub refuses: Option<String>,
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
        let Report { serves, withheld, unnamed, refuses, unreachable, .. } = match by_hearsay {
            Some(serves) => Report { serves: Some(serves), ..Report::default() },
            None => report.clone(),
        };
        status::Node { name: pod.name_any(), serves, withheld, unnamed, refuses, unreachable }
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

    /// Takes what a node says of a push that it took.
    fn took(&mut self, wanted: &Arc<Wanted>, held: &Held) {
        self.note(held);
        self.serves = Some(wanted.clone());
        self.withheld = held.withheld.iter().map(|hub| HubId::from(hub.as_str())).collect();
        // A list that is full may have been cut.
        self.unnamed = held.withheld.len() >= WITHHELD_MAX;
        self.removals_held = held.removals_held;
        (self.refuses, self.unreachable) = (None, None);
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

/// What a link remembers of its node.
struct Memory {
    /// When it answered last.
    reached: Instant,
    taken: Option<Taken>,
    failed: Failed,
}

/// Pushes that have failed in a row.
#[derive(Default)]
struct Failed {
    times: u32,
    /// When the next one may be tried.
    next: Option<Instant>,
}

impl Failed {
    /// True: it is to be said. One push may fail because the node ends.
    fn again(&mut self, now: Instant) -> bool {
        let pause = RETRY * 2_u32.saturating_pow(self.times.min(8));
        self.next = Some(now + pause.min(PUSH_RETRY_MAX));
        self.times += 1;
        self.times > 1
    }

    fn waits(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| now < next)
    }
}

/// What is to be done about a node.
enum Turn {
    /// It has been told this.
    Same,
    /// It is told nothing, and serves this all the same.
    Recognized(Taken),
    /// It is told nothing, and nobody knows more than before.
    Stay,
    Push,
}

fn turn(
    taken: Option<&Taken>,
    held: &Held,
    wanted: &Arc<Wanted>,
    (term, removals_max): (u64, u32),
    paused: bool,
) -> Turn {
    let is_same =
        |taken: &Taken| taken.wanted.is(wanted) && taken.removals_max == removals_max && taken.stamp.0 == term;
    match taken {
        Some(taken) if is_same(taken) => Turn::Same,
        _ if !paused => Turn::Push,
        Some(_) => Turn::Stay,
        None => recognized(held, wanted, removals_max).map_or(Turn::Stay, Turn::Recognized),
    }
}

/// What a node has got from an operator before or from another node, where that is just what is wanted.
fn recognized(held: &Held, wanted: &Arc<Wanted>, removals_max: u32) -> Option<Taken> {
    let has = wanted.kept.is_empty() && held.handed == wanted.revision.to_string();
    has.then(|| Taken {
        wanted: wanted.clone(),
        handed: held.handed.clone(),
        exact: true,
        removals_max,
        stamp: (held.term, held.sequence),
    })
}

/// Talks to a node for ever.
pub async fn run(links: Arc<Links>, target: Target) {
    let mut memory = Memory { reached: Instant::now(), taken: None, failed: Failed::default() };
    loop {
        let error = match talk(&links, &target, &mut memory).await {
            Ok(never) => match never {},
            Err(error) => error,
        };
        if memory.reached.elapsed() > GRACE {
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

async fn talk(links: &Links, target: &Target, memory: &mut Memory) -> anyhow::Result<Never> {
    let endpoint = Endpoint::from_shared(format!("https://{}", target.address))?
        .tls_config(target.tls.clone())?
        .connect_timeout(CALL_TIMEOUT)
        .tcp_nodelay(true);
    converse(links, target, memory, ConfigurationClient::new(endpoint.connect().await?)).await
}

async fn converse(
    links: &Links,
    target: &Target,
    memory: &mut Memory,
    mut client: ConfigurationClient<Channel>,
) -> anyhow::Result<Never> {
    let mut decided = links.decided.clone();
    let mut term = links.lease.term();
    loop {
        let held = timeout(CALL_TIMEOUT, client.show(ShowRequest {})).await.context("it does not answer")??;
        let mut held = held.into_inner();
        memory.reached = Instant::now();
        links.note(&target.pod_uid, &held);
        if links.report(&target.pod_uid).unreachable.is_some() {
            links.tell(&target.pod_uid, |report| report.unreachable = None);
        }
        if let Some(before) = memory.taken.take_if(|taken| taken.handed != held.handed) {
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
            let paused = cluster.is_none_or(|cluster| cluster.spec.paused);
            let asked = (*links.lease.term().borrow(), removals_max);
            match turn(memory.taken.as_ref(), &held, wanted, asked, paused) {
                Turn::Same => links.tell_if_new(target, wanted),
                Turn::Recognized(taken) => {
                    links.tell_if_new(target, wanted);
                    memory.taken = Some(taken);
                }
                Turn::Push if !memory.failed.waits(Instant::now()) => {
                    if push(links, target, &mut client, &mut held, memory, wanted, removals_max).await? {
                        continue;
                    }
                }
                Turn::Stay | Turn::Push => {}
            }
            break;
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

    fn failed(&self, target: &Target, memory: &mut Memory, began: Instant, why: String) {
        self.metrics.pushed("failed", began.elapsed());
        // The first reason stays, as where a node can't be reached.
        if memory.failed.again(Instant::now()) && self.report(&target.pod_uid).refuses.is_none() {
            warn!(pod = target.pod, why, "A node does not take what it is told.");
            self.tell(&target.pod_uid, |report| report.refuses = Some(why));
        }
    }
}

/// Tells a node what to serve. False: it fails, and is tried again later.
async fn push(
    links: &Links,
    target: &Target,
    client: &mut ConfigurationClient<Channel>,
    held: &mut Held,
    memory: &mut Memory,
    wanted: &Arc<Wanted>,
    removals_max: u32,
) -> anyhow::Result<bool> {
    // It may have it already. It is told all the same, so that an older operator can't change it any more.
    let before = memory.taken.take().filter(|taken| taken.exact && taken.wanted.kept == wanted.kept);
    let base = recognized(held, wanted, removals_max).or(before);
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
    let answer = match timeout(PUSH_TIMEOUT, client.push(stream::iter(parts))).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(status)) => {
            links.failed(target, memory, began, format!("{}: {}", status.code(), status.message()));
            return Ok(false);
        }
        Err(_) => {
            links.failed(target, memory, began, format!("it has not answered within {} s", PUSH_TIMEOUT.as_secs()));
            return Ok(false);
        }
    };
    *held = answer.into_inner();
    memory.failed = Failed::default();
    memory.reached = Instant::now();
    links.metrics.pushed(if held.taken { "taken" } else { "refused" }, began.elapsed());
    if !held.taken {
        if held.term > term {
            links.lease.raise(held.term + 1);
        }
        debug!(pod = target.pod, refused = held.refused, "A node did not take what it was told.");
        // The whole is told next, and later than what it may have got from another node meanwhile.
        anyhow::ensure!(base.is_some() || held.term == term, "it refuses: {}", held.refused);
        return Ok(true);
    }
    links.tell(&target.pod_uid, |report| report.took(wanted, held));
    memory.taken = Some(Taken {
        wanted: wanted.clone(),
        handed: held.handed.clone(),
        exact: held.withheld.is_empty() && held.removals_held == 0,
        removals_max,
        stamp: (term, sequence),
    });
    Ok(true)
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
    let set = cut(set, |entry| entry.uid.len() + entry.resource.len());
    parts.extend(set.into_iter().map(|set| PushRequest { set, ..PushRequest::default() }));
    let removed = cut(removed, |removed| removed.hub.len() + removed.kind.len() + removed.name.len());
    parts.extend(removed.into_iter().map(|removed| PushRequest { removed, ..PushRequest::default() }));
    parts.extend(cut(kept, String::len).into_iter().map(|kept| PushRequest { kept, ..PushRequest::default() }));
    parts
}

/// In pieces, none of which has more or larger things than a part may have, unless it is a single one.
fn cut<T>(all: Vec<T>, bytes: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut pieces, mut size) = (Vec::<Vec<T>>::new(), 0);
    for thing in all {
        let more = bytes(&thing);
        match pieces.last_mut() {
            Some(piece) if piece.len() < PART && size + more <= PART_BYTES => {
                piece.push(thing);
                size += more;
            }
            _ => {
                pieces.push(vec![thing]);
                size = more;
            }
        }
    }
    pieces
}

fn wire_entry(entry: &Entry) -> wire::Entry {
    let resource = serde_json::to_string(&entry.resource).unwrap_or_default();
    wire::Entry { uid: entry.uid.to_string(), generation: entry.generation, resource }
}

#[cfg(test)]
mod tests;
