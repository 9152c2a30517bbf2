//! What a cluster is told of itself.

use std::collections::BTreeMap;

use appsockets_crds::AppSocketsCluster;
use kube::{ResourceExt, api::ApiResource, runtime::reflector::ObjectRef};
use serde_json::json;

use crate::{
    apply::{Made, Problems},
    children::{CLUSTER_LABEL, Names, Role, role_selector},
    decide::Decided,
    keys::Rotations,
    link::Links,
    pods,
    resolve::{key_of, unseen},
    rolling::{Progress, Rollouts},
    status::{self, Node, Outcome},
    statuses::Subject,
    watching::Watched,
    world::ClusterKey,
};

/// Where it is looked at.
pub struct Look<'a> {
    pub decided: &'a Decided,
    pub nodes: &'a BTreeMap<ClusterKey, Vec<Node>>,
    pub watched: &'a Watched,
    pub links: &'a Links,
    pub problems: &'a Problems,
    pub made: &'a Made,
    pub rollouts: &'a Rollouts,
    pub rotations: &'a Rotations,
}

impl Look<'_> {
    /// A cluster, and what is to be said of it.
    pub fn subject<'w>(&self, cluster: &'w AppSocketsCluster, resource: ApiResource) -> Subject<'w> {
        let key = key_of(cluster);
        let mut own: Vec<_> = self.watched.pods.state();
        own.retain(|pod| pod.namespace().as_deref() == Some(&key.0) && pod.labels().get(CLUSTER_LABEL) == Some(&key.1));
        own.sort_by_key(|pod| pod.name_any());
        let count = |role: Role| {
            let pods: Vec<_> = own.iter().filter(|pod| Role::of(pod) == role).collect();
            (pods.len(), pods.iter().filter(|pod| pods::is_ready(pod)).count())
        };
        let (core, edges) = (count(Role::Core), count(Role::Edge));
        let ready = core.1 + edges.1;
        let trouble = own.iter().find_map(|pod| pods::trouble(pod));
        let reports = own.iter().map(|pod| self.links.report(&pod.uid().unwrap_or_default()));
        let held = reports.filter(|report| report.unreachable.is_none()).map(|report| report.removals_held).max();
        let rollout = self.rollouts.of(&key);
        let outcome = self.outcome(cluster, &key, ready, trouble, held.unwrap_or(0), rollout.as_ref());
        let paused =
            cluster.spec.paused.then(|| "The operator changes nothing of this cluster: spec.paused.".to_owned());
        let selector = role_selector(cluster, Role::Core);
        let selector: Vec<_> = selector.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let status = serde_json::to_value(&cluster.status).unwrap_or_default();
        let mut more = json!({"replicas": core.0, "readyReplicas": core.1, "selector": selector.join(",")});
        if cluster.spec.edges.is_some() || edges.0 > 0 {
            more["edges"] = json!({"replicas": edges.0, "readyReplicas": edges.1});
        }
        if let Some(rollout) = rollout {
            more["rollout"] = json!(rollout.status);
        }
        if let Some(rotation) = self.rotations.of(&key) {
            more["keys"] = json!(rotation.message);
        }
        Subject { resource, metadata: &cluster.metadata, status, outcome, paused, more }
    }

    fn outcome(
        &self,
        cluster: &AppSocketsCluster,
        key: &ClusterKey,
        ready: usize,
        trouble: Option<String>,
        removals_held: u32,
        rollout: Option<&Progress>,
    ) -> Outcome {
        if let Some(problem) = self.problems.of(key) {
            let (reason, message) = (problem.reason, problem.message);
            return match problem.stalled {
                true => Outcome::Stalled { reason, message },
                false => Outcome::InProgress { reason, message },
            };
        }
        let scope = self.decided.world.scope.as_deref();
        if let Some(others) = unseen(cluster, scope) {
            return Outcome::Stalled {
                reason: "TenantsNotSeen",
                message: format!(
                    "Nodes are handed nothing over, because this operator sees the namespace {} alone, and spec.tenants \
                     lets {others} have hubs here: remove others from it, or run an operator for all namespaces.",
                    scope.unwrap_or_default()
                ),
            };
        }
        if let Some(why) = &self.decided.frozen {
            let message = format!("Nodes keep what they have, because {why}: apply the definitions of this release.");
            return Outcome::Stalled { reason: "DefinitionsGone", message };
        }
        if removals_held > 0 {
            let message = format!(
                "{removals_held} hubs would go at once, so they stay: if that is meant, kubectl annotate appsocketscluster \
                 {} -n {} appsockets.io/remove-hubs={removals_held} --overwrite",
                key.1, key.0
            );
            return Outcome::Stalled { reason: "RemovalsHeld", message };
        }
        if let Some(Progress { stalled, message, .. }) = rollout {
            return match stalled {
                true => Outcome::Stalled { reason: "RolloutStalled", message: message.clone() },
                false => Outcome::InProgress { reason: "RollingOut", message: message.clone() },
            };
        }
        let made = self.made.of(key) == Some(cluster.metadata.generation.unwrap_or(0));
        let names = Names::of(cluster);
        let applied = |role: Role| {
            let set = self.watched.stateful_sets.get(&ObjectRef::new(names.set(role)).within(&key.0));
            set.and_then(|set| set.spec.as_ref()?.replicas)
        };
        let (core, edges) = (Role::Core.wanted(cluster), Role::Edge.wanted(cluster));
        let wanted = usize::try_from(core + edges).unwrap_or(0);
        let applied = applied(Role::Core) == Some(core) && applied(Role::Edge).unwrap_or(0) == edges;
        if !made && !cluster.spec.paused || !applied || ready != wanted {
            let mut message = format!("{ready} of {wanted} nodes are ready.");
            if let Some(trouble) = trouble {
                message += &format!(" {trouble}");
            }
            return Outcome::InProgress { reason: "Starting", message };
        }
        let nodes = self.nodes.get(key).map_or(&[][..], Vec::as_slice);
        let lagging = self.decided.resolved.wanted.get(key).and_then(|wanted| status::of_nodes(wanted, nodes));
        lagging.unwrap_or_else(|| Outcome::Ready {
            reason: "Serving",
            message: "Every node is ready and serves what it ought to.".to_owned(),
        })
    }
}
