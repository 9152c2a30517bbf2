//! What a cluster is made of, where a mistake would be found late or by nobody.

use appsockets_crds::AppSocketsCluster;
use serde_json::{Value, json};

use super::{children, secrets};

fn cluster(spec: Value) -> AppSocketsCluster {
    serde_json::from_value(json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "AppSocketsCluster", "spec": spec,
        "metadata": {"name": "main", "namespace": "shop", "uid": "uid-1"},
    }))
    .unwrap()
}

fn pod(spec: Value) -> Value {
    let set = serde_json::to_value(children(&cluster(spec)).stateful_set).unwrap();
    set["spec"]["template"].clone()
}

fn variable(pod: &Value, name: &str) -> Value {
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let found = variables.iter().find(|variable| variable["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not set"))["value"].clone()
}

#[test]
fn a_number_of_nodes_changes_no_pod() {
    let three = pod(json!({"image": "node:1"}));
    assert_eq!(three, pod(json!({"image": "node:1", "replicas": 5})));
    assert_eq!(three, pod(json!({"image": "node:1", "tenants": {"all": true}, "paused": true})));
    assert_ne!(three, pod(json!({"image": "node:2"})));
}

#[test]
fn what_a_cluster_says_of_its_nodes_reaches_them_and_displaces_nothing_of_the_operator() {
    let config = json!({"session.rateLimit": "7", "operator.listen": "0.0.0.0:1", "cluster.expectedCoreNodes": "9"});
    let pod = pod(json!({"image": "node:1", "drainSeconds": 30, "config": config}));
    assert_eq!(variable(&pod, "APPSOCKETS_SESSION__RATE_LIMIT"), "7");
    assert_eq!(variable(&pod, "APPSOCKETS_OPERATOR__LISTEN"), "0.0.0.0:7947");
    assert_eq!(variable(&pod, "APPSOCKETS_CLUSTER__EXPECTED_CORE_NODES"), Value::Null, "it comes from the ConfigMap");
    assert_eq!(variable(&pod, "APPSOCKETS_ENGINE__DRAIN_MS"), "30000");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 50);
}

#[test]
fn secrets_belong_to_the_cluster_and_differ() {
    let cluster = cluster(json!({"image": "node:1"}));
    let keys = secrets::keys(&cluster).unwrap();
    assert_eq!(keys.metadata.owner_references.as_ref().map(|owners| owners[0].uid.as_str()), Some("uid-1"));
    let values: std::collections::BTreeSet<_> = [secrets::SESSION, secrets::ADMIN, secrets::MEMBERSHIP, secrets::RPC]
        .map(|key| secrets::value(&keys, key))
        .into();
    assert_eq!(values.len(), 4);
    assert!(values.iter().flatten().all(|value| value.len() == 64));
    let authority = secrets::authority(&cluster).unwrap();
    let node = secrets::node_certificate(&cluster, &authority).unwrap();
    assert_eq!(secrets::value(&node, secrets::AUTHORITY), secrets::value(&authority, secrets::CERTIFICATE));
    assert_ne!(secrets::value(&node, secrets::CERTIFICATE_KEY), secrets::value(&authority, secrets::CERTIFICATE_KEY));
}
