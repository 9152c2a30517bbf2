//! How nodes find each other, and how clients find nodes.

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    api::{
        core::v1::{Service, ServicePort, ServiceSpec},
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};

use super::{ACCEPTING, Names, Role, metadata, port, role_selector, selector};

/// One address for each node, also of those that are not ready: a cluster that begins has only such.
pub fn nodes(cluster: &AppSocketsCluster, names: &Names) -> Service {
    let spec = ServiceSpec {
        cluster_ip: Some("None".to_owned()),
        publish_not_ready_addresses: Some(true),
        selector: Some(selector(cluster)),
        ports: Some(vec![service_port("nodes", port::NODES, port::NODES)]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(cluster, &names.nodes), spec: Some(spec), ..Service::default() }
}

/// One address for all nodes that want clients.
pub fn clients(cluster: &AppSocketsCluster, names: &Names) -> Service {
    let mut accepting = selector(cluster);
    accepting.insert(ACCEPTING.to_owned(), "true".to_owned());
    let spec = ServiceSpec {
        selector: Some(accepting),
        ports: Some(vec![service_port("clients", 80, port::CLIENTS), service_port("admin", port::ADMIN, port::ADMIN)]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(cluster, &names.cluster), spec: Some(spec), ..Service::default() }
}

/// One pod may be taken away at a time, and one in ten of many. A pod that does not serve never keeps others from that.
pub fn budget(cluster: &AppSocketsCluster, names: &Names, role: Role) -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        max_unavailable: Some(IntOrString::Int(((role.wanted(cluster) + 9) / 10).max(1))),
        selector: Some(LabelSelector { match_labels: Some(role_selector(cluster, role)), ..LabelSelector::default() }),
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
        ..PodDisruptionBudgetSpec::default()
    };
    PodDisruptionBudget {
        metadata: metadata(cluster, names.budget(role)),
        spec: Some(spec),
        ..PodDisruptionBudget::default()
    }
}

fn service_port(name: &str, port: i32, target: i32) -> ServicePort {
    ServicePort {
        name: Some(name.to_owned()),
        port,
        target_port: Some(IntOrString::Int(target)),
        protocol: Some("TCP".to_owned()),
        ..ServicePort::default()
    }
}
