//! The resources' definitions as files that `kubectl apply` takes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};

/// The name of each file, and the definition that stands in it.
pub fn files() -> Vec<(&'static str, String)> {
    definitions().into_iter().map(|(name, definition)| (name, text(&definition))).collect()
}

/// What the definitions are called.
pub fn names() -> [&'static str; 5] {
    [
        AppSocketsCluster::crd_name(),
        AuthProvider::crd_name(),
        ChannelRules::crd_name(),
        HubNamespace::crd_name(),
        Hub::crd_name(),
    ]
}

/// The definitions as the API server gets them.
pub fn definitions() -> Vec<(&'static str, Value)> {
    const NODES: &[[&str; 3]] =
        &[["Nodes", "integer", ".spec.replicas"], ["Serving", "integer", ".status.readyReplicas"]];
    const CLUSTER: &[[&str; 3]] = &[["Cluster", "string", ".spec.clusterRef.name"]];
    const HUB: &[[&str; 3]] = &[["Hub", "string", ".spec.hubRef.name"]];
    let all = [
        ("appsocketsclusters.yaml", AppSocketsCluster::crd(), NODES),
        ("authproviders.yaml", AuthProvider::crd(), HUB),
        ("channelrules.yaml", ChannelRules::crd(), HUB),
        ("hubnamespaces.yaml", HubNamespace::crd(), HUB),
        ("hubs.yaml", Hub::crd(), CLUSTER),
    ];
    all.into_iter().map(|(name, crd, columns)| (name, finish(crd, columns))).collect()
}

fn text(definition: &Value) -> String {
    let yaml = serde_saphyr::to_string(definition).expect("a definition is plain data");
    format!("# Written by cargo xtask generate from the types in crds/src.\n{yaml}")
}

/// `own` are the columns that `kubectl get` shows before those of all kinds.
fn finish(crd: CustomResourceDefinition, own: &[[&str; 3]]) -> Value {
    let mut definition = serde_json::to_value(crd).expect("a definition is plain data");
    definition["spec"]["versions"][0]["additionalPrinterColumns"] = columns(own);
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema);
    // Whoever looks before the operator does reads "in progress", and never nothing, which tools take for done.
    schema["properties"]["status"]["default"] = json!({
        "observedGeneration": -1,
        "conditions": [{
            "type": "Ready",
            "status": "Unknown",
            "reason": "Pending",
            "message": "The operator has not seen this resource yet.",
            "lastTransitionTime": "1970-01-01T00:00:00Z",
        }],
    });
    definition
}

fn columns(own: &[[&str; 3]]) -> Value {
    let own = own.iter().map(|[name, kind, path]| json!({"name": name, "type": kind, "jsonPath": path}));
    let ready = [("Ready", "status"), ("Reason", "reason"), ("Message", "message")].map(|(name, field)| {
        let path = format!(r#".status.conditions[?(@.type=="Ready")].{field}"#);
        let mut column = json!({"name": name, "type": "string", "jsonPath": path});
        // Others have none: the API server leaves out a 0, and what compares would find a difference for ever.
        if name == "Message" {
            column["priority"] = json!(1);
        }
        column
    });
    let age = json!({"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"});
    own.chain(ready).chain([age]).collect()
}

/// Leaves out what says nothing or what the API server warns of.
fn tidy(schema: &mut Value) {
    if let Value::Object(map) = schema {
        // An absent field is left out and never null.
        map.remove("nullable");
        if map.get("format").and_then(Value::as_str).is_some_and(|format| format.starts_with("uint")) {
            map.remove("format");
        }
        map.values_mut().for_each(tidy);
    } else if let Value::Array(items) = schema {
        items.iter_mut().for_each(tidy);
    }
}
