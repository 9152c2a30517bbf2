//! What a cluster is made of, where a mistake would be found late or by nobody.

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::api::apps::v1::StatefulSet;
use serde_json::{Value, json};

use super::{Pods, children, secrets};
use crate::rollout::Window;

fn cluster(spec: Value) -> AppSocketsCluster {
    serde_json::from_value(json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "AppSocketsCluster", "spec": spec,
        "metadata": {"name": "main", "namespace": "shop", "uid": "uid-1"},
    }))
    .unwrap()
}

fn pods(before: Option<&StatefulSet>) -> Pods<'_> {
    Pods { window: Window { start: 0, replicas: 3 }, before }
}

fn pod(spec: Value) -> Value {
    pod_after(spec, None)
}

fn pod_after(spec: Value, before: Option<&StatefulSet>) -> Value {
    let set = serde_json::to_value(children(&cluster(spec), pods(before), None).stateful_set).unwrap();
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
fn another_release_of_the_operator_changes_no_pod_until_something_of_pods_is_changed() {
    let first = json!({"image": "node:1", "config": {"session.rateLimit": "7"}});
    let mut older = children(&cluster(first.clone()), pods(None), None).stateful_set;
    let annotations = older.metadata.annotations.as_mut().unwrap();
    let made = annotations.values_mut().find(|made| made.contains("liveness")).unwrap();
    *made = made.replace("\"periodSeconds\":10", "\"periodSeconds\":99");
    let period = |pod: &Value| pod["spec"]["containers"][0]["livenessProbe"]["periodSeconds"].clone();
    assert_eq!(period(&pod(first.clone())), 10);

    let kept = children(&cluster(first.clone()), pods(Some(&older)), None).stateful_set;
    assert_eq!(kept.metadata.annotations, older.metadata.annotations, "nothing is to be written");
    assert_eq!(period(&pod_after(first.clone(), Some(&older))), 99);
    let mut more = first.clone();
    (more["replicas"], more["paused"], more["update"]) = (json!(5), json!(true), json!({"pauseAfter": 1}));
    assert_eq!(period(&pod_after(more, Some(&older))), 99);
    let mut other = first;
    other["image"] = json!("node:2");
    assert_eq!(period(&pod_after(other, Some(&older))), 10);
}

#[test]
fn clients_are_led_to_pods_that_accept_them() {
    let children = children(&cluster(json!({"image": "node:1"})), pods(None), None);
    let selector = children.clients.spec.and_then(|spec| spec.selector).unwrap();
    assert_eq!(selector["appsockets.io/accepting"], "true");
    let nodes = children.nodes.spec.and_then(|spec| spec.selector).unwrap();
    assert!(!nodes.contains_key("appsockets.io/accepting"), "nodes find each other also while they take nobody");
    let labels = &pod(json!({"image": "node:1"}))["metadata"]["labels"];
    assert_eq!(labels["appsockets.io/accepting"], "true");
}

#[test]
fn what_a_cluster_says_of_its_nodes_reaches_them_and_displaces_nothing_of_the_operator() {
    let config = json!({"session.rateLimit": "7", "operator.listen": "0.0.0.0:1", "cluster.expectedCoreNodes": "9"});
    let pod = pod(json!({"image": "node:1", "drainSeconds": 30, "config": config}));
    assert_eq!(variable(&pod, "APPSOCKETS_SESSION__RATE_LIMIT"), "7");
    assert_eq!(variable(&pod, "APPSOCKETS_OPERATOR__LISTEN"), "0.0.0.0:7947");
    assert_eq!(variable(&pod, "APPSOCKETS_CLUSTER__EXPECTED_CORE_NODES"), Value::Null, "it comes from the ConfigMap");
    assert_eq!(variable(&pod, "APPSOCKETS_ENGINE__DRAIN_MS"), "30000");
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 70);
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

#[test]
fn what_not_every_cluster_has_is_made_only_where_it_is_asked_for() {
    let plain = children(&cluster(json!({"image": "node:1"})), pods(None), None);
    assert!(plain.autoscaler.is_none() && plain.policy.is_none());
    let autoscale = json!({"minReplicas": 2, "maxReplicas": 9, "sessionsPerNode": 5000, "cpuPercent": 70});
    let asked = json!({"image": "node:1", "autoscale": autoscale, "networkPolicy": true, "labels": {"team": "a"}});
    assert_eq!(pod(asked.clone())["spec"], pod(json!({"image": "node:1"}))["spec"]);
    let all = children(&cluster(asked), pods(None), None);
    let autoscaler = serde_json::to_value(all.autoscaler.unwrap()).unwrap();
    assert_eq!(autoscaler["spec"]["scaleTargetRef"]["kind"], "AppSocketsCluster");
    assert_eq!(autoscaler["spec"]["metrics"][0]["pods"]["target"]["averageValue"], "5000");
    assert_eq!(autoscaler["spec"]["metrics"][1]["resource"]["target"]["averageUtilization"], 70);
    let policy = serde_json::to_value(all.policy.unwrap()).unwrap();
    let open = |port: i32| {
        let mut rules = policy["spec"]["ingress"].as_array().unwrap().iter();
        let rule = rules.find(|rule| rule["ports"].as_array().unwrap().iter().any(|other| other["port"] == port));
        rule.unwrap_or_else(|| panic!("nobody reaches {port}"))["from"].is_null()
    };
    assert!(open(8080) && open(9090) && !open(8081) && !open(7946) && !open(7947));
    let labels = all.stateful_set.metadata.labels.unwrap();
    assert_eq!((&*labels["team"], &*labels["appsockets.io/cluster"]), ("a", "main"));
}

#[test]
fn connection_strings_are_passed_on_unread() {
    let connections = json!({"postgres": {"name": "database", "key": "url"}});
    let pod =
        pod(json!({"image": "node:1", "connections": connections, "spreadOver": ["topology.kubernetes.io/zone"]}));
    let variables = pod["spec"]["containers"][0]["env"].as_array().unwrap();
    let database = variables.iter().find(|variable| variable["name"] == "DATABASE_URL").unwrap();
    assert_eq!(database["valueFrom"]["secretKeyRef"], json!({"name": "database", "key": "url"}));
    assert!(!variables.iter().any(|variable| variable["name"] == "REDIS_URL"));
    assert_eq!(pod["spec"]["topologySpreadConstraints"][0]["topologyKey"], "topology.kubernetes.io/zone");
}

#[test]
fn edge_nodes_differ_from_core_nodes_in_what_they_do_and_may_use() {
    let resources = |memory: &str| json!({"limits": {"memory": memory}});
    let asked = |edges: Value| json!({"image": "node:1", "resources": resources("2Gi"), "edges": edges});
    let made = |spec: Value, before: Option<&StatefulSet>| children(&cluster(spec), pods(None), Some(pods(before)));
    let both = made(asked(json!({"replicas": 2, "resources": resources("1Gi")})), None);
    let set = |set: &StatefulSet| serde_json::to_value(set).unwrap();
    let (core, edges) = (set(&both.stateful_set), set(both.edges.as_ref().unwrap()));
    assert_eq!((&core["metadata"]["name"], &edges["metadata"]["name"]), (&json!("main"), &json!("main-edge")));
    for (set, role, offset, memory) in [(&core, "core", "0", "2Gi"), (&edges, "edge", "4294967296", "1Gi")] {
        let pod = &set["spec"]["template"];
        assert_eq!(pod["metadata"]["labels"]["appsockets.io/role"], role);
        assert_eq!(set["spec"]["selector"]["matchLabels"]["appsockets.io/role"], role, "a set has its own pods alone");
        assert_eq!(variable(pod, "APPSOCKETS_CLUSTER__CORE"), (role == "core").to_string());
        assert_eq!(variable(pod, "APPSOCKETS_CLUSTER__NODE_OFFSET"), offset, "no two nodes have one number");
        assert_eq!(pod["spec"]["containers"][0]["resources"]["limits"]["memory"], memory);
    }
    let budget = both.edge_budget.and_then(|budget| budget.spec?.selector?.match_labels).unwrap();
    assert_eq!(budget["appsockets.io/role"], "edge");
    let clients = both.clients.spec.and_then(|spec| spec.selector).unwrap();
    assert!(!clients.contains_key("appsockets.io/role"), "clients find whoever takes them");

    let other = made(asked(json!({"replicas": 9})), None);
    assert_eq!(set(&other.stateful_set), core, "core nodes do not notice");
    assert_eq!(set(other.edges.as_ref().unwrap())["spec"]["template"]["spec"]["containers"][0]["resources"], {
        core["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
    });
    let gone = made(json!({"image": "node:2"}), both.edges.as_ref()).edges.unwrap();
    assert_eq!(set(&gone)["spec"]["template"], edges["spec"]["template"], "those that go do not become new before");
}
