use std::time::Duration;

use super::{Gate, Load, Look, Phase, Seen, Step, Window};

/// Pods from a letter each: capital ones are as the resource says now. s: serves, t: starts, b: can't start, u: is not
/// ready, l: leaves.
fn look(replicas: i32, start: i32, pods: &str, sessions: &[u64]) -> Look {
    let seen = |(place, letter): (usize, char)| {
        let phase = match letter.to_ascii_lowercase() {
            's' => Phase::Serving,
            'u' => Phase::Unready,
            'l' => Phase::Leaving,
            _ => Phase::Starting,
        };
        let ordinal = start + place as i32;
        let load = (phase == Phase::Serving).then(|| Load {
            sessions: sessions.get(place).copied().unwrap_or(0),
            view: 7,
            settled: true,
        });
        let stuck = letter.eq_ignore_ascii_case(&'b');
        Seen {
            name: format!("main-{ordinal}"),
            ordinal,
            current: letter.is_ascii_uppercase(),
            phase,
            trouble: stuck.then(|| "ImagePullBackOff".to_owned()),
            stuck,
            load,
            fresh: true,
        }
    };
    Look {
        name: "main".to_owned(),
        replicas,
        takes_clients: true,
        stops: false,
        elsewhere: 0,
        is_later: false,
        window: Window { start, replicas: pods.len() as i32 },
        caught_up: true,
        pods: pods.chars().enumerate().map(seen).collect(),
        lagging: None,
        quiet: Duration::from_secs(10),
        sessions_before: None,
        pause_after: None,
        skip: Default::default(),
    }
}

fn resize(start: i32, replicas: i32) -> Step {
    Step::Resize(Window { start, replicas })
}

fn gate(look: &Look) -> (Gate, bool) {
    match look.step() {
        Step::Wait { gate, stalled, .. } => (gate, stalled),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_window_moves_up_until_all_are_new() {
    let mut steps = Vec::new();
    let (mut start, mut pods) = (0, "sss".to_owned());
    while let Step::Resize(window) = look(3, start, &pods, &[]).step() {
        steps.push((window.start, window.replicas));
        pods.drain(..(window.start - start) as usize);
        start = window.start;
        pods.truncate(window.replicas as usize);
        pods.extend((pods.len()..window.replicas as usize).map(|_| 'S'));
    }
    assert_eq!(steps, [(0, 4), (1, 3), (1, 4), (2, 3), (2, 4), (3, 3)]);
    assert_eq!((pods.as_str(), look(3, 3, "SSS", &[]).step()), ("SSS", Step::Stay));
    let mut last = look(3, 2, "lSSS", &[]);
    last.window = Window { start: 3, replicas: 3 };
    assert_eq!(gate(&last), (Gate::PodsReady, false), "it is over when the last one is gone");
    let mut next = look(3, 0, "lssS", &[]);
    next.window = Window { start: 1, replicas: 3 };
    assert_eq!(gate(&next), (Gate::PodsReady, false), "its sessions are for one new pod alone");
    next.skip.insert(Gate::PodsReady);
    assert_eq!(next.step(), resize(1, 4));
}

#[test]
fn a_step_waits_for_what_it_must() {
    let rolling = || look(3, 0, "sssS", &[100, 100, 100, 0]);
    assert_eq!(rolling().step(), resize(1, 3));
    assert_eq!(gate(&look(3, 0, "sssT", &[])), (Gate::AdditionalPod, false));
    assert_eq!(gate(&look(3, 0, "sssB", &[])), (Gate::AdditionalPod, true), "it has to be said");
    assert_eq!(gate(&look(3, 0, "susS", &[])), (Gate::PodsReady, false));
    assert_eq!(gate(&look(3, 0, "slsS", &[])), (Gate::PodsReady, false));
    assert_eq!(gate(&Look { lagging: Some("1 of 4".to_owned()), ..rolling() }), (Gate::Served, false));
    assert_eq!(gate(&Look { quiet: Duration::from_secs(1), ..rolling() }), (Gate::Settled, false));
    let change = |change: fn(&mut Seen)| {
        let mut look = rolling();
        change(&mut look.pods[2]);
        gate(&look)
    };
    assert_eq!(change(|pod| pod.load.as_mut().unwrap().view = 6), (Gate::Settled, false));
    assert_eq!(change(|pod| pod.load.as_mut().unwrap().settled = false), (Gate::Settled, false));
    assert_eq!(change(|pod| pod.fresh = false), (Gate::Settled, false));
    assert_eq!(change(|pod| pod.load = None), (Gate::Settled, false));
    assert_eq!(gate(&Look { sessions_before: Some(400), ..rolling() }), (Gate::SessionsBack, false));
    let patient = Look { sessions_before: Some(400), quiet: Duration::from_secs(60), ..rolling() };
    assert_eq!(patient.step(), resize(1, 3), "some clients do not come back");
    assert_eq!(Look { caught_up: false, ..rolling() }.step(), Step::Follow);
}

#[test]
fn a_gate_can_be_skipped_by_its_name() {
    let mut look = look(3, 0, "sssT", &[]);
    look.skip.insert(Gate::AdditionalPod);
    assert_eq!(look.step(), resize(1, 3));
    let mut more = self::look(3, 1, "ssTT", &[]);
    more.skip.insert(Gate::AdditionalPod);
    assert_eq!(gate(&more), (Gate::AdditionalPod, false), "one pod at a time is gone past");
    let mut away = self::look(3, 0, "susS", &[]);
    away.skip.insert(Gate::PodsReady);
    assert_eq!(away.step(), resize(1, 3));
}

#[test]
fn a_canary_waits_for_somebody() {
    let canary = |start, pods| Look { pause_after: Some(1), ..look(3, start, pods, &[]) };
    assert_eq!(canary(0, "sss").step(), resize(0, 4));
    assert_eq!(gate(&canary(0, "sssS")), (Gate::Canary, false));
    assert_eq!(Look { pause_after: Some(2), ..look(3, 0, "sssS", &[]) }.step(), resize(1, 3));
    assert_eq!(gate(&Look { pause_after: Some(2), ..look(3, 1, "ssSS", &[]) }), (Gate::Canary, false));
}

#[test]
fn what_never_ran_is_replaced_without_waiting() {
    assert_eq!(look(3, 0, "SSSb", &[]).step(), resize(0, 3), "the bad image was taken back");
    assert_eq!(look(3, 0, "bbb", &[]).step(), Step::Replace("main-2".to_owned()));
    assert_eq!(look(3, 0, "sbs", &[]).step(), Step::Replace("main-1".to_owned()));
}

#[test]
fn one_that_ran_is_not_given_to_a_revision_that_has_not_shown_that_it_runs() {
    assert_eq!(gate(&look(3, 0, "stsB", &[])), (Gate::AdditionalPod, true), "it would not come back");
    let canary = Look { pause_after: Some(1), ..look(3, 0, "stsS", &[]) };
    assert_eq!(gate(&canary), (Gate::Canary, false), "nobody has said that it goes on");
    assert_eq!(look(3, 0, "stsS", &[]).step(), Step::Replace("main-1".to_owned()));
    assert_eq!(look(3, 0, "ttt", &[]).step(), Step::Replace("main-2".to_owned()), "there is nothing to lose");
    assert_eq!(look(3, 0, "ttT", &[]).step(), Step::Replace("main-1".to_owned()), "they may need each other");
}

#[test]
fn what_is_taken_back_goes_and_leaves_the_others_alone() {
    let canary = |pods| Look { pause_after: Some(1), ..look(3, 0, pods, &[]) };
    assert_eq!(canary("SSSs").step(), resize(0, 3), "nobody has to promote what was there before");
    assert_eq!(gate(&canary("SUSs")), (Gate::PodsReady, false));
    assert_eq!(canary("ssss").step(), resize(0, 3), "a third revision: what served before stays for now");
    assert_eq!(canary("sss").step(), resize(0, 4));
}

#[test]
fn a_set_that_is_made_anew_keeps_the_pods_that_there_are() {
    let covering = |pods: &[i32], wanted| Window::covering(pods.iter().copied(), wanted);
    assert_eq!(covering(&[], 3), Window { start: 0, replicas: 3 });
    assert_eq!(covering(&[5, 3, 4], 3), Window { start: 3, replicas: 3 });
    assert_eq!(covering(&[3, 6], 3), Window { start: 3, replicas: 4 });
    assert_eq!(covering(&[3], 3), Window { start: 3, replicas: 3 });
}

#[test]
fn a_revision_that_comes_back_keeps_its_pods() {
    // Half way, the old revision is wanted again.
    assert_eq!(look(3, 1, "SSs", &[]).step(), resize(1, 4));
    assert_eq!(look(3, 1, "SSsS", &[]).step(), Step::Replace("main-3".to_owned()));
    assert_eq!(look(3, 1, "SSSS", &[]).step(), resize(1, 3));
}

#[test]
fn scaling_takes_one_away_at_a_time_and_adds_all_at_once() {
    assert_eq!(look(5, 2, "SSS", &[]).step(), resize(2, 5));
    assert_eq!(look(2, 2, "SSSSS", &[]).step(), resize(2, 4));
    assert_eq!(gate(&look(2, 2, "SSSSL", &[])), (Gate::PodsReady, false));
    assert_eq!(look(2, 2, "SSTT", &[]).step(), resize(2, 3), "it serves nobody");
    let stops = |pods| Look { stops: true, ..look(0, 2, pods, &[]) };
    assert_eq!(stops("SSS").step(), resize(2, 0));
    assert_eq!(stops("sss").step(), resize(2, 0));
    assert_eq!(look(2, 0, "ssss", &[]).step(), resize(0, 3), "what is too many is not replaced");
}

#[test]
fn clients_come_to_pods_that_stay_and_have_less_than_their_part() {
    let accepting = |look: Look| look.accepting().iter().map(|name| name.to_string()).collect::<Vec<_>>();
    // The last old pod is no longer among those that there ought to be, and gives its sessions away.
    let last = look(3, 0, "lSSS", &[0, 1000, 1000, 20]);
    let window = Window { start: 1, replicas: 3 };
    assert_eq!(accepting(Look { window, sessions_before: Some(3000), ..last }), ["main-3"]);
    assert_eq!(accepting(look(3, 0, "SSS", &[900, 0, 0])), ["main-0", "main-1", "main-2"]);
    assert_eq!(accepting(look(3, 0, "sssT", &[100, 100, 100, 0])), ["main-0", "main-1", "main-2"]);
    assert_eq!(accepting(look(3, 0, "sssS", &[100, 100, 100, 0])), ["main-3"]);
    assert_eq!(accepting(look(3, 1, "ssSS", &[100, 100, 100, 0])), ["main-4"], "main-3 has its part");
    assert_eq!(accepting(look(3, 1, "ssSS", &[100, 105, 95, 0])), ["main-4"], "main-3 almost has its part");
    assert_eq!(accepting(look(3, 1, "sSSl", &[110, 95, 92])), ["main-2", "main-3"]);
    let all = ["main-1", "main-2", "main-3"];
    assert_eq!(accepting(look(3, 1, "ssS", &[100, 100, 100])), all, "it may stay so for long");
    assert_eq!(accepting(look(3, 1, "ssS", &[90, 80, 130])), ["main-1", "main-2"]);
    assert_eq!(accepting(look(3, 1, "ssSl", &[100, 100, 100])), ["main-3"], "one gives its sessions away");
    let mut unheard = Look { sessions_before: Some(300), ..look(3, 1, "sSS", &[100, 50, 0]) };
    unheard.pods[2].load = None;
    assert_eq!(accepting(unheard.clone()), ["main-2"], "it may have many already");
    unheard.pods[1].load = Some(Load { sessions: 100, view: 7, settled: true });
    assert_eq!(accepting(unheard), ["main-3"], "it has only begun");
    assert_eq!(accepting(look(2, 0, "SSSS", &[10, 10, 10, 10])), ["main-0", "main-1"], "the others will go");
}

#[test]
fn sessions_are_spread_anew_where_they_are_uneven_and_nothing_else_happens() {
    let uneven = look(3, 0, "SSS", &[400, 500, 0]).uneven().unwrap();
    assert_eq!(uneven.gets.into_iter().collect::<Vec<_>>(), ["main-2"]);
    assert_eq!(uneven.gives, [("main-0".to_owned(), 100), ("main-1".to_owned(), 200)]);
    assert_eq!(look(3, 0, "SSS", &[105, 100, 95]).uneven(), None);
    assert_eq!(look(3, 0, "SSS", &[9, 0, 0]).uneven(), None, "so few are not worth it");
    assert_eq!(look(3, 0, "SST", &[400, 500, 0]).uneven(), None);
    assert_eq!(look(3, 0, "sssS", &[400, 500, 0, 0]).uneven(), None);
    let mut almost_even = [101; 20];
    almost_even[0] = 120;
    assert_eq!(look(20, 0, &"S".repeat(20), &almost_even).uneven(), None, "there is none that lacks one");
}

#[test]
fn sessions_are_no_longer_spread_where_that_would_leave_clients_without_a_pod() {
    let core = |takes_clients| Look { takes_clients, ..look(3, 0, "SSS", &[400, 500, 0]) };
    let to_edges = core(false).uneven().unwrap();
    assert!(core(false).still_spreads(&to_edges));
    assert!(!core(true).still_spreads(&to_edges), "edge nodes are no longer asked for");
    let among_each_other = core(true).uneven().unwrap();
    assert!(core(true).still_spreads(&among_each_other));
    assert!(!core(false).still_spreads(&among_each_other), "there are edge nodes now");
    assert!(!Look { caught_up: false, ..core(true) }.still_spreads(&among_each_other));
    let without_it = look(3, 0, "SSU", &[400, 500, 0]);
    assert!(!without_it.still_spreads(&among_each_other), "nobody is there to take them");
}

#[test]
fn core_nodes_beside_edge_nodes_get_no_clients_and_send_theirs_to_them() {
    let beside = |pods, sessions| Look { takes_clients: false, ..look(3, 0, pods, sessions) };
    assert!(beside("SSS", &[]).accepting().is_empty());
    assert!(beside("sssS", &[]).accepting().is_empty());
    let uneven = beside("SSS", &[9, 0, 7]).uneven().unwrap();
    assert!(uneven.gets.is_empty());
    assert_eq!(uneven.gives, [("main-0".to_owned(), 9), ("main-2".to_owned(), 7)]);
    assert_eq!(beside("SSS", &[0, 0, 0]).uneven(), None);
    assert_eq!(beside("sssS", &[9, 9, 9, 0]).uneven(), None, "a rollout comes first");
    let edges = Look { elsewhere: 600, ..look(2, 0, "SS", &[300, 300]) };
    assert_eq!(edges.sessions(), 1200, "none is lost that is at another node");
}

#[test]
fn edge_nodes_become_new_after_the_core_nodes() {
    let later = |pods| Look { is_later: true, ..look(2, 0, pods, &[]) };
    assert_eq!(gate(&later("ss")), (Gate::CoreNodes, false));
    assert_eq!(later("SS").step(), Step::Stay);
    assert_eq!(Look { is_later: true, ..look(4, 0, "SS", &[]) }.step(), resize(0, 4), "more of them need not wait");
    let mut skipping = later("ss");
    skipping.skip.insert(Gate::CoreNodes);
    assert_eq!(skipping.step(), resize(0, 3));
    let held = |replicas, pods| Look { is_later: true, ..look(replicas, 0, pods, &[]) };
    assert_eq!(held(4, "ss").step(), resize(0, 4), "more of them need not wait");
    assert_eq!(held(1, "ss").step(), resize(0, 1), "nor do fewer");
    assert_eq!(held(1, "sS").step(), resize(0, 1));
    assert_eq!(gate(&held(2, "st")), (Gate::CoreNodes, false), "it may be back in a moment");
}

#[test]
fn edge_nodes_that_are_no_longer_wanted_go_one_after_the_other() {
    let going = |pods| Look { takes_clients: false, ..look(0, 4, pods, &[5, 5]) };
    assert_eq!(going("SS").step(), resize(4, 1));
    assert_eq!(
        gate(&Look { quiet: Duration::ZERO, ..going("SS") }),
        (Gate::Settled, false),
        "clients are led elsewhere"
    );
    assert_eq!(gate(&Look { sessions_before: Some(15), ..going("SS") }), (Gate::SessionsBack, false));
    assert_eq!(going("S").step(), resize(4, 0));
    assert_eq!(going("").step(), Step::Stay);
    assert_eq!(Look { stops: true, ..going("SS") }.step(), resize(4, 0), "with all others they go at once");
}
