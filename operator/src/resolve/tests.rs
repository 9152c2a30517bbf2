//! What tenants get, may not get, and are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Resolved, resolve, unseen};
use crate::{
    verdict::{Reason, Verdict},
    world::{Read, Secrets, World},
};

/// A world of the objects, in the order in which they were made. `namespace/name` names each.
fn world(objects: &[(&str, &str, Value)]) -> World {
    let mut world = World::default();
    for (age, (kind, place, spec)) in objects.iter().enumerate() {
        let (namespace, name) = place.split_once('/').unwrap();
        let object = json!({
            "apiVersion": "appsockets.io/v1alpha1", "kind": kind, "spec": spec,
            "metadata": {
                "namespace": namespace, "name": name, "uid": format!("uid-{age}"), "generation": 1,
                "creationTimestamp": format!("2026-01-01T00:00:{age:02}Z"),
            },
        });
        match *kind {
            "AppSocketsCluster" => world.clusters.push(read(object)),
            "Hub" => world.hubs.push(read(object)),
            "ChannelRules" => world.rules.push(read(object)),
            "Namespace" => world.namespaces.push(read(object)),
            "AuthProvider" => world.providers.push(read(object)),
            "Secret" => {
                let secrets = world.secrets.entry(namespace.into()).or_insert(Secrets::Read(BTreeMap::new()));
                let Secrets::Read(secrets) = secrets else { continue };
                let secret = json!({"metadata": {"name": name}, "data": spec});
                let secret = serde_json::from_value(secret).expect("it is a Secret");
                secrets.insert(name.into(), Arc::new(secret));
            }
            other => panic!("there is no kind {other}"),
        }
    }
    world
}

fn read<K: DeserializeOwned + Resource>(object: Value) -> Read<K> {
    Arc::new(serde_json::from_value(object).expect("it has metadata"))
}

fn cluster(tenants: Value) -> (&'static str, &'static str, Value) {
    ("AppSocketsCluster", "platform/main", json!({"image": "node:1", "tenants": tenants}))
}

fn hub(place: &'static str) -> (&'static str, &'static str, Value) {
    (
        "Hub",
        place,
        json!({"clusterRef": {"name": "main", "namespace": "platform"}, "hubName": "shop", "allowFrom": ["friends"]}),
    )
}

/// What the nodes of the only cluster ought to serve.
fn wanted(resolved: &Resolved) -> Vec<String> {
    let [wanted] = &*resolved.wanted.values().collect::<Vec<_>>() else { panic!("not one cluster") };
    wanted.entries.keys().map(ToString::to_string).collect()
}

fn kept(resolved: &Resolved) -> BTreeSet<String> {
    resolved.wanted.values().flat_map(|wanted| wanted.kept.clone()).collect()
}

fn verdict(resolved: &Resolved, key: &str) -> Verdict {
    let found = resolved.verdicts.iter().find(|(candidate, _)| candidate.to_string() == key);
    found.unwrap_or_else(|| panic!("nothing is said of {key}")).1.clone()
}

fn reason(resolved: &Resolved, key: &str) -> Option<Reason> {
    match verdict(resolved, key) {
        Verdict::Stalled { reason, message } => {
            assert!(message.contains(':'), "{message} does not say what to do");
            Some(reason)
        }
        _ => None,
    }
}

#[test]
fn a_tenant_with_all_that_it_can_have() {
    let jwt = json!({"secretKeyRef": {"name": "keys", "key": "jwt"}});
    let world = world(&[
        cluster(json!({"namespaces": ["apps"]})),
        hub("apps/shop"),
        ("ChannelRules", "apps/quiet", json!({"hubRef": {"name": "shop"}, "channels": ["news"]})),
        ("Namespace", "apps/orders", json!({"hubRef": {"name": "shop"}, "rulesRef": {"name": "quiet"}})),
        ("AuthProvider", "apps/own", json!({"hubRef": {"name": "shop"}, "jwt": jwt})),
        ("Secret", "apps/keys", json!({"jwt": "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="})),
    ]);
    let resolved = resolve(&world);
    let expected =
        ["Hub shop", "ChannelRules shop/quiet", "Namespace shop/orders", "Channel shop/news", "AuthProvider shop"];
    assert_eq!(wanted(&resolved), expected);
    assert!(resolved.verdicts.values().all(|verdict| *verdict == Verdict::Wanted), "{:?}", resolved.verdicts);
    assert!(kept(&resolved).is_empty());
}

#[test]
fn references_across_namespaces_need_the_other_side() {
    for (tenants, expected) in [
        (json!({}), Some(Reason::RefNotGranted)),
        (json!({"namespaces": ["others"]}), Some(Reason::RefNotGranted)),
        (json!({"namespaces": ["apps"]}), None),
        (json!({"all": true}), None),
    ] {
        let resolved = resolve(&world(&[cluster(tenants), hub("apps/shop")]));
        assert_eq!(reason(&resolved, "Hub apps/shop"), expected);
        assert_eq!(wanted(&resolved).len(), usize::from(expected.is_none()));
    }
    let rules = |place: &'static str| ("ChannelRules", place, json!({"hubRef": {"name": "shop", "namespace": "apps"}}));
    let resolved =
        resolve(&world(&[cluster(json!({"all": true})), hub("apps/shop"), rules("bar/a"), rules("friends/b")]));
    assert_eq!(reason(&resolved, "ChannelRules bar/a"), Some(Reason::RefNotGranted));
    assert_eq!(verdict(&resolved, "ChannelRules friends/b"), Verdict::Wanted);
    assert_eq!(wanted(&resolved), ["Hub shop", "ChannelRules shop/b"]);
}

/// Or it could be found out which hubs others have.
#[test]
fn a_hub_of_others_that_is_not_there_looks_like_one_that_is() {
    let rules = |name: &str| json!({"hubRef": {"name": name, "namespace": "apps"}});
    let there = world(&[cluster(json!({"all": true})), hub("apps/shop"), ("ChannelRules", "bar/a", rules("shop"))]);
    let not_there = world(&[cluster(json!({"all": true})), ("ChannelRules", "bar/a", rules("shop"))]);
    let said = [there, not_there].map(|world| verdict(&resolve(&world), "ChannelRules bar/a"));
    assert_eq!(said[0], said[1]);
}

#[test]
fn of_two_with_one_identity_the_older_wins() {
    let everyone = || cluster(json!({"all": true}));
    let rules = ("ChannelRules", "b/quiet", json!({"hubRef": {"name": "shop"}}));
    let both = resolve(&world(&[everyone(), hub("a/shop"), hub("b/shop"), rules.clone()]));
    assert_eq!(verdict(&both, "Hub a/shop"), Verdict::Wanted);
    let Verdict::Stalled { reason: Reason::Conflict, message } = verdict(&both, "Hub b/shop") else {
        panic!("no conflict")
    };
    assert!(message.contains("Hub a/shop"), "{message}");
    // What belongs to the younger must not come into the older one's hub.
    assert_eq!(reason(&both, "ChannelRules b/quiet"), Some(Reason::HubNotServed));
    assert_eq!(wanted(&both), ["Hub shop"]);

    let alone = resolve(&world(&[everyone(), hub("b/shop"), rules]));
    assert_eq!(wanted(&alone), ["Hub shop", "ChannelRules shop/quiet"]);
}

#[test]
fn an_older_one_that_is_not_valid_keeps_its_place() {
    let (kind, place, mut spec) = hub("a/shop");
    spec["allowedOrigins"] = json!(["nothing"]);
    let tenants = json!({"namespaces": ["a", "b"]});
    let both = resolve(&world(&[cluster(tenants), (kind, place, spec), hub("b/shop")]));
    assert_eq!(reason(&both, "Hub a/shop"), Some(Reason::Invalid));
    assert_eq!(reason(&both, "Hub b/shop"), Some(Reason::Conflict));
    assert!(both.wanted.values().all(|wanted| wanted.entries.is_empty()));
}

#[test]
fn what_lacks_is_named() {
    let provider = json!({"hubRef": {"name": "shop"}, "jwt": {"secretKeyRef": {"name": "keys", "key": "jwt"}}});
    let objects = [
        cluster(json!({"all": true})),
        hub("apps/shop"),
        ("Hub", "apps/lost", json!({"clusterRef": {"name": "gone"}})),
        ("ChannelRules", "apps/lost", json!({"hubRef": {"name": "gone"}})),
        ("Namespace", "apps/lost", json!({"hubRef": {"name": "shop"}, "rulesRef": {"name": "gone"}})),
        ("AuthProvider", "apps/own", provider),
    ];
    let mut world = world(&objects);
    let resolved = resolve(&world);
    assert_eq!(reason(&resolved, "Hub apps/lost"), Some(Reason::ClusterNotFound));
    assert_eq!(reason(&resolved, "ChannelRules apps/lost"), Some(Reason::HubNotFound));
    assert_eq!(reason(&resolved, "Namespace apps/lost"), Some(Reason::RulesNotFound));
    assert!(matches!(verdict(&resolved, "AuthProvider apps/own"), Verdict::Waiting { .. }));
    assert!(kept(&resolved).contains("uid-5"), "what is served stays until the Secrets are read");

    world.secrets.insert("apps".into(), Secrets::Forbidden);
    assert_eq!(reason(&resolve(&world), "AuthProvider apps/own"), Some(Reason::SecretNotReadable));
    world.secrets.insert("apps".into(), Secrets::Read(BTreeMap::new()));
    let resolved = resolve(&world);
    assert_eq!(reason(&resolved, "AuthProvider apps/own"), Some(Reason::SecretNotFound));
    assert!(kept(&resolved).contains("uid-5"));
}

#[test]
fn what_can_not_be_read_stops_nothing_else_and_is_kept() {
    let mut world = world(&[
        cluster(json!({"all": true})),
        hub("apps/shop"),
        // They may be all that protects it.
        ("ChannelRules", "apps/quiet", json!({"hubRef": {"name": "odd"}})),
    ]);
    world.hubs.push(read(json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "spec": {"clusterRef": 7},
        "metadata": {"namespace": "apps", "name": "odd", "uid": "uid-odd"},
    })));
    let resolved = resolve(&world);
    assert_eq!(reason(&resolved, "Hub apps/odd"), Some(Reason::Undecodable));
    assert_eq!(kept(&resolved), ["uid-2".to_owned(), "uid-odd".to_owned()].into());
    assert_eq!(wanted(&resolved), ["Hub shop"]);
}

fn secret(metadata: Value) -> Arc<k8s_openapi::api::core::v1::Secret> {
    let data = json!({"admin-token": "aHVzaCBodXNoIGh1c2ggaHVzaCBodXNoIGh1c2ggaHU="});
    Arc::new(serde_json::from_value(json!({"metadata": metadata, "data": data})).expect("it is a Secret"))
}

/// Or who may only write tenants' resources beside a cluster could have its keys sent anywhere.
#[test]
fn what_is_a_clusters_is_no_value_for_tenants() {
    let header = json!({"name": "X", "secretKeyRef": {"name": "main-keys", "key": "admin-token"}});
    let http = json!({"url": "https://evil.example", "headers": [header]});
    let connections = json!({"redis": {"name": "broker", "key": "url"}});
    let mut world = world(&[
        ("AppSocketsCluster", "platform/main", json!({"image": "node:1", "connections": connections})),
        hub("platform/shop"),
        ("AuthProvider", "platform/own", json!({"hubRef": {"name": "shop"}, "http": http})),
    ]);
    let mut said = |secret_name: &str, metadata: Value| {
        let provider = world.providers[0].0.as_ref().unwrap();
        let mut provider = provider.clone();
        let headers = &mut provider.spec.http.as_mut().unwrap().headers;
        headers[0].secret_key_ref.as_mut().unwrap().name = secret_name.to_owned();
        world.providers[0] = Arc::new(crate::world::Guarded(Ok(provider)));
        let secrets = [(secret_name.to_owned(), secret(metadata))];
        world.secrets.insert("platform".into(), Secrets::Read(secrets.into()));
        let resolved = resolve(&world);
        (reason(&resolved, "AuthProvider platform/own"), kept(&resolved).contains("uid-2"))
    };
    let refused = (Some(Reason::SecretReserved), true);
    let owner =
        json!([{"apiVersion": "appsockets.io/v1alpha1", "kind": "AppSocketsCluster", "name": "main", "uid": "u"}]);
    for metadata in [
        json!({"name": "main-keys", "labels": {"app.kubernetes.io/managed-by": "appsockets-operator"}}),
        json!({"name": "main-keys", "labels": {"appsockets.io/cluster": "main"}}),
        json!({"name": "main-keys", "ownerReferences": owner}),
    ] {
        assert_eq!(said("main-keys", metadata), refused);
    }
    assert_eq!(said("broker", json!({"name": "broker"})), refused, "nodes connect by it");
    assert_eq!(said("own", json!({"name": "own", "labels": {"team": "a"}})), (None, false));
}

#[test]
fn nodes_are_handed_nothing_of_a_cluster_of_whose_hubs_only_some_are_seen() {
    for (tenants, others) in [
        (json!({}), None),
        (json!({"namespaces": ["platform"]}), None),
        (json!({"namespaces": ["platform", "bar"]}), Some("the namespace bar")),
        (json!({"namespaces": ["bar", "apps", "x"]}), Some("the namespace bar and 2 more")),
        (json!({"all": true}), Some("all namespaces")),
    ] {
        let mut world = world(&[cluster(tenants), hub("platform/shop")]);
        assert_eq!(resolve(&world).wanted.len(), 1, "who sees all hands it over");
        world.scope = Some("platform".into());
        let resolved = resolve(&world);
        assert_eq!(resolved.wanted.is_empty(), others.is_some());
        assert_eq!(reason(&resolved, "Hub platform/shop"), others.map(|_| Reason::ClusterNotServed));
        let cluster = world.clusters[0].0.as_ref().unwrap();
        assert_eq!(unseen(cluster, world.scope.as_deref()).as_deref(), others);
    }
}

#[test]
fn rules_that_can_not_be_used_are_not_said_to_be_missing() {
    let bound = |rules: &str| json!({"hubRef": {"name": "shop"}, "rulesRef": {"name": rules}});
    let rules = |hub: &str| json!({"hubRef": {"name": hub}, "redundancy": 9});
    let mut world = world(&[
        cluster(json!({"all": true})),
        hub("apps/shop"),
        ("Hub", "apps/other", json!({"clusterRef": {"name": "main", "namespace": "platform"}})),
        ("ChannelRules", "apps/invalid", rules("shop")),
        ("ChannelRules", "apps/of-others", rules("other")),
        ("Namespace", "apps/a", bound("invalid")),
        ("Namespace", "apps/b", bound("odd")),
        ("Namespace", "apps/c", bound("friendly")),
        ("Namespace", "apps/d", bound("of-others")),
        ("Namespace", "apps/e", bound("strange")),
    ]);
    for (namespace, name) in [("apps", "odd"), ("friends", "friendly"), ("bar", "strange")] {
        world.rules.push(read(json!({
            "apiVersion": "appsockets.io/v1alpha1", "kind": "ChannelRules", "spec": {"hubRef": 7},
            "metadata": {"namespace": namespace, "name": name, "uid": format!("uid-{name}")},
        })));
    }
    let resolved = resolve(&world);
    for invalid in ["invalid", "of-others"] {
        assert_eq!(reason(&resolved, &format!("ChannelRules apps/{invalid}")), Some(Reason::Invalid));
    }
    for namespace in ["a", "b", "c"] {
        let said = reason(&resolved, &format!("Namespace apps/{namespace}"));
        assert_eq!(said, Some(Reason::RulesNotServed), "nodes keep what they have of the rules of {namespace}");
    }
    assert_eq!(reason(&resolved, "Namespace apps/d"), Some(Reason::RulesNotFound), "those are another hub's");
    assert_eq!(reason(&resolved, "Namespace apps/e"), Some(Reason::RulesNotFound), "the hub lets none from there");
}
