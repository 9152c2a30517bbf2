//! The table of what tools conclude from what resources are told.

use std::sync::Arc;

use appsockets_core::settings::{
    entry::{Entry, ResourceId, Source},
    resource::{ChannelRulesSpec, HubSpec, Resource},
};
use k8s_openapi::jiff::Timestamp;

use super::{Node, Outcome, conditions, of_nodes, of_tenant, with_copies};
use crate::{
    resolve::Wanted,
    verdict::{Reason, Verdict},
};

fn wanted(generation: u64) -> Arc<Wanted> {
    let resource = Resource::Hub { name: "shop".into(), spec: HubSpec::default() };
    let entry = Arc::new(Entry::new(Source::Operator, "uid", generation, resource));
    Arc::new(Wanted::new([(entry.id.clone(), entry)].into(), Default::default()))
}

fn node(name: &str, serves: &Arc<Wanted>) -> Node {
    Node { name: name.into(), serves: Some(serves.clone()), ..Node::default() }
}

fn told(nodes: &[Node]) -> Outcome {
    of_tenant(&Verdict::Wanted, &[ResourceId::hub("shop")], &wanted(2), nodes, true)
}

fn in_progress(outcome: Outcome) -> (&'static str, String) {
    match outcome {
        Outcome::InProgress { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ready_is_true_when_every_node_serves_this_generation() {
    let (new, old) = (wanted(2), wanted(1));
    assert!(matches!(told(&[node("main-0", &new), node("main-1", &new)]), Outcome::Ready { reason: "Served", .. }));
    let (reason, message) = in_progress(told(&[node("main-0", &new), node("main-1", &old)]));
    assert_eq!((reason, message.as_str()), ("Applying", "1 of 2 nodes serve it; it is not seen of main-1."));
    assert_eq!(in_progress(told(&[])).0, "NoNodes");
    let many: Vec<_> = (0..5).map(|number| node(&format!("main-{number}"), &old)).collect();
    let (_, message) = in_progress(told(&many));
    assert_eq!(message, "0 of 5 nodes serve it; it is not seen of main-0, main-1, main-2, 2 more.");
}

#[test]
fn rules_say_when_there_are_too_few_nodes_for_their_copies() {
    let rules = |redundancy, redundancy_required| {
        let spec = ChannelRulesSpec { redundancy, redundancy_required, ..ChannelRulesSpec::default() };
        let resource = Resource::ChannelRules { hub: "shop".into(), name: "safe".into(), spec };
        let entry = Arc::new(Entry::new(Source::Operator, "uid", 1, resource));
        Wanted::new([(entry.id.clone(), entry)].into(), Default::default())
    };
    let said = |wanted: &Wanted, replicas| {
        let ids: Vec<_> = wanted.entries.keys().cloned().collect();
        match with_copies(
            Outcome::Ready { reason: "Served", message: "Every node serves it.".into() },
            &ids,
            wanted,
            replicas,
        ) {
            Outcome::Ready { message, .. } => message,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(said(&rules(2, false), 3), "Every node serves it.");
    let few = "Every node serves it. For 2 copies there are too few core nodes (2): messages are acknowledged with 1.";
    assert_eq!(said(&rules(2, false), 2), few);
    assert!(said(&rules(1, true), 1).ends_with("(1): publishes are refused."));
    assert_eq!(said(&rules(1, true), 0), "Every node serves it.", "nobody publishes");
    assert_eq!(said(&wanted(1), 1), "Every node serves it.", "a hub asks for none");
}

#[test]
fn a_node_that_is_not_known_to_serve_it_is_named() {
    let new = wanted(2);
    let mut away = node("main-1", &new);
    away.unreachable = Some("timed out".into());
    let nodes = [node("main-0", &new), away];
    let (reason, message) = in_progress(told(&nodes));
    assert_eq!(reason, "NodeLagging");
    assert!(message.contains("main-1 can't be reached: timed out"), "{message}");
    let lenient = of_tenant(&Verdict::Wanted, &[ResourceId::hub("shop")], &new, &nodes, false);
    assert!(matches!(lenient, Outcome::Ready { .. }), "it served this when it was last heard of");
    assert_eq!(in_progress(of_nodes(&new, &nodes).unwrap()).0, "NodeLagging");

    let mut older = node("main-1", &new);
    older.withheld = ["shop".into()].into();
    let (reason, message) = in_progress(told(&[node("main-0", &new), older]));
    assert_eq!(reason, "NodeLagging");
    assert!(message.contains("main-1 can't use something of the hub shop"), "{message}");
    assert_eq!(of_nodes(&new, &[node("main-0", &new)]), None);
}

#[test]
fn a_node_that_does_not_name_all_that_it_withholds_is_not_taken_to_serve_the_others() {
    let new = wanted(2);
    let mut older = node("main-1", &new);
    (older.withheld, older.unnamed) = (["other".into()].into(), true);
    let nodes = [node("main-0", &new), older.clone()];
    let (reason, message) = in_progress(told(&nodes));
    assert_eq!(reason, "NodeLagging");
    assert!(message.contains("main-1 can't use something of more hubs than it names"), "{message}");
    assert!(!message.contains("other"), "nobody is told of others' hubs: {message}");
    let (_, message) = in_progress(of_nodes(&new, &nodes).unwrap());
    assert!(message.contains("main-1 can't use something of the hub other"), "{message}");
    older.unnamed = false;
    assert!(matches!(told(&[node("main-0", &new), older]), Outcome::Ready { .. }));
}

#[test]
fn a_node_that_does_not_take_what_it_is_told_is_named() {
    let (new, old) = (wanted(2), wanted(1));
    let mut full = node("main-1", &old);
    full.refuses = Some("it is full".into());
    let nodes = [node("main-0", &new), full];
    for outcome in [told(&nodes), of_nodes(&new, &nodes).unwrap()] {
        let (reason, message) = in_progress(outcome);
        assert_eq!(reason, "NodeLagging");
        assert!(message.contains("main-1 takes nothing new (it is full): "), "{message}");
    }
    let earlier = of_tenant(&Verdict::Wanted, &[ResourceId::hub("shop")], &old, &nodes[1..], true);
    assert!(matches!(earlier, Outcome::Ready { .. }), "it serves what it took before");
}

#[test]
fn conditions_follow_the_contract() {
    let shown = |outcome: &Outcome, paused: Option<&str>| {
        let conditions = conditions(outcome, paused, 7, &[], Timestamp::UNIX_EPOCH);
        assert!(conditions.iter().all(|condition| condition.observed_generation == Some(7)));
        conditions.into_iter().map(|condition| format!("{}={}", condition.type_, condition.status)).collect::<Vec<_>>()
    };
    let ready = Outcome::Ready { reason: "Served", message: String::new() };
    let progress = Outcome::InProgress { reason: "Applying", message: String::new() };
    let stalled = of_tenant(&Verdict::stalled(Reason::Conflict, ""), &[], &Wanted::default(), &[], true);
    assert_eq!(shown(&ready, None), ["Ready=True"]);
    assert_eq!(shown(&progress, None), ["Ready=Unknown", "Reconciling=True"]);
    assert_eq!(shown(&stalled, None), ["Ready=False", "Stalled=True"]);
    assert_eq!(shown(&ready, Some("paused")), ["Ready=True", "Paused=True"]);
    assert_eq!(shown(&progress, Some("paused")), ["Ready=Unknown", "Paused=True"]);
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let applying = |message: &str| Outcome::InProgress { reason: "Applying", message: message.into() };
    let first = conditions(&applying("0 of 2"), None, 1, &[], at(1));
    let second = conditions(&applying("1 of 2"), None, 1, &first, at(2));
    assert_eq!(second[0].last_transition_time.0, at(1));
    let ready = Outcome::Ready { reason: "Served", message: String::new() };
    assert_eq!(conditions(&ready, None, 1, &second, at(3))[0].last_transition_time.0, at(3));
}

/// The table that `e2e/kstatus` shows to other tools says of each row what the operator would say.
#[test]
fn other_tools_are_shown_what_is_said() {
    let rows: serde_json::Value = serde_json::from_str(include_str!("../../../e2e/kstatus/rows.json")).unwrap();
    let mut compared = 0;
    for row in rows.as_array().unwrap() {
        let said = |key: &str| row["outcome"][key].as_str().unwrap().to_owned();
        // Reasons are a closed set, and so are the rows.
        let reason = || &*Box::leak(said("reason").into_boxed_str());
        let outcome = match row["outcome"]["kind"].as_str() {
            Some("Ready") => Outcome::Ready { reason: reason(), message: said("message") },
            Some("InProgress") => Outcome::InProgress { reason: reason(), message: said("message") },
            Some("Stalled") => Outcome::Stalled { reason: reason(), message: said("message") },
            _ => continue,
        };
        let generation = row["object"]["metadata"]["generation"].as_i64().unwrap();
        let conditions = conditions(&outcome, row["paused"].as_str(), generation, &[], Timestamp::UNIX_EPOCH);
        assert_eq!(serde_json::json!(conditions), row["object"]["status"]["conditions"], "{}", row["name"]);
        compared += 1;
    }
    assert_eq!(compared, 5);
}
