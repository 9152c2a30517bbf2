//! What a cluster has only if it asks for it.

use appsockets_crds::{AppSocketsCluster, AutoscaleSpec};
use k8s_openapi::{
    api::{
        autoscaling::v2::{
            CrossVersionObjectReference, HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec, MetricIdentifier,
            MetricSpec, MetricTarget, PodsMetricSource, ResourceMetricSource,
        },
        networking::v1::{
            NetworkPolicy, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
        },
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::LabelSelector, util::intstr::IntOrString},
};
use kube::Resource;

use super::{Names, metadata, port, selector};

/// It sets the cluster's own number of nodes, so that what follows from that number follows here as well.
pub fn autoscaler(cluster: &AppSocketsCluster, names: &Names) -> Option<HorizontalPodAutoscaler> {
    let autoscale = cluster.spec.autoscale.as_ref()?;
    let spec = HorizontalPodAutoscalerSpec {
        min_replicas: Some(autoscale.min_replicas),
        max_replicas: autoscale.max_replicas,
        metrics: Some(measures(autoscale)),
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some(AppSocketsCluster::api_version(&()).into_owned()),
            kind: AppSocketsCluster::kind(&()).into_owned(),
            name: names.cluster.clone(),
        },
        ..HorizontalPodAutoscalerSpec::default()
    };
    let metadata = metadata(cluster, &names.cluster);
    Some(HorizontalPodAutoscaler { metadata, spec: Some(spec), ..HorizontalPodAutoscaler::default() })
}

fn measures(autoscale: &AutoscaleSpec) -> Vec<MetricSpec> {
    let sessions = autoscale.sessions_per_node.map(|sessions| MetricSpec {
        type_: "Pods".to_owned(),
        pods: Some(PodsMetricSource {
            metric: MetricIdentifier { name: "appsockets_sessions".to_owned(), selector: None },
            target: MetricTarget {
                type_: "AverageValue".to_owned(),
                average_value: Some(Quantity(sessions.to_string())),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    let cpu = autoscale.cpu_percent.map(|percent| MetricSpec {
        type_: "Resource".to_owned(),
        resource: Some(ResourceMetricSource {
            name: "cpu".to_owned(),
            target: MetricTarget {
                type_: "Utilization".to_owned(),
                average_utilization: Some(percent),
                ..MetricTarget::default()
            },
        }),
        ..MetricSpec::default()
    });
    sessions.into_iter().chain(cpu).collect()
}

/// Clients and collectors of metrics may come from anywhere, administrators from the namespace; other nodes and the
/// operator to the ports that are theirs.
pub fn policy(cluster: &AppSocketsCluster, names: &Names) -> Option<NetworkPolicy> {
    if !cluster.spec.network_policy {
        return None;
    }
    let port = |port: i32, protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(port)),
        protocol: Some(protocol.to_owned()),
        ..NetworkPolicyPort::default()
    };
    let pods = |labels| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
    let own = || pods(selector(cluster));
    let from = |pods: LabelSelector, namespaces: Option<LabelSelector>| {
        Some(vec![NetworkPolicyPeer {
            pod_selector: Some(pods),
            namespace_selector: namespaces,
            ..NetworkPolicyPeer::default()
        }])
    };
    let operator = [("app.kubernetes.io/name".to_owned(), "appsockets-operator".to_owned())].into();
    let rule = |ports: Vec<NetworkPolicyPort>, from| NetworkPolicyIngressRule { ports: Some(ports), from };
    let spec = NetworkPolicySpec {
        pod_selector: Some(own()),
        policy_types: Some(vec!["Ingress".to_owned()]),
        ingress: Some(vec![
            rule(vec![port(port::CLIENTS, "TCP"), port(port::METRICS, "TCP")], None),
            rule(vec![port(port::ADMIN, "TCP")], from(LabelSelector::default(), None)),
            rule(vec![port(port::NODES, "TCP"), port(port::NODES, "UDP")], from(own(), None)),
            rule(vec![port(port::OPERATOR, "TCP")], from(pods(operator), Some(LabelSelector::default()))),
        ]),
        ..NetworkPolicySpec::default()
    };
    Some(NetworkPolicy { metadata: metadata(cluster, &names.nodes), spec: Some(spec) })
}
