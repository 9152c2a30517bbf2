//! What is concluded from what nodes say, and what they are told.

use std::{sync::atomic::AtomicUsize, time::Duration};

use appsockets_core::settings::{
    entry::{ResourceId, Source},
    resource::{HubSpec, Resource},
};
use appsockets_proto::configuration::{
    ShedAnswer,
    configuration_server::{Configuration, ConfigurationServer},
};
use kube::{Api, Client};
use serde_json::json;
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::*;
use crate::{resolve::resolve, world::World};

fn pod(name: &str, role: &str) -> Pod {
    let metadata = json!({"name": name, "labels": {"appsockets.io/role": role}});
    serde_json::from_value(json!({ "metadata": metadata })).unwrap()
}

fn reached(serves: &Arc<Wanted>, alike: &[u64]) -> Report {
    let mut report = Report { serves: Some(serves.clone()), ..Report::default() };
    report.note(&Held { alike: alike.to_vec(), ..Held::default() });
    report
}

fn away(serves: &Arc<Wanted>) -> Report {
    Report { unreachable: Some("timed out".into()), serves: Some(serves.clone()), ..Report::default() }
}

#[test]
fn a_node_that_can_not_be_reached_serves_what_it_says_to_others_that_it_serves() {
    let [old, new] = [(); 2].map(|()| Arc::new(Wanted::new(BTreeMap::default(), BTreeSet::default())));
    let (first, second, edge) = (pod("main-0", "core"), pod("main-1", "core"), pod("main-edge-1", "edge"));
    let serves_new = |by: Report, pod: &Pod, report: Report| {
        let nodes = nodes(&[(&first, by), (pod, report)]);
        assert_eq!(nodes[1].name, pod.name_any());
        let is_new = nodes[1].serves.as_ref().is_some_and(|serves| Arc::ptr_eq(serves, &new));
        assert_eq!(is_new, nodes[1].unreachable.is_none());
        is_new
    };
    assert!(serves_new(reached(&new, &[2]), &second, away(&old)));
    assert!(serves_new(reached(&new, &[(1 << 32) + 2]), &edge, away(&old)));
    assert!(!serves_new(reached(&new, &[2]), &edge, away(&old)), "that is another node");
    assert!(!serves_new(reached(&new, &[3]), &second, away(&old)), "nobody hears it");
    assert!(!serves_new(Report { unreachable: Some("gone".into()), ..reached(&new, &[2]) }, &second, away(&old)));
    assert!(!serves_new(Report { withheld: [HubId::from("shop")].into(), ..reached(&new, &[2]) }, &second, away(&old)));
    let mut stale = reached(&new, &[2]);
    let load = stale.load.unwrap().1;
    stale.load = Instant::now().checked_sub(STALE + Duration::from_millis(1)).map(|at| (at, load));
    assert!(!serves_new(stale, &second, away(&old)), "it was heard too long ago");
    let own = nodes(&[(&first, reached(&new, &[2])), (&second, reached(&old, &[]))]);
    assert!(own[1].serves.as_ref().is_some_and(|serves| Arc::ptr_eq(serves, &old)), "what it says itself counts");
}

#[test]
fn who_serves_the_same_is_told_when_it_changes() {
    let mut report = Report::default();
    let held = |alike: &[u64]| Held { alike: alike.to_vec(), ..Held::default() };
    assert!(!report.note(&held(&[])));
    assert!(report.note(&held(&[2, 3])));
    assert!(!report.note(&held(&[3, 2])));
    assert!(report.note(&held(&[3])));
}

fn hubs(names: &[&str]) -> Arc<Wanted> {
    let entry = |name: &&str| {
        let resource = Resource::Hub { name: (*name).to_owned(), spec: HubSpec::default() };
        let entry = Arc::new(Entry::new(Source::Operator, "uid", 1, resource));
        (entry.id.clone(), entry)
    };
    Arc::new(Wanted::new(names.iter().map(entry).collect(), BTreeSet::new()))
}

#[test]
fn of_a_node_that_can_not_name_all_that_it_withholds_nothing_is_known() {
    let (wanted, last) = (hubs(&["shop"]), ResourceId::hub("shop"));
    let serves = |withheld: usize| {
        let withheld = (0..withheld).map(|number| format!("hub-{number:03}")).collect();
        let mut report = Report::default();
        report.took(&wanted, &Held { withheld, ..Held::default() });
        let pod = pod("main-0", "core");
        nodes(&[(&pod, report)])[0].serves(&wanted.entries, std::slice::from_ref(&last))
    };
    assert!(serves(0) && serves(WITHHELD_MAX - 1));
    assert!(!serves(WITHHELD_MAX), "it may be one of those that are not named");
}

#[test]
fn a_node_that_is_told_nothing_is_recognized_by_what_it_holds() {
    let (wanted, other) = (hubs(&["shop"]), hubs(&["shop", "new"]));
    let held = Held { handed: wanted.revision.to_string(), term: 3, sequence: 9, ..Held::default() };
    let Turn::Recognized(taken) = turn(None, &held, &wanted, (4, 0), true) else {
        panic!("nobody knows what it serves")
    };
    assert!(matches!(turn(Some(&taken), &held, &wanted, (4, 0), true), Turn::Stay), "that is said once");
    assert!(matches!(turn(None, &held, &other, (4, 0), true), Turn::Stay), "it holds something else");
    let kept = Arc::new(Wanted::new(wanted.entries.clone(), ["uid".to_owned()].into()));
    assert!(matches!(turn(None, &held, &kept, (4, 0), true), Turn::Stay));
    // Where it is not paused it is told, so that an older operator can't change it any more.
    assert!(matches!(turn(None, &held, &wanted, (4, 0), false), Turn::Push));
    assert!(matches!(turn(Some(&taken), &held, &wanted, (4, 0), false), Turn::Push));
    assert!(matches!(turn(Some(&taken), &held, &wanted, (3, 0), false), Turn::Same));
}

#[test]
fn a_part_of_a_push_has_no_more_than_a_node_takes() {
    let resource = |number: usize| {
        // A few are large.
        let default_rules = number.is_multiple_of(100).then(|| "x".repeat(PART_BYTES / 2 + number));
        let name = format!("hub-{number:04}");
        Resource::Hub { name, spec: HubSpec { default_rules, ..HubSpec::default() } }
    };
    let entry = |number| {
        let entry = Arc::new(Entry::new(Source::Operator, "uid", 1, resource(number)));
        (entry.id.clone(), entry)
    };
    let wanted = Wanted::new((0..2500).map(entry).collect(), (0..2500).map(|uid| uid.to_string()).collect());
    let parts = parts(Head::default(), None, &wanted);
    assert!(parts[0].head.is_some() && parts[1..].iter().all(|part| part.head.is_none()));
    let sent: Vec<_> = parts.iter().flat_map(|part| part.set.clone()).collect();
    assert_eq!(sent.len(), 2500);
    assert!(sent.iter().zip(wanted.entries.values()).all(|(sent, entry)| *sent == wire_entry(entry)));
    assert_eq!(parts.iter().map(|part| part.kept.len()).sum::<usize>(), 2500);
    for part in &parts {
        let bytes: usize = part.set.iter().map(|entry| entry.resource.len()).sum();
        assert!(bytes <= PART_BYTES || part.set.len() == 1, "{bytes}");
        assert!(part.set.len() <= PART && part.kept.len() <= PART);
    }
    assert!(cut(vec![3 * PART_BYTES, 1], |bytes| *bytes).len() == 2, "what is too large goes alone");
}

/// A node that takes pushes, or does not.
#[derive(Clone, Default)]
struct Fake(Arc<FakeState>);

#[derive(Default)]
struct FakeState {
    shows: AtomicUsize,
    pushes: AtomicUsize,
    takes: AtomicUsize,
}

#[tonic::async_trait]
impl Configuration for Fake {
    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Held>, Status> {
        self.0.pushes.fetch_add(1, Ordering::Relaxed);
        if self.0.takes.load(Ordering::Relaxed) == 0 {
            return Err(Status::resource_exhausted("There are more resources than a node takes."));
        }
        let mut parts = request.into_inner();
        while parts.message().await?.is_some() {}
        Ok(Response::new(Held { taken: true, ..Held::default() }))
    }

    async fn show(&self, _: Request<ShowRequest>) -> Result<Response<Held>, Status> {
        self.0.shows.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(Held::default()))
    }

    async fn shed(&self, _: Request<ShedRequest>) -> Result<Response<ShedAnswer>, Status> {
        Ok(Response::new(ShedAnswer {}))
    }
}

impl Fake {
    async fn client(&self) -> ConfigurationClient<Channel> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let server = Server::builder().add_service(ConfigurationServer::new(self.clone()));
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        ConfigurationClient::new(Endpoint::from_shared(address).unwrap().connect().await.unwrap())
    }
}

/// Links of an operator that wants a hub of the nodes of a cluster, for as long as the first is held.
fn links() -> (watch::Sender<Arc<Decided>>, Links, Target) {
    let mut world = World::default();
    let metadata = json!({"name": "main", "namespace": "shop", "uid": "uid-1"});
    let version = "appsockets.io/v1alpha1";
    let object = |kind: &str, spec| json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec});
    let cluster = object("AppSocketsCluster", json!({"image": "node:1"}));
    world.clusters.push(Arc::new(serde_json::from_value(cluster).unwrap()));
    world.hubs.push(Arc::new(serde_json::from_value(object("Hub", json!({"clusterRef": {"name": "main"}}))).unwrap()));
    let decided = Decided { resolved: resolve(&world), world, frozen: None };
    let client = Client::new(axum::Router::new(), "shop");
    let lease = Arc::new(Lease::new(Api::namespaced(client.clone(), "shop"), "operator", "one".to_owned()));
    let metrics = Metrics::default();
    let (events, _) = Events::new(client, "one".to_owned(), metrics.clone());
    let target = Target {
        cluster: ("shop".to_owned(), "main".to_owned()),
        pod: "main-0".to_owned(),
        pod_uid: "uid-0".to_owned(),
        address: String::new(),
        tls: ClientTlsConfig::new(),
    };
    let (deciding, decided) = watch::channel(Arc::new(decided));
    (deciding, Links::new(decided, lease, events, metrics), target)
}

#[tokio::test]
async fn a_push_that_fails_is_said_and_tried_less_and_less_often() {
    let (fake, (_deciding, links, target)) = (Fake::default(), links());
    let client = fake.client().await;
    let mut memory = Memory { reached: Instant::now(), taken: None, failed: Failed::default() };
    let talking = converse(&links, &target, &mut memory, client.clone());
    assert!(timeout(Duration::from_millis(3500), talking).await.is_err(), "it goes on talking");
    let report = links.report("uid-0");
    assert!(report.refuses.is_some_and(|why| why.ends_with("There are more resources than a node takes.")));
    assert!(report.unreachable.is_none() && report.load.is_some());
    let count = |of: &AtomicUsize| of.load(Ordering::Relaxed);
    assert!((2..=3).contains(&count(&fake.0.pushes)) && count(&fake.0.shows) >= 3, "it is asked all the time");

    fake.0.takes.store(1, Ordering::Relaxed);
    memory.failed.next = None;
    let talking = converse(&links, &target, &mut memory, client);
    assert!(timeout(Duration::from_millis(500), talking).await.is_err());
    let report = links.report("uid-0");
    assert!(report.refuses.is_none() && report.serves.is_some());
}

#[test]
fn pushes_that_fail_are_tried_again_within_half_a_minute() {
    let (mut failed, now) = (Failed::default(), Instant::now());
    assert!(!failed.again(now), "the node may only have ended");
    for seconds in [2, 4, 8, 16, 30, 30, 30, 30, 30, 30] {
        assert!(failed.again(now));
        assert_eq!(failed.next, Some(now + Duration::from_secs(seconds)));
    }
    assert!(failed.waits(now) && !failed.waits(now + PUSH_RETRY_MAX));
}
