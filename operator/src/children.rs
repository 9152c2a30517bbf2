//! The objects that a cluster of nodes is made of, as they ought to be.
//!
//! They follow from the custom resource alone, so the same resource gives the same bytes: an operator that begins again
//! changes nothing.

use std::collections::BTreeMap;

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    api::{
        apps::v1::StatefulSet,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Pod, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};

use crate::rollout::Window;

pub use node::asks_for_other_pods;

mod node;
mod optional;
pub mod secrets;
mod services;

/// Says of an object that the operator makes it. What has it is watched.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "appsockets-operator");
/// Names the cluster that an object belongs to.
pub const CLUSTER_LABEL: &str = "appsockets.io/cluster";
/// Says what the nodes of a StatefulSet do.
pub const ROLE_LABEL: &str = "appsockets.io/role";
/// Says of a pod whether clients are led to it. Its node decides whether it is ready, and the operator which of those
/// that are get clients.
pub const ACCEPTING: &str = "appsockets.io/accepting";

/// Where nodes listen.
pub mod port {
    /// For clients.
    pub const CLIENTS: i32 = 8080;
    /// For administrators.
    pub const ADMIN: i32 = 8081;
    /// For metrics and probes.
    pub const METRICS: i32 = 9090;
    /// For other nodes.
    pub const NODES: i32 = 7946;
    /// For the operator.
    pub const OPERATOR: i32 = 7947;
}

/// All of them but the Secrets, which are made once, of chance.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    pub account: ServiceAccount,
    /// What changes without that nodes restart.
    pub size: ConfigMap,
    /// By which nodes find each other.
    pub nodes: Service,
    /// For clients and administrators.
    pub clients: Service,
    /// How many pods others may take away at a time.
    pub budget: PodDisruptionBudget,
    /// The same of edge nodes.
    pub edge_budget: Option<PodDisruptionBudget>,
    /// Who sets the number of nodes, if that is somebody.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Who may reach nodes, if that is not everybody.
    pub policy: Option<NetworkPolicy>,
    pub stateful_set: StatefulSet,
    /// Of edge nodes, while there are some, or ought to be.
    pub edges: Option<StatefulSet>,
}

/// What the nodes of a StatefulSet do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// They share the channels, and hold connections unless edge nodes do.
    Core,
    /// They only hold connections.
    Edge,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Role::Core => "core",
            Role::Edge => "edge",
        }
    }

    /// What its nodes count from, so that none has the number of another node.
    pub fn numbers_from(self) -> u64 {
        match self {
            Role::Core => 0,
            Role::Edge => 1 << 32,
        }
    }

    /// That of a pod's node.
    pub fn of(pod: &Pod) -> Role {
        match pod.labels().get(ROLE_LABEL) {
            Some(role) if role == Role::Edge.name() => Role::Edge,
            _ => Role::Core,
        }
    }

    /// How many nodes there ought to be.
    pub fn wanted(self, cluster: &AppSocketsCluster) -> i32 {
        let edges = || cluster.spec.edges.as_ref().map_or(0, |edges| edges.replicas);
        match self {
            Role::Core => cluster.spec.replicas,
            // Without anybody who has the channels they would serve nobody.
            Role::Edge if cluster.spec.replicas == 0 => 0,
            Role::Edge => edges(),
        }
    }
}

/// The pods of a StatefulSet.
#[derive(Clone, Copy)]
pub struct Pods<'a> {
    pub window: Window,
    /// The set as it is: its pods stay as they are while nothing that is said of pods has changed, also where another
    /// release of the operator would make them otherwise.
    pub before: Option<&'a StatefulSet>,
}

/// What a cluster is made of.
pub fn children(cluster: &AppSocketsCluster, core: Pods<'_>, edges: Option<Pods<'_>>) -> Children {
    let names = Names::of(cluster);
    Children {
        account: ServiceAccount {
            metadata: metadata(cluster, &names.nodes),
            automount_service_account_token: Some(false),
            ..ServiceAccount::default()
        },
        size: ConfigMap {
            metadata: metadata(cluster, &names.nodes),
            data: Some([(node::EXPECTED.to_owned(), cluster.spec.replicas.max(1).to_string())].into()),
            ..ConfigMap::default()
        },
        nodes: services::nodes(cluster, &names),
        clients: services::clients(cluster, &names),
        budget: services::budget(cluster, &names, Role::Core),
        edge_budget: edges.map(|_| services::budget(cluster, &names, Role::Edge)),
        autoscaler: optional::autoscaler(cluster, &names),
        policy: optional::policy(cluster, &names),
        stateful_set: node::stateful_set(cluster, &names, Role::Core, core),
        edges: edges.map(|edges| node::stateful_set(cluster, &names, Role::Edge, edges)),
    }
}

/// What the objects are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The StatefulSet and the Service for clients.
    pub cluster: String,
    /// The StatefulSet of edge nodes.
    pub edges: String,
    /// The Service, the account and the configuration of nodes.
    pub nodes: String,
    /// The Secret with what nodes sign and encrypt with.
    pub keys: String,
    /// The Secret with what nodes show to the operator.
    pub node_certificate: String,
    /// The Secret with what the operator signs certificates with.
    pub authority: String,
}

impl Names {
    pub fn of(cluster: &AppSocketsCluster) -> Names {
        let cluster = cluster.name_any();
        Names {
            edges: format!("{cluster}-edge"),
            nodes: format!("{cluster}-nodes"),
            keys: format!("{cluster}-keys"),
            node_certificate: format!("{cluster}-node-certificate"),
            authority: format!("{cluster}-authority"),
            cluster,
        }
    }
}

impl Names {
    pub fn set(&self, role: Role) -> &str {
        match role {
            Role::Core => &self.cluster,
            Role::Edge => &self.edges,
        }
    }

    /// The disruption budget.
    pub fn budget(&self, role: Role) -> &str {
        match role {
            Role::Core => &self.nodes,
            Role::Edge => &self.edges,
        }
    }
}

/// The name that certificates of a cluster's nodes are for.
pub fn host(namespace: &str, cluster: &str) -> String {
    format!("{cluster}.{namespace}.nodes.appsockets.io")
}

/// What an object of a cluster is called and labelled, and whose it is, so that it goes with the cluster.
pub fn metadata(cluster: &AppSocketsCluster, name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: cluster.namespace(),
        labels: Some(labels(cluster)),
        owner_references: Some(vec![OwnerReference {
            api_version: AppSocketsCluster::api_version(&()).into_owned(),
            kind: AppSocketsCluster::kind(&()).into_owned(),
            name: cluster.name_any(),
            uid: cluster.uid().unwrap_or_default(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        }]),
        ..ObjectMeta::default()
    }
}

fn labels(cluster: &AppSocketsCluster) -> BTreeMap<String, String> {
    let mut labels = cluster.spec.labels.clone();
    labels.extend(selector(cluster));
    labels.insert(MANAGED_BY.0.to_owned(), MANAGED_BY.1.to_owned());
    labels
}

/// Selects the pods of a cluster.
pub fn selector(cluster: &AppSocketsCluster) -> BTreeMap<String, String> {
    [("app.kubernetes.io/name".to_owned(), "appsockets".to_owned()), (CLUSTER_LABEL.to_owned(), cluster.name_any())]
        .into()
}

/// Selects those of one StatefulSet.
pub fn role_selector(cluster: &AppSocketsCluster, role: Role) -> BTreeMap<String, String> {
    let mut selector = selector(cluster);
    selector.insert(ROLE_LABEL.to_owned(), role.name().to_owned());
    selector
}

#[cfg(test)]
mod tests;
