//! Plain examples of one machine each: what it does, and in which order.

use std::sync::Arc;

use appsockets_core::{
    cluster::{
        view::{ClusterId, Member, NodeId, View},
        views::{
            Views,
            message::{Ballot, Config, Effect, Known, Message, Told, Vote},
            side::Said,
        },
    },
    time::Now,
};

use crate::chance::Chance;

const CLUSTER: ClusterId = ClusterId { founded_ms: 5_000, chance: 1 };

fn id(node: u64) -> NodeId {
    NodeId { node, generation: 1 }
}

fn at(mono_ms: u64) -> Now {
    Now { mono_ms, unix_ms: 10_000 + mono_ms }
}

fn machine(node: u64, expected: usize, core: bool) -> Views {
    let (retry_ms, unreachable_ms) = (100, 1_000);
    let config =
        Config { me: id(node), expected, points: 8, steps: 2, chance: 7, core, retry_ms, unreachable_ms, open_max: 8 };
    Views::new(at(0), config)
}

fn view(number: u64, nodes: &[u64]) -> Arc<View> {
    let members = nodes.iter().map(|node| Member { id: id(*node), points: 8 }).collect();
    Arc::new(View::new(CLUSTER, number, members))
}

fn told(view: &Arc<View>, open: &[&Arc<View>]) -> Told {
    let open: Vec<Arc<View>> = open.iter().map(|view| (*view).clone()).collect();
    Told { view: view.clone(), open, settled: 0, gone: Vec::new() }
}

fn is(view: &Arc<View>, open: &[&Arc<View>]) -> Message {
    Message::Is(told(view, open))
}

/// What the machine does when it hears that.
fn hears(views: &mut Views, from: u64, message: Message) -> Vec<Effect> {
    let mut effects = Vec::new();
    views.receive(at(1), id(from), message, &mut effects);
    effects
}

/// A machine of node 1 that is linked to the others and has heard that they stand at the view.
fn member(view: &Arc<View>, others: &[u64]) -> Views {
    let mut views = machine(1, 5, true);
    for other in others {
        views.link_up(at(0), id(*other), &mut Vec::new());
        hears(&mut views, *other, is(view, &[]));
    }
    assert_eq!(views.view(), Some(view));
    views
}

fn send(to: u64, message: Message) -> Effect {
    Effect::Send { to: id(to), message }
}

fn session(peer: u64, on: bool) -> Effect {
    Effect::Session { peer: id(peer), on }
}

#[test]
fn where_one_node_is_expected_it_founds_at_once() {
    let (mut views, mut effects) = (machine(1, 1, true), Vec::new());
    assert_eq!(views.next_tick_ms(), Some(0));
    views.tick(at(0), &mut effects);
    let first = view(1, &[1]);
    match &effects[..] {
        [Effect::Install { view, open }] => assert!(view.members == first.members && open.is_empty()),
        other => panic!("{other:?}"),
    }
    assert_eq!(views.next_tick_ms(), None);
    effects.clear();
    views.served(at(1), 1, &mut effects);
    assert_eq!(effects, [Effect::Settled { number: 1 }]);
}

#[test]
fn a_founding_waits_for_living_nodes_that_may_know_a_view() {
    let (mut views, mut effects) = (machine(1, 1, true), Vec::new());
    let known = |node| Known { id: id(node), core: true, leaving: false, alive: true, unreachable: Vec::new() };
    views.gossip(at(0), vec![known(1), known(2)], &mut effects);
    assert_eq!((views.view(), views.next_tick_ms()), (None, Some(1_000)));
    views.tick(at(1_000), &mut effects);
    assert!(views.view().is_some());
}

#[test]
fn an_install_ends_sessions_says_so_and_begins_those_that_are_due() {
    let (first, second) = (view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4]));
    let mut views = member(&first, &[2, 3]);
    let effects = hears(&mut views, 3, is(&second, &[&first]));
    let install = Effect::Install { view: second.clone(), open: vec![first.clone()] };
    let told = |to| send(to, is(&second, &[&first]));
    assert_eq!(effects, [session(3, false), session(2, false), install, told(2), told(3), session(3, true)]);
    assert_eq!(hears(&mut views, 2, is(&second, &[&first])), [session(2, true)]);
    assert_eq!(hears(&mut views, 2, is(&second, &[&first])), []);
}

#[test]
fn a_view_is_settled_when_all_members_have_served_it() {
    let first = view(1, &[1, 2, 3]);
    let mut views = member(&first, &[2, 3]);
    assert_eq!(hears(&mut views, 2, Message::Served { number: 1 }), []);
    assert_eq!(hears(&mut views, 3, Message::Served { number: 2 }), []);
    let mut effects = Vec::new();
    views.served(at(1), 1, &mut effects);
    assert_eq!(effects, [send(2, Message::Served { number: 1 }), send(3, Message::Served { number: 1 })]);
    let settled = |to| send(to, Message::Settled { number: 1 });
    let effects = hears(&mut views, 3, Message::Served { number: 1 });
    assert_eq!(effects, [Effect::Settled { number: 1 }, settled(2), settled(3)]);
    assert_eq!((views.settled(), hears(&mut views, 3, Message::Served { number: 1 })), (1, vec![]));
}

#[test]
fn half_is_enough_only_if_the_others_are_certainly_gone() {
    let first = view(1, &[1, 2]);
    let (mut views, mut effects) = (member(&first, &[2]), Vec::new());
    views.link_down(at(2), id(2), &mut effects);
    let known = Known { id: id(2), core: true, leaving: false, alive: false, unreachable: Vec::new() };
    views.gossip(at(2), vec![known], &mut effects);
    views.tick(at(9_000), &mut effects);
    assert_eq!(views.view(), Some(&first));
    views.gone(at(9_001), id(2), &mut effects);
    assert_eq!(views.view(), Some(&view(2, &[1])));
}

#[test]
fn of_three_one_is_never_enough() {
    let first = view(1, &[1, 2, 3]);
    let (mut views, mut effects) = (member(&first, &[2, 3]), Vec::new());
    views.gone(at(2), id(2), &mut effects);
    views.gone(at(2), id(3), &mut effects);
    views.tick(at(9_000), &mut effects);
    assert!(views.is_lost() && views.view() == Some(&first));
}

#[test]
fn votes_count_only_from_members_at_the_same_view() {
    let first = view(1, &[1, 2, 3]);
    let mut views = member(&first, &[2, 3, 4]);
    let ask = |by| Message::Ask { number: 2, ballot: Ballot { round: 1, by: id(by) } };
    let promise = Message::Promise { number: 2, ballot: Ballot { round: 1, by: id(2) }, accepted: None };
    assert_eq!(hears(&mut views, 2, ask(2)), [send(2, promise)]);
    assert_eq!(hears(&mut views, 4, ask(4)), [send(4, is(&first, &[]))]);
    assert_eq!(hears(&mut views, 3, ask(2)), [send(3, is(&first, &[]))]);
    let stale = Message::Ask { number: 1, ballot: Ballot { round: 9, by: id(3) } };
    assert_eq!(hears(&mut views, 3, stale), [send(3, is(&first, &[]))]);
}

#[test]
fn a_lower_ballot_is_refused_and_an_accepted_view_is_told() {
    let (first, second) = (view(1, &[1, 2, 3]), view(2, &[1, 2]));
    let mut views = member(&first, &[2, 3]);
    let (low, high) = (Ballot { round: 4, by: id(2) }, Ballot { round: 4, by: id(3) });
    let accept = |ballot| Message::Accept { ballot, view: second.clone() };
    assert_eq!(hears(&mut views, 2, accept(low)), [send(2, Message::Accepted { number: 2, ballot: low })]);
    let accepted = Some(Vote { ballot: low, view: second.clone() });
    let effects = hears(&mut views, 3, Message::Ask { number: 2, ballot: high });
    assert_eq!(effects, [send(3, Message::Promise { number: 2, ballot: high, accepted })]);
    let refused = Message::Refused { number: 2, ballot: low, promised: high };
    assert_eq!(hears(&mut views, 2, accept(low)), [send(2, refused)]);
}

#[test]
fn of_two_clusters_the_younger_begins_again() {
    let first = view(1, &[1, 2, 3]);
    let mut views = member(&first, &[2, 3, 9]);
    let of = |founded_ms| {
        let cluster = ClusterId { founded_ms, chance: 0 };
        Arc::new(View::new(cluster, 8, vec![Member { id: id(9), points: 8 }]))
    };
    assert_eq!(hears(&mut views, 9, is(&of(5_001), &[])), [session(9, false)]);
    let effects = hears(&mut views, 9, is(&of(4_999), &[]));
    assert_eq!(effects, [session(2, false), session(3, false), Effect::Dissolve]);
    assert_eq!((hears(&mut views, 2, is(&view(2, &[2]), &[])), views.next_tick_ms()), (vec![], None));
}

#[test]
fn a_cluster_that_can_decide_nothing_any_more_gives_way() {
    let first = view(1, &[1, 2, 3]);
    let lost = |gone| Message::Is(Told { view: first.clone(), open: Vec::new(), settled: 0, gone });
    let mut fresh = machine(4, 5, true);
    fresh.link_up(at(0), id(1), &mut Vec::new());
    assert_eq!((hears(&mut fresh, 1, lost(vec![id(2), id(3)])), fresh.view()), (vec![], None));
    hears(&mut fresh, 1, lost(vec![id(2)]));
    assert_eq!(fresh.view(), None);

    let younger = ClusterId { founded_ms: 9_000, chance: 0 };
    let theirs = Arc::new(View::new(younger, 1, vec![Member { id: id(9), points: 8 }]));
    let mut member = member(&first, &[2, 3, 9]);
    member.gone(at(2), id(2), &mut Vec::new());
    assert_eq!(hears(&mut member, 9, is(&theirs, &[])), [session(9, false)]);
    member.gone(at(2), id(3), &mut Vec::new());
    assert_eq!(hears(&mut member, 9, is(&theirs, &[])).last(), Some(&Effect::Dissolve));
}

#[test]
fn an_edge_node_learns_views_and_never_votes() {
    let (mut views, first) = (machine(9, 1, false), view(1, &[1, 2]));
    views.tick(at(5_000), &mut Vec::new());
    views.link_up(at(5_000), id(1), &mut Vec::new());
    hears(&mut views, 1, Message::NoView(None));
    let ask = |number| Message::Ask { number, ballot: Ballot { round: 1, by: id(1) } };
    assert_eq!(hears(&mut views, 1, ask(1)), [send(1, Message::NoView(None))]);
    hears(&mut views, 1, is(&first, &[]));
    assert_eq!(hears(&mut views, 1, ask(2)), [send(1, is(&first, &[]))]);
}

/// Of five nodes three are certainly gone, and two of them are there again. A founding needs three.
#[test]
fn a_cluster_that_is_founded_anew_takes_over_from_the_lost_one() {
    let (first, second) = (view(1, &[1, 2, 3, 4, 5]), view(2, &[1, 2, 3, 4, 5]));
    let mut views = member(&first, &[2, 3, 4, 5]);
    hears(&mut views, 2, is(&second, &[&first]));
    (3..=5).for_each(|node| views.link_down(at(2), id(node), &mut Vec::new()));
    let mut effects = Vec::new();
    (3..=5).for_each(|node| views.gone(at(2), id(node), &mut effects));
    assert!(views.is_lost() && !views.is_between());
    let restarted = NodeId { node: 3, generation: 2 };
    views.link_up(at(3), restarted, &mut effects);
    views.receive(at(3), restarted, Message::NoView(None), &mut effects);
    assert!(views.is_between() && views.view().is_none());
    // The other that is left has not told yet that it takes part; it is waited for.
    hears(&mut views, 2, is(&second, &[&first]));
    hears(&mut views, 2, Message::NoView(Some(told(&second, &[&first]))));
    effects.clear();
    // It also gives others a moment to be heard of.
    views.tick(at(50), &mut effects);
    assert_eq!(effects, []);
    views.tick(at(200), &mut effects);
    let ballot = Ballot { round: 1, by: id(1) };
    let promise = Message::Promise { number: 1, ballot, accepted: None };
    let accepted = Message::Accepted { number: 1, ballot };
    for message in [promise, accepted] {
        hears(&mut views, 2, message.clone());
        effects.clear();
        views.receive(at(3), restarted, message, &mut effects);
    }
    let founded = views.view().cloned().expect("three of five found a cluster");
    assert_eq!((founded.number, views.settled()), (3, 0));
    assert!(
        founded.cluster > first.cluster && founded.members.iter().map(|member| member.id).eq([id(1), id(2), restarted])
    );
    let install = Effect::Install { view: founded.clone(), open: vec![first, second.clone()] };
    assert!(effects.contains(&install), "{effects:?}");

    // One of the five that was out of reach comes with what it has; one of another cluster begins again.
    let mut late = member(&second, &[2, 9]);
    hears(&mut late, 9, is(&founded, &[&second]));
    assert_eq!(late.view(), Some(&founded));
    let other = ClusterId { founded_ms: 4_000, chance: 0 };
    let members = (1..=3).map(|node| Member { id: id(node), points: 8 }).collect();
    let mut stranger = member(&Arc::new(View::new(other, 1, members)), &[2, 3, 9]);
    (2..=3).for_each(|node| stranger.gone(at(2), id(node), &mut Vec::new()));
    assert_eq!(hears(&mut stranger, 9, is(&founded, &[&second])).last(), Some(&Effect::Dissolve));
}

/// Any message, with small numbers so that some make nearly sense.
fn any_message(chance: &mut Chance) -> Message {
    let mut small = || chance.within(0, 4);
    let number = if small() == 0 { u64::MAX } else { small() };
    let round = if small() == 0 { u64::MAX } else { small() };
    let ballot = Ballot { round, by: id(small()) };
    let nodes: Vec<u64> = (0..small()).collect();
    let cluster = ClusterId { founded_ms: 4_999 + small(), chance: 1 };
    let members = nodes.iter().map(|node| Member { id: id(*node), points: 1 }).collect();
    let view = Arc::new(View::new(cluster, number, members));
    match chance.within(0, 12) {
        0 => Message::NoView(None),
        8 => Message::NoView(Some(Told { view: view.clone(), open: vec![view], settled: number, gone: Vec::new() })),
        1 => {
            let (settled, gone) = (chance.next(), vec![id(1), id(9)]);
            Message::Is(Told { view: view.clone(), open: vec![view], settled, gone })
        }
        2 => Message::Ask { number, ballot },
        3 => Message::Promise { number, ballot, accepted: Some(Vote { ballot, view }) },
        4 => Message::Accept { ballot, view },
        5 => Message::Accepted { number, ballot },
        6 => Message::Refused { number, ballot, promised: ballot },
        7 => Message::Served { number },
        10 => {
            let mut some = || chance.percent(70).then(|| id(number % 5));
            let (follows, stands) = (some(), some());
            Message::Side(Said { alone: chance.percent(80), follows, last: round, stands })
        }
        11 => Message::Aside { number: chance.within(0, 3), view },
        _ => Message::Settled { number },
    }
}

#[test]
fn nonsense_changes_no_view() {
    for seed in 0..300 {
        let (mut chance, first) = (Chance(seed), view(1, &[1, 2, 3]));
        let mut views = member(&first, &[2, 3]);
        for _ in 0..100 {
            let from = chance.within(0, 5);
            let message = any_message(&mut chance);
            // What others say of themselves is believed; the rest must not bring about a view.
            if !matches!(message, Message::Is(_) | Message::NoView(Some(_))) {
                hears(&mut views, from, message);
                assert_eq!(views.view(), Some(&first), "seed {seed}");
            }
        }
    }
}

#[test]
fn no_message_is_too_strange() {
    for seed in 0..300 {
        let (mut chance, first) = (Chance(seed), view(1, &[1, 2, 3]));
        let mut views = member(&first, &[2, 3]);
        for _ in 0..100 {
            let from = chance.within(0, 5);
            let message = any_message(&mut chance);
            hears(&mut views, from, message);
        }
    }
}

#[test]
fn nonsense_brings_nobody_to_a_strange_side_view() {
    let mut stood = 0;
    for seed in 0..300 {
        let (mut chance, first) = (Chance(seed), view(1, &[1, 2, 3, 4, 5]));
        let (mut views, mut last) = (member(&first, &[0, 2]), 0);
        views.tick(at(2_000), &mut Vec::new());
        for _ in 0..100 {
            let (from, mut effects) = (chance.within(0, 5), Vec::new());
            let message = any_message(&mut chance);
            if matches!(message, Message::Is(_) | Message::NoView(_)) {
                continue;
            }
            views.receive(at(2_000), id(from), message, &mut effects);
            for side in
                effects.into_iter().filter_map(|effect| if let Effect::Side(side) = effect { side } else { None })
            {
                let inside = side.members.iter().all(|member| first.contains(member.id));
                assert!(inside && side.contains(id(1)) && side.number > last, "seed {seed}: {side:?}");
                (last, stood) = (side.number, stood + 1);
            }
        }
    }
    assert!(stood > 100, "{stood}");
}
