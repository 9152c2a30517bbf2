//! What the schemas refuse, by the same rules that the API server applies; and what they let through.

use std::collections::HashMap;

use kube::CustomResourceExt;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace, yaml};

mod agreement;

#[derive(Deserialize)]
struct Refused {
    says: String,
    was: Option<Value>,
    object: Value,
}

/// What is said against an object, or against changing it from what it was.
fn judge(object: &Value, was: Option<&Value>) -> Result<(), String> {
    macro_rules! judge {
        ($kind:ty) => {{
            let new: $kind = read(object);
            match was {
                None => new.validate_cel(),
                Some(was) => new.validate_cel_update(&read(was)),
            }
            .map_err(|errors| errors.to_string())
        }};
    }
    match object["kind"].as_str() {
        Some("Hub") => judge!(Hub),
        Some("ChannelRules") => judge!(ChannelRules),
        Some("Namespace") => judge!(HubNamespace),
        Some("AuthProvider") => judge!(AuthProvider),
        Some("AppSocketsCluster") => judge!(AppSocketsCluster),
        other => panic!("there is no kind {other:?}"),
    }
}

/// What the API server holds against a value by its schema alone, in its own words: it looks at that before any rule.
fn bounds(schema: &Value, value: &Value) -> Vec<String> {
    let beyond = |bound: &str, size: usize| schema[bound].as_u64().filter(|most| size as u64 > *most);
    match value {
        Value::String(text) => {
            // Characters, though it says bytes.
            let most = beyond("maxLength", text.chars().count());
            most.map(|most| format!("may not be more than {most} bytes")).into_iter().collect()
        }
        Value::Array(items) => {
            let most = beyond("maxItems", items.len()).map(|most| format!("must have at most {most} items"));
            most.into_iter().chain(items.iter().flat_map(|item| bounds(&schema["items"], item))).collect()
        }
        Value::Object(fields) => {
            fields.iter().flat_map(|(name, value)| bounds(&schema["properties"][name], value)).collect()
        }
        _ => Vec::new(),
    }
}

/// The schema of each kind.
fn schemas() -> HashMap<String, Value> {
    let schema = |definition: &Value| definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone();
    let kind = |definition: &Value| definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
    yaml::definitions().iter().map(|(_, definition)| (kind(definition), schema(definition))).collect()
}

fn read<T: DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{value}: {error}"))
}

#[test]
fn what_is_wrong_is_refused_with_what_to_do() {
    let refused: Vec<Refused> = serde_saphyr::from_str(include_str!("../tests/refused.yaml")).unwrap();
    assert!(refused.len() >= 80, "{}", refused.len());
    let schemas = schemas();
    for Refused { says, was, object } in refused {
        let mut said = bounds(&schemas[object["kind"].as_str().unwrap()], &object).join(", ");
        if said.is_empty() {
            said = judge(&object, was.as_ref()).expect_err(&object.to_string());
        }
        assert!(said.contains(&says), "{object}: {said}");
    }
}

#[test]
fn what_is_right_is_taken() {
    let hub = json!({"name": "shop"});
    for (kind, spec) in [
        ("Hub", json!({"clusterRef": {"name": "main"}})),
        (
            "Hub",
            json!({
                "clusterRef": {"name": "main", "namespace": "platform"}, "hubName": "Läden & Co",
                "allowedOrigins": ["*", "https://shop.example", "https://*.shop.example:8443", "capacitor://localhost", "http://[::1]:80"],
                "limits": {"connections": 1}, "defaultRulesRef": {"name": "quiet"}, "allowFrom": ["apps"],
            }),
        ),
        ("ChannelRules", json!({"hubRef": hub, "redundancy": 0, "public": false, "channels": ["a:b"]})),
        ("Namespace", json!({"hubRef": hub, "name": "Orders", "rulesRef": {"name": "quiet"}})),
        ("AuthProvider", json!({"hubRef": hub, "jwt": {"jwksUrl": "https://keys.example/k", "algorithms": ["RS256"]}})),
        (
            "AuthProvider",
            json!({"hubRef": hub, "http": {"url": "http://auth", "headers": [{"name": "X-Key", "secretKeyRef": {"name": "s", "key": "k"}}]}}),
        ),
        (
            "AuthProvider",
            json!({"hubRef": hub, "nats": {"subject": "appsockets.auth.shop"}, "jwt": {"jwksUrl": "https://keys.example/k"}}),
        ),
        (
            "AppSocketsCluster",
            json!({"image": "node:1", "tenants": {"all": true}, "config": {"session.rateLimit": "5"}}),
        ),
    ] {
        let object =
            json!({"apiVersion": "appsockets.io/v1alpha1", "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        assert_eq!(judge(&object, None), Ok(()), "{object}");
        assert_eq!(judge(&object, Some(&object)), Ok(()), "{object}");
    }
}

#[test]
fn names_for_people_and_tools() {
    let names = HubNamespace::crd().spec.names;
    assert_eq!((&*names.plural, names.short_names), ("hubnamespaces", Some(vec!["hns".to_string()])));
    for (_, definition) in yaml::definitions() {
        let spec = &definition["spec"];
        assert_eq!(spec["names"]["categories"], json!(["appsockets"]), "{definition}");
        let version = &spec["versions"][0];
        let columns = version["additionalPrinterColumns"].as_array().unwrap();
        assert!(columns.iter().any(|column| column["name"] == "Ready"), "{definition}");
        let status = &version["schema"]["openAPIV3Schema"]["properties"]["status"];
        assert_eq!(status["default"]["observedGeneration"], -1);
        assert_eq!(status["properties"]["conditions"]["x-kubernetes-list-type"], "map");
    }
}

/// A default within a list is written into the object, and tools that compare it with a file see a difference for ever.
#[test]
fn no_list_has_defaults_in_it() {
    fn look(schema: &Value, within_list: bool) {
        let Some(map) = schema.as_object() else { return };
        assert!(!(within_list && map.contains_key("default") && map.contains_key("type")), "{schema}");
        for (key, value) in map {
            look(value, within_list || key == "items");
        }
    }
    for (_, definition) in yaml::definitions() {
        look(&definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"], false);
    }
}

#[test]
fn the_files_are_fresh() {
    for folder in ["crds", "charts/appsockets/files/crds"] {
        for (name, text) in yaml::files() {
            let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder).join(name);
            let held = std::fs::read_to_string(&path).unwrap_or_default();
            assert!(held == text, "{folder}/{name} is stale: run cargo xtask generate");
        }
    }
}
