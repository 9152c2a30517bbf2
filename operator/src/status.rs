//! What a resource is told of itself: one contract for kubectl, kstatus and Argo CD.
//!
//! `Ready` is True only when every live node serves this generation, Unknown while that comes by itself, with
//! `Reconciling`, and False where only a person can help, with `Stalled`. Nothing in it changes while nothing happens.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::HubId,
    settings::{
        entry::{Entry, ResourceId},
        resource::Resource,
    },
};
use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
    jiff::Timestamp,
};

use crate::{resolve::Wanted, verdict::Verdict};

/// Nodes that are named in a message, at most.
const NAMED_MAX: usize = 3;

/// What is known of a live node: one that was ready since it began, and whose pod is there and not deleted.
#[derive(Clone, Debug, Default)]
pub struct Node {
    /// That of its pod.
    pub name: String,
    /// What it took last; None: nobody knows.
    pub serves: Option<Arc<Wanted>>,
    /// Hubs of which it can't use something, so that they stayed as they were.
    pub withheld: BTreeSet<HubId>,
    /// Whether these are only some of them.
    pub unnamed: bool,
    /// Why it does not take what it is told, if so more than once.
    pub refuses: Option<String>,
    /// Why it can't be reached, if so for longer than a moment.
    pub unreachable: Option<String>,
}

impl Node {
    /// Whether it serves what is wanted of these resources.
    pub fn serves(&self, wanted: &BTreeMap<ResourceId, Arc<Entry>>, ids: &[ResourceId]) -> bool {
        let Some(serves) = self.serves.as_ref().filter(|_| !self.unnamed) else { return false };
        ids.iter().all(|id| {
            !self.withheld.contains(&id.hub)
                && match (serves.entries.get(id), wanted.get(id)) {
                    (Some(served), Some(wanted)) => Arc::ptr_eq(served, wanted) || served == wanted,
                    _ => false,
                }
        })
    }
}

/// What a resource is told in its conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ready { reason: &'static str, message: String },
    InProgress { reason: &'static str, message: String },
    Stalled { reason: &'static str, message: String },
}

impl Outcome {
    /// The status, the reason and the message of `Ready`.
    fn ready(&self) -> (&'static str, &'static str, &str) {
        match self {
            Outcome::Ready { reason, message } => ("True", reason, message),
            Outcome::InProgress { reason, message } => ("Unknown", reason, message),
            Outcome::Stalled { reason, message } => ("False", reason, message),
        }
    }
}

/// What a tenant's resource is told. `ids` are what it says among what is `wanted`; `strict`: whether a node that can't
/// be reached counts as one that serves nothing, although it served this when it was last heard of.
pub fn of_tenant(verdict: &Verdict, ids: &[ResourceId], wanted: &Wanted, nodes: &[Node], strict: bool) -> Outcome {
    match verdict {
        Verdict::Stalled { reason, message } => {
            return Outcome::Stalled { reason: reason.name(), message: message.clone() };
        }
        Verdict::Waiting { reason, message } => return Outcome::InProgress { reason, message: message.clone() },
        Verdict::Wanted => {}
    }
    if nodes.is_empty() {
        return Outcome::InProgress { reason: "NoNodes", message: "No node of the cluster is ready.".to_owned() };
    }
    let hidden = |node: &&Node| strict && node.unreachable.is_some();
    let lagging: Vec<_> = nodes.iter().filter(|node| !node.serves(&wanted.entries, ids) || hidden(node)).collect();
    if lagging.is_empty() {
        return Outcome::Ready { reason: "Served", message: "Every node serves it.".to_owned() };
    }
    laggards("serve it", &lagging, nodes.len(), ids.first().map(|id| &id.hub))
}

/// The same, with what becomes of messages that the rules want on more nodes than there are to be.
pub fn with_copies(outcome: Outcome, ids: &[ResourceId], wanted: &Wanted, replicas: i32) -> Outcome {
    let rules = ids.iter().filter_map(|id| match &wanted.entries.get(id)?.resource {
        Resource::ChannelRules { spec, .. } => Some((i32::from(spec.redundancy), spec.redundancy_required)),
        _ => None,
    });
    let lacking = rules.filter(|(copies, _)| replicas > 0 && *copies >= replicas).max();
    let (Outcome::Ready { reason, message }, Some((copies, required))) = (&outcome, lacking) else { return outcome };
    let so = match required {
        true => "publishes are refused".to_owned(),
        false => format!("messages are acknowledged with {}", replicas - 1),
    };
    let message = format!("{message} For {copies} copies there are too few core nodes ({replicas}): {so}.");
    Outcome::Ready { reason, message }
}

/// What a cluster is told of the nodes that do not serve what they ought to; None: all do.
pub fn of_nodes(wanted: &Wanted, nodes: &[Node]) -> Option<Outcome> {
    let in_line = |node: &Node| {
        node.unreachable.is_none()
            && node.withheld.is_empty()
            && node.serves.as_ref().is_some_and(|serves| serves.is(wanted))
    };
    let lagging: Vec<_> = nodes.iter().filter(|node| !in_line(node)).collect();
    (!lagging.is_empty()).then(|| laggards("serve what they ought to", &lagging, nodes.len(), None))
}

/// `hub`: the one that this is about; None: it is about all.
fn laggards(what: &str, lagging: &[&Node], nodes: usize, hub: Option<&HubId>) -> Outcome {
    let mut names: Vec<_> = lagging.iter().take(NAMED_MAX).map(|node| node.name.as_str()).collect();
    let more = lagging.len().saturating_sub(NAMED_MAX);
    let rest = format!("{more} more");
    if more > 0 {
        names.push(&rest);
    }
    let mut message =
        format!("{} of {nodes} nodes {what}; it is not seen of {}.", nodes - lagging.len(), names.join(", "));
    let why = why(lagging, hub);
    if let Some(why) = &why {
        message += &format!(" {why}");
    }
    let reason = if why.is_some() { "NodeLagging" } else { "Applying" };
    Outcome::InProgress { reason, message }
}

/// Why nodes lag, where it is known of one of them.
fn why(lagging: &[&Node], hub: Option<&HubId>) -> Option<String> {
    if let Some((name, why)) = lagging.iter().find_map(|node| Some((&node.name, node.unreachable.as_ref()?))) {
        return Some(format!("{name} can't be reached: {why}."));
    }
    if let Some((name, why)) = lagging.iter().find_map(|node| Some((&node.name, node.refuses.as_ref()?))) {
        return Some(format!(
            "{name} takes nothing new ({why}): take back what was changed last, or have the node run this release."
        ));
    }
    // Nobody is told the names of others' hubs.
    let named = |node: &Node| node.withheld.iter().find(|named| hub.is_none_or(|hub| hub == *named)).cloned();
    const HELP: &str = "have the node run this release, or look for an older resource of that name which can't be read";
    if let Some((name, hub)) = lagging.iter().find_map(|node| Some((&node.name, named(node)?))) {
        return Some(format!("{name} can't use something of the hub {hub}, so that stays there as it was: {HELP}."));
    }
    let unnamed = lagging.iter().find(|node| node.unnamed)?;
    Some(format!(
        "{} can't use something of more hubs than it names, and this may be one of them: {HELP}.",
        unnamed.name
    ))
}

/// The conditions that say it. A condition keeps the time of its last change while its status stays the same.
pub fn conditions(
    outcome: &Outcome,
    paused: Option<&str>,
    generation: i64,
    before: &[Condition],
    now: Timestamp,
) -> Vec<Condition> {
    let (status, reason, message) = outcome.ready();
    let mut conditions = vec![("Ready", status, reason, message)];
    match outcome {
        Outcome::Ready { .. } => {}
        Outcome::InProgress { .. } => conditions.push(("Reconciling", "True", reason, message)),
        Outcome::Stalled { .. } => conditions.push(("Stalled", "True", reason, message)),
    }
    if let Some(message) = paused {
        conditions.retain(|(kind, ..)| *kind != "Reconciling");
        conditions.push(("Paused", "True", "Paused", message));
    }
    let condition = |(kind, status, reason, message): (&str, &str, &str, &str)| {
        let same = before.iter().find(|condition| condition.type_ == kind && condition.status == status);
        Condition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: Some(generation),
            last_transition_time: same.map_or(Time(now), |condition| condition.last_transition_time.clone()),
        }
    };
    conditions.into_iter().map(condition).collect()
}

#[cfg(test)]
mod tests;
