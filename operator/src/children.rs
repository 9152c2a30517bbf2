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
        core::v1::{ConfigMap, Service, ServiceAccount},
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
    /// Who sets the number of nodes, if that is somebody.
    pub autoscaler: Option<HorizontalPodAutoscaler>,
    /// Who may reach nodes, if that is not everybody.
    pub policy: Option<NetworkPolicy>,
    pub stateful_set: StatefulSet,
}

/// What a cluster is made of.
///
/// `before` is the StatefulSet as it is: its pods stay as they are while nothing that is said of pods has changed, also
/// where another release of the operator would make them otherwise.
pub fn children(cluster: &AppSocketsCluster, window: Window, before: Option<&StatefulSet>) -> Children {
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
        budget: services::budget(cluster, &names),
        autoscaler: optional::autoscaler(cluster, &names),
        policy: optional::policy(cluster, &names),
        stateful_set: node::stateful_set(cluster, &names, window, before),
    }
}

/// What the objects are called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// The StatefulSet and the Service for clients.
    pub cluster: String,
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
            nodes: format!("{cluster}-nodes"),
            keys: format!("{cluster}-keys"),
            node_certificate: format!("{cluster}-node-certificate"),
            authority: format!("{cluster}-authority"),
            cluster,
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

#[cfg(test)]
mod tests;
