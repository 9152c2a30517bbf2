//! What tenants get, may not get, and are told.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Resolved, resolve};
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
