//! When a status is written, and when no more.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use appsockets_crds::{AppSocketsCluster, Hub};
use kube::api::ApiResource;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Looking, Memory, Next, RETRY, RETRY_MAX};
use crate::{
    decide::Decided,
    resolve::resolve,
    world::{Guarded, Key, Read, World},
};

/// A resource whose spec nobody can read.
fn unreadable(kind: &str, version: u64, status: Option<&Value>) -> Value {
    let mut object = json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": kind, "spec": {"clusterRef": 7, "replicas": "many"},
        "metadata": {
            "namespace": "shop", "name": "odd", "uid": "uid-odd", "generation": 3,
            "resourceVersion": version.to_string(),
        },
    });
    if let Some(status) = status {
        object["status"] = status.clone();
    }
    object
}

/// What is to be done about the hub.
fn next(memory: &mut Memory, hub: Value, now: Instant) -> Next {
    let hub: Read<Hub> = Arc::new(serde_json::from_value(hub).expect("it has metadata"));
    let mut world = World::default();
    world.hubs.push(hub);
    let decided = Decided { resolved: resolve(&world), world, frozen: None };
    let nodes = BTreeMap::new();
    let mut subjects = Vec::new();
    Looking::new(&decided, &nodes).tenants::<Hub>("Hub", &decided.world.hubs, &mut subjects);
    let [subject] = &*subjects else { panic!("nothing is said of it") };
    memory.next(subject, now)
}

fn written(next: Next) -> Value {
    match next {
        Next::Write(status, _) => status,
        Next::Nothing => panic!("nothing is written"),
        Next::Later(_) => panic!("nothing is written yet"),
    }
}

#[tokio::test]
async fn what_can_not_be_read_is_told_so_once() {
    let (mut memory, now) = (Memory::default(), Instant::now());
    let status = written(next(&mut memory, unreadable("Hub", 7, None), now));
    assert_eq!(status["conditions"][0]["reason"], "Undecodable");
    memory.wrote(status.clone(), 8, status.clone());
    // The watch is behind, has caught up, and shows what was written.
    for hub in [unreadable("Hub", 7, None), unreadable("Hub", 8, None), unreadable("Hub", 8, Some(&status))] {
        assert!(matches!(next(&mut memory, hub, now), Next::Nothing));
    }
    let another = unreadable("Hub", 9, Some(&status));
    assert!(matches!(next(&mut memory, another, now), Next::Nothing), "somebody has written something else");
    let restarted = next(&mut Memory::default(), unreadable("Hub", 9, Some(&status)), now);
    assert!(matches!(restarted, Next::Nothing), "an operator before has told it so");
}

#[tokio::test]
async fn a_cluster_that_can_not_be_read_keeps_its_figures() {
    let said = |memory: &mut Memory, version: u64, status: Option<&Value>| {
        let object = unreadable("AppSocketsCluster", version, status);
        let cluster: Guarded<AppSocketsCluster> = serde_json::from_value(object).unwrap();
        let unread = cluster.0.unwrap_err();
        let mut world = World::default();
        world.clusters.push(Arc::new(Guarded(Err(unread.clone()))));
        let decided = Decided { resolved: resolve(&world), world, frozen: None };
        let nodes = BTreeMap::new();
        let (key, resource) = (Key::new("AppSocketsCluster", &unread.metadata), resource());
        let subject = Looking::new(&decided, &nodes).subject(&key, &unread.metadata, unread.status.clone(), resource);
        memory.next(&subject.expect("something is said of it"), Instant::now())
    };
    let mut memory = Memory::default();
    let before =
        json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "selector": "a=b", "conditions": []});
    let status = written(said(&mut memory, 7, Some(&before)));
    assert_eq!((&status["readyReplicas"], &status["selector"]), (&json!(3), &json!("a=b")));
    // The API server adds defaults to what it is given.
    let new = written(said(&mut memory, 7, None));
    let mut made = new.clone();
    (made["replicas"], made["readyReplicas"]) = (json!(0), json!(0));
    memory.wrote(new, 8, made.clone());
    assert!(matches!(said(&mut memory, 7, None), Next::Nothing));
    assert!(matches!(said(&mut memory, 8, Some(&made)), Next::Nothing));
}

fn resource() -> ApiResource {
    ApiResource::erase::<AppSocketsCluster>(&())
}

#[tokio::test]
async fn what_the_api_server_refuses_is_tried_less_and_less_often_and_announced_once() {
    let (mut memory, mut now) = (Memory::default(), Instant::now());
    assert!(matches!(next(&mut memory, unreadable("Hub", 7, None), now), Next::Write(_, Some(_))));
    for times in [1, 2, 4, 8] {
        memory.failed(true, now);
        let Next::Later(due) = next(&mut memory, unreadable("Hub", 7, None), now) else {
            panic!("it is tried at once")
        };
        assert_eq!(due, now + RETRY * times);
        now = due;
        assert!(
            matches!(next(&mut memory, unreadable("Hub", 7, None), now), Next::Write(_, None)),
            "it is said already"
        );
    }
    for _ in 0..40 {
        memory.failed(true, now);
    }
    assert_eq!(memory.retry, Some(now + RETRY_MAX));
    // One that does not answer may be well again at any time.
    memory.failed(false, now);
    assert_eq!(memory.retry, Some(now + RETRY));
    now += RETRY + Duration::from_millis(1);
    let status = written(next(&mut memory, unreadable("Hub", 7, None), now));
    memory.wrote(status.clone(), 8, status);
    assert_eq!((memory.retry, memory.refused), (None, 0));
}
