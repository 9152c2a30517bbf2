//! How nodes find each other, and how clients find nodes.

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    api::core::v1::{Service, ServicePort, ServiceSpec},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{Names, metadata, port, selector};

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
    let spec = ServiceSpec {
        selector: Some(selector(cluster)),
        ports: Some(vec![service_port("clients", 80, port::CLIENTS), service_port("admin", port::ADMIN, port::ADMIN)]),
        ..ServiceSpec::default()
    };
    Service { metadata: metadata(cluster, &names.cluster), spec: Some(spec), ..Service::default() }
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
