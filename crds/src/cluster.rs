//! A running cluster of nodes.

use std::collections::BTreeMap;

use k8s_openapi::{api::core::v1::Toleration, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{reference::SecretKeyRef, status::none_yet};

/// A running cluster of nodes: one StatefulSet, its services, configuration and secrets.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "appsockets.io",
    version = "v1alpha1",
    kind = "AppSocketsCluster",
    namespaced,
    status = "ClusterStatus",
    derive = "PartialEq",
    shortname = "asc",
    category = "appsockets",
    doc = "A running cluster of nodes: one StatefulSet, its services, configuration and secrets.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new("size(self.metadata.name) <= 40").message("Give the cluster a name of at most 40 characters."),
    validation = Rule::new("!(has(self.spec.autoscale) && has(self.spec.edges))")
        .message("Write either autoscale or edges: an autoscaler sets replicas, and with edges those nodes have no clients.")
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
pub struct AppSocketsClusterSpec {
    /// How many nodes there ought to be.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 100").message("Write 0 to 100 nodes."))]
    #[serde(default = "three")]
    pub replicas: i32,
    /// The image of the nodes.
    #[x_kube(validation = Rule::new("size(self) > 0").message("Write the image of the nodes."))]
    #[schemars(length(max = 500))]
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; unless given, what Kubernetes takes for such an image.
    #[x_kube(validation = Rule::new("self in ['Always', 'IfNotPresent', 'Never']")
        .message("Write Always, IfNotPresent or Never."))]
    #[schemars(length(max = 20))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<String>,
    /// Which Kubernetes namespaces may have hubs here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenants: Option<TenantsSpec>,
    /// What a node of the cluster may use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
    /// Nodes that have no channels and only hold connections. Where there are some, other nodes get no clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesSpec>,
    /// How long sessions are given to connect elsewhere when a node stops, in seconds.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 600").message("Write 0 to 600 seconds."))]
    #[serde(default = "ten")]
    pub drain_seconds: i32,
    /// Keys of the nodes' configuration beside those that the operator sets, such as `session.rateLimit`, with their
    /// values as text. A change restarts nodes.
    #[schemars(length(max = 200))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub config: BTreeMap<String, String>,
    /// Labels of every object of the cluster, beside those that the operator sets.
    #[schemars(length(max = 50))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels of the machines that nodes may run on.
    #[schemars(length(max = 50))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_selector: BTreeMap<String, String>,
    /// Which taints of machines keep no node away.
    #[schemars(length(max = 50))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tolerations: Vec<Toleration>,
    /// Labels of machines over whose values nodes are spread, such as `topology.kubernetes.io/zone`; unless given, over
    /// the machines.
    #[schemars(length(max = 10), inner(length(max = 317)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub spread_over: Vec<String>,
    /// Where the databases and brokers are that nodes share, as Secrets say it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<ConnectionsSpec>,
    /// Has a HorizontalPodAutoscaler set `replicas`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub autoscale: Option<AutoscaleSpec>,
    /// Whether a NetworkPolicy lets only those reach nodes who have to.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub network_policy: bool,
    /// How pods are replaced when they are to be others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<UpdateSpec>,
    /// How long nodes accept former keys once they use new ones, in seconds. The annotation `appsockets.io/rotate-keys` with
    /// another value has them exchanged.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 604800").message("Write 0 to 604800 seconds, which is a week."))]
    #[serde(default = "hour")]
    pub key_overlap_seconds: i32,
    /// Whether sessions are sent from fuller nodes to others where they are uneven; unless given, they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalance: Option<bool>,
    /// Whether the operator leaves everything of this cluster as it is, and only tells what it would do.
    #[serde(default)]
    pub paused: bool,
}

/// Connection strings, each of which is a value in a Secret of the cluster's namespace. They are not read by the operator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConnectionsSpec {
    /// Of PostgreSQL; nodes find it as `DATABASE_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<SecretKeyRef>,
    /// Of Redis; nodes find it as `REDIS_URL`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redis: Option<SecretKeyRef>,
    /// Of NATS, as `nats://user:password@host:4222`; nodes find it as `NATS_URL` and ask auth providers there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<SecretKeyRef>,
}

/// Between which numbers of nodes, and by what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.minReplicas <= self.maxReplicas")
    .message("Write a minReplicas that is no more than maxReplicas."))]
#[x_kube(validation = Rule::new("has(self.sessionsPerNode) || has(self.cpuPercent)")
    .message("Write sessionsPerNode, cpuPercent, or both."))]
pub struct AutoscaleSpec {
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("Write 1 to 100 nodes."))]
    pub min_replicas: i32,
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("Write 1 to 100 nodes."))]
    pub max_replicas: i32,
    /// Sessions that a node ought to have, by the metric `appsockets_sessions`, which the cluster's metrics adapter has to
    /// serve.
    #[x_kube(validation = Rule::new("self >= 1").message("Write 1 session or more."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions_per_node: Option<i32>,
    /// How much of the CPU that it asks for a node ought to use, in percent.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("Write 1 to 100 percent."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<i32>,
}

/// Edge nodes, in a StatefulSet of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgesSpec {
    /// How many there ought to be.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 100").message("Write 0 to 100 edge nodes."))]
    pub replicas: i32,
    /// What an edge node may use; unless given, as much as the other nodes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourcesSpec>,
}

/// How pods are replaced, one after the other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct UpdateSpec {
    /// After so many new pods the rollout waits until somebody says that it goes on, with `kubectl appsockets promote`;
    /// unless given, it does not wait.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 100").message("Write 1 to 100 pods."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pause_after: Option<i32>,
}

/// Which Kubernetes namespaces may have hubs in a cluster. Its own always may.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("!(has(self.all) && self.all && has(self.namespaces))")
    .message("Write either `all: true` or `namespaces`."))]
pub struct TenantsSpec {
    /// Every namespace may.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// These may.
    #[schemars(length(max = 1000), inner(length(max = 63)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,
}

/// What a node asks of its machine and may use of it, as Kubernetes writes quantities.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ResourcesSpec {
    #[schemars(length(max = 10))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub requests: BTreeMap<String, String>,
    #[schemars(length(max = 10))]
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
}

/// What the operator says of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// The generation of the resource that this is about; -1: none yet.
    #[serde(default = "none_yet")]
    pub observed_generation: i64,
    /// Pods of nodes, without those of edge nodes.
    #[serde(default)]
    pub replicas: i32,
    /// Those of them whose node is ready.
    #[serde(default)]
    pub ready_replicas: i32,
    /// Pods of edge nodes, where there ought to be some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edges: Option<EdgesStatus>,
    /// Selects the pods of `replicas`, for autoscalers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<String>,
    /// How far the pods have come that are being replaced, added or removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutStatus>,
    /// How far nodes have exchanged their keys, while that goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keys: Option<String>,
    /// `Ready`, and where they hold `Reconciling`, `Stalled` and `Paused`.
    #[serde(default)]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
}

/// The pods of edge nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgesStatus {
    pub replicas: i32,
    /// Those of them whose node is ready.
    pub ready_replicas: i32,
}

/// How far a rollout has come.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutStatus {
    /// Whose pods these are: of `core` or of `edge` nodes.
    pub role: String,
    /// That of the pods as the resource says now.
    pub revision: String,
    /// Pods of that revision that serve.
    pub updated: i32,
    /// Pods that are to go.
    pub outdated: i32,
    /// The gate that the next step waits at. The annotation `appsockets.io/skip-gates` with its name goes past it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<String>,
    /// Sessions before the last pod went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sessions: Option<i64>,
}

fn three() -> i32 {
    3
}

fn ten() -> i32 {
    10
}

fn hour() -> i32 {
    3600
}
