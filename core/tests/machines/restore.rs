//! Taking over a session whose connection broke.

use appsockets_core::{
    code::ErrorCode,
    session::{
        Carried,
        event::{Event, PresenceChange},
        request::{Request, SubscribeInfo},
    },
    settings::hub::Hub,
    shard::request::{Effect, Notice},
};

use crate::{
    hubs::{self, RESTORE_MS, Switches},
    world::World,
};

/// `ann` and `ben` in the channel `a`, on two workers.
fn two() -> World {
    let mut world = World::new(2, 2, Switches { user_channel: false, ..Switches::ALL }.hub());
    world.connect(0, 0, Some(hubs::user("ben")));
    world.connect(1, 1, Some(hubs::user("ann")));
    world.subscribe(0, "a");
    world.subscribe(1, "a");
    world.rest();
    world.said.clear();
    world
}

fn changes(world: &World) -> Vec<PresenceChange> {
    let changes = world.said.iter().filter_map(|effect| match effect {
        Effect::Notify { to, notice: Notice::Presence { change, .. }, .. } if to.worker == 0 => Some(*change),
        _ => None,
    });
    changes.collect()
}

fn failed(world: &World, client: usize) -> bool {
    world.errors(client).contains(&ErrorCode::RestoreFailed)
}

#[test]
fn within_the_window_nobody_sees_that_it_was_away_and_it_lacks_nothing() {
    for worker in 0..2 {
        for noticed in [false, true] {
            let mut world = two();
            let id = world.clients[1].session_id.clone();
            world.break_connection(1, noticed);
            world.publish(0, "a", "while away");
            world.wait(RESTORE_MS - 1);
            world.restore(1, worker);
            world.rest();
            assert_eq!((world.clients[1].session_id.clone(), changes(&world)), (id, vec![]));
            assert_eq!(world.heard(1), ["while away"]);
            assert_eq!(world.position(1, "a").recovered, Some(true));
            world.publish(1, "a", "as ann again");
            world.wait(2 * RESTORE_MS);
            assert_eq!((world.heard(0).len(), changes(&world)), (2, vec![]));
            assert_eq!(world.present(0, "a"), ["ann", "ben"]);
        }
    }
}

#[test]
fn without_positions_it_goes_on_from_where_the_node_stopped_sending() {
    let mut world = two();
    world.publish(0, "a", "seen");
    world.rest();
    world.break_connection(1, true);
    world.publish(0, "a", "missed");
    world.rest();
    world.clients[1].views.clear();
    world.restore(1, 0);
    world.rest();
    assert_eq!((world.position(1, "a").recovered, world.position(1, "a").serial.sequence), (Some(true), 1));
    assert_eq!(world.heard(1), ["seen", "missed"]);
}

#[test]
fn after_the_window_it_has_left_once_and_is_not_restored() {
    let mut world = two();
    world.break_connection(1, true);
    world.wait(RESTORE_MS);
    assert_eq!(changes(&world), [PresenceChange::Leave]);
    world.restore(1, 0);
    world.wait(RESTORE_MS);
    assert!(failed(&world, 1));
    assert_eq!((changes(&world).len(), world.present(0, "a")), (1, vec!["ben".to_owned()]));
}

#[test]
fn a_key_works_once() {
    let mut world = two();
    let key = world.clients[1].restore_key.clone().unwrap();
    world.break_connection(1, true);
    world.restore(1, 1);
    world.rest();
    world.break_connection(1, true);
    world.clients[1].restore_key = Some(key);
    world.restore(1, 1);
    world.rest();
    assert!(failed(&world, 1));
}

#[test]
fn a_session_is_restored_again_and_again() {
    let mut world = two();
    for worker in [1, 0, 0, 1] {
        world.break_connection(1, true);
        world.restore(1, worker);
        world.rest();
    }
    assert!(!failed(&world, 1));
    assert_eq!((changes(&world), world.present(0, "a")), (vec![], vec!["ann".to_owned(), "ben".to_owned()]));
    world.request(1, Request::Close);
    world.rest();
    assert_eq!(changes(&world), [PresenceChange::Leave]);
}

#[test]
fn who_leaves_on_purpose_leaves_nothing_to_restore() {
    let mut world = two();
    let key = world.clients[1].restore_key.clone();
    world.request(1, Request::Close);
    world.rest();
    world.clients[1].restore_key = key;
    world.restore(1, 0);
    world.rest();
    assert!(failed(&world, 1));
    assert_eq!(changes(&world), [PresenceChange::Leave]);
}

#[test]
fn subscriptions_are_checked_again_also_where_the_old_worker_does_not_know_the_rules_yet() {
    for learns in [true, false] {
        let mut world = two();
        world.subscribe(1, "b");
        world.rest();
        world.break_connection(1, true);
        world.set_hub(Some(Switches { a_closed: true, user_channel: false, ..Switches::ALL }.hub()));
        world.learn(0);
        if learns {
            world.learn(1);
        }
        world.restore(1, 0);
        world.arrive_between();
        let (_, held) = world.sessions().find(|(_, held)| held.client == Some(1)).unwrap();
        assert_eq!(held.session.channels().map(|channel| &**channel).collect::<Vec<_>>(), ["b"]);
        world.rest();
    }
}

#[test]
fn a_client_that_has_subscribed_already_is_not_restored() {
    let mut world = two();
    world.break_connection(1, true);
    let key = world.clients[1].restore_key.clone().unwrap();
    world.connect(1, 0, None);
    world.subscribe(1, "b");
    world.request(1, Request::Restore { key, positions: Vec::new() });
    world.rest();
    assert!(failed(&world, 1));
}

#[test]
fn a_one_way_client_is_not_restored() {
    let mut world = two();
    world.break_connection(1, true);
    let key = world.clients[1].restore_key.clone().unwrap();
    world.open(1, 0, None, true, Vec::new());
    world.request(1, Request::Restore { key, positions: Vec::new() });
    world.rest();
    assert!(failed(&world, 1));
}

/// A session that ended up at another connection than its own hub's, or too late.
fn carry(world: &mut World, carried: Hub, expired: bool) {
    let mut other = World::new(1, 1, carried);
    let mut identity = (*hubs::user("ann")).clone();
    identity.expires_unix_ms = expired.then_some(world.now.unix_ms);
    other.connect(0, 0, Some(identity.into()));
    other.subscribe(0, "a");
    other.rest();
    let (at, _) = other.sessions().next().unwrap();
    let session = other.workers[0].held.remove(&at.subscriber).unwrap().session;
    let from = appsockets_core::shard::request::Listener { node: 1, worker: 1 };
    let positions: Vec<SubscribeInfo> = Vec::new();
    world.break_connection(1, true);
    world.connect(1, 0, None);
    let at = world.clients[1].at.unwrap();
    let carried = Carried { session, positions: Vec::new(), from };
    world.step(at, |session, cx| session.restored(carried, &positions, cx));
}

#[test]
fn a_session_of_another_hub_or_with_an_ended_token_is_not_restored() {
    let other = Hub { id: "other".into(), ..Switches::PLAIN.hub() };
    for (hub, expired) in [(other, false), (Switches::PLAIN.hub(), true)] {
        let mut world = two();
        carry(&mut world, hub, expired);
        world.rest();
        assert!(failed(&world, 1));
        assert_eq!(world.count(1, |event| matches!(event, Event::Restored { .. })), 0);
    }
}

#[test]
fn what_was_asked_while_the_restore_was_under_way_is_answered() {
    let mut world = two();
    world.break_connection(1, true);
    world.restore(1, 0);
    world.authenticate(1, "ann");
    world.subscribe(1, "b");
    world.unsubscribe(1, "c");
    world.rest();
    assert!(world.clients[1].waiting.is_empty());
    assert_eq!(world.refusals(1), [ErrorCode::TryAgain]);
    assert_eq!(world.count(1, |event| matches!(event, Event::Restored { .. })), 1);
    assert_eq!(world.clients[1].views.keys().map(|channel| &**channel).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn what_was_subscribed_to_while_the_restore_was_under_way_is_told_to_have_ended() {
    let mut world = two();
    let id = world.clients[1].session_id.clone();
    world.break_connection(1, true);
    world.restore(1, 0);
    world.subscribe(1, "c");
    // The session that is to be restored is on the other worker, whose letters take their time.
    while !world.clients[1].views.contains_key("c") {
        world.arrive_at_the_shard();
        world.turn();
    }
    world.rest();
    assert_eq!(world.ended(1), [(vec!["c".into()], Some(ErrorCode::TryAgain))]);
    assert_eq!(world.clients[1].session_id, id);
}

#[test]
fn an_authentication_goes_on_through_a_restore() {
    let mut world = two();
    world.break_connection(1, true);
    world.restore(1, 0);
    world.authenticate(1, "cyd");
    let outcome = world.auths.pop_front().unwrap();
    world.rest();
    world.authenticate(1, "ann");
    world.auths.push_front(outcome);
    world.rest();
    let (_, held) = world.sessions().find(|(_, held)| held.client == Some(1)).unwrap();
    assert_eq!(held.session.identity(), Some(&hubs::user("cyd")));
    assert!(world.clients[1].waiting.is_empty());
}

#[test]
fn a_user_channel_that_its_owner_refuses_is_told_to_be_lost() {
    let config = appsockets_core::shard::Config { channels_max: 0, ..hubs::shard_config() };
    let mut world = World::with(1, 1, Switches::ALL.hub(), hubs::session_config(), config);
    world.connect(0, 0, Some(hubs::user("ann")));
    world.rest();
    assert_eq!(world.ended(0), [(vec!["u:ann".into()], Some(ErrorCode::TryAgain))]);
}
