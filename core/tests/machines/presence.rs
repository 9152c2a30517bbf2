//! Who is there, and how many.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{
    channel::ChannelKey,
    fanout::Subscriber,
    identity::Identity,
    session::event::{Event, PresenceChange},
    shard::request::{Ask, Effect, Listener, Reply, Request, Token},
};

use crate::{
    hubs::{self, CLOSE_MS, OCCUPANCY_MS, Switches},
    world::World,
};

const HUB: Switches = Switches { user_channel: false, ..Switches::ALL };

fn connected(clients: usize) -> World {
    let mut world = World::new(1, clients, HUB.hub());
    for client in 0..clients {
        world.connect(client, 0, Some(hubs::user(["ann", "ben", "cyd"][client])));
    }
    world.rest();
    world
}

/// The joins and leaves that a client was told, lists apart.
fn changes(world: &World, client: usize) -> Vec<PresenceChange> {
    let changes = world.clients[client].log.iter().filter_map(|event| match event {
        Event::Presence { change, .. } => Some(*change),
        _ => None,
    });
    changes.filter(|change| *change != PresenceChange::List).collect()
}

fn counts(world: &World, client: usize) -> Vec<u64> {
    let counts = world.clients[client].log.iter().filter_map(|event| match event {
        Event::Occupancy { count, .. } => Some(*count),
        _ => None,
    });
    counts.collect()
}

#[test]
fn a_subscriber_gets_the_list_and_others_are_told_of_it_once() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.rest();
    world.subscribe(1, "a");
    world.rest();
    assert_eq!(
        (world.present(0, "a"), world.present(1, "a")),
        (vec!["ann".into(), "ben".into()], world.present(0, "a"))
    );
    assert_eq!((changes(&world, 0), changes(&world, 1)), (vec![PresenceChange::Join], vec![]));
    world.unsubscribe(1, "a");
    world.rest();
    assert_eq!((changes(&world, 0).len(), world.present(0, "a")), (2, vec!["ann".into()]));
}

#[test]
fn who_comes_and_goes_within_a_turn_is_told_to_nobody() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.rest();
    world.subscribe(1, "a");
    world.unsubscribe(1, "a");
    world.rest();
    assert_eq!(changes(&world, 0), []);
}

#[test]
fn one_who_subscribes_again_to_recover_stays() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.subscribe(1, "a");
    world.rest();
    let before = changes(&world, 0);
    let known = world.position(1, "a").serial;
    world.recover(1, "a", Some(appsockets_core::session::request::Recover::Serial(known)));
    world.rest();
    assert_eq!((changes(&world, 0), world.present(1, "a").len()), (before, 2));
}

#[test]
fn one_who_becomes_somebody_else_leaves_and_joins() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.subscribe(1, "a");
    world.rest();
    world.authenticate(1, "cyd");
    world.rest();
    assert_eq!(changes(&world, 0)[..], [PresenceChange::Leave, PresenceChange::Join]);
    assert_eq!(
        (world.present(0, "a"), world.present(1, "a")),
        (vec!["ann".into(), "cyd".into()], world.present(0, "a"))
    );
}

#[test]
fn presence_that_begins_shows_everybody() {
    let mut world = World::new(1, 2, Switches { presence: false, ..HUB }.hub());
    (0..2).for_each(|client| {
        world.connect(client, 0, Some(hubs::user(["ann", "ben"][client])));
        world.subscribe(client, "a");
    });
    world.rest();
    assert!(world.present(0, "a").is_empty());
    world.set_hub(Some(HUB.hub()));
    world.rest();
    assert_eq!(world.present(0, "a"), ["ann", "ben"]);
}

#[test]
fn occupancy_is_told_at_most_once_an_interval_and_is_right_after_it() {
    let mut world = connected(3);
    world.subscribe(0, "a");
    world.rest();
    world.subscribe(1, "a");
    world.rest();
    world.subscribe(2, "a");
    world.rest();
    assert_eq!(counts(&world, 0), [1]);
    world.wait(OCCUPANCY_MS - 1);
    assert_eq!(counts(&world, 0), [1]);
    world.wait(1);
    assert_eq!((counts(&world, 0), counts(&world, 2)), (vec![1, 3], vec![3, 3]));
    world.wait(10 * CLOSE_MS);
    assert_eq!(counts(&world, 0), [1, 3]);
}

#[test]
fn one_who_was_told_a_count_between_two_intervals_is_not_left_with_it() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.rest();
    world.subscribe(1, "a");
    world.rest();
    world.unsubscribe(0, "a");
    world.wait(OCCUPANCY_MS);
    assert_eq!(counts(&world, 1), [2, 1]);
}

#[test]
fn presence_that_ends_leaves_nobody_behind() {
    let mut world = connected(3);
    (0..3).for_each(|client| world.subscribe(client, "a"));
    world.rest();
    world.set_hub(Some(Switches { presence: false, ..HUB }.hub()));
    world.rest();
    assert!(world.present(0, "a").is_empty());
    world.unsubscribe(2, "a");
    world.rest();
    world.set_hub(Some(HUB.hub()));
    world.rest();
    assert_eq!(
        (world.present(0, "a"), world.present(1, "a")),
        (vec!["ann".into(), "ben".into()], world.present(0, "a"))
    );
}

#[test]
fn a_new_token_of_the_same_user_is_nobodys_business() {
    let mut world = connected(2);
    world.subscribe(0, "a");
    world.subscribe(1, "a");
    world.rest();
    let at = world.clients[1].at.unwrap();
    let renewed = Identity { expires_unix_ms: Some(u64::MAX), ..(*hubs::user("ben")).clone() };
    world.authenticate(1, "ben");
    world.auths.clear();
    world.step(at, |session, cx| session.authenticated(Ok((Arc::new(renewed), "token".into())), cx));
    world.rest();
    assert_eq!(changes(&world, 0), []);
    // What others are shown is their business.
    let extra = BTreeMap::from([("name".to_owned(), "Benedict".to_owned())]);
    let named = Identity { extra, ..(*hubs::user("ben")).clone() };
    world.authenticate(1, "ben");
    world.auths.clear();
    world.step(at, |session, cx| session.authenticated(Ok((Arc::new(named), "token".into())), cx));
    world.rest();
    assert_eq!(changes(&world, 0), [PresenceChange::Leave, PresenceChange::Join]);
}

#[test]
fn who_is_present_can_be_read_without_opening_a_channel() {
    let mut world = connected(1);
    world.subscribe(0, "a");
    world.rest();
    let open = world.shard.len();
    assert_eq!((read(&mut world, "a"), read(&mut world, "b")), (vec!["ann".to_owned()], vec![]));
    assert_eq!(world.shard.len(), open);
}

fn read(world: &mut World, channel: &str) -> Vec<String> {
    let from = Listener { node: 1, worker: 0 };
    let token = Token { subscriber: Subscriber { slot: 9, generation: 9 }, number: 5 };
    let (key, ask) = (ChannelKey::new(hubs::HUB, channel), Ask::ReadPresence { token });
    let mut effects = Vec::new();
    world.shard.handle(world.now, Request { from, key: key.clone(), ask }, &mut effects);
    world.shard.end_turn(world.now, &mut effects);
    let Some(Effect::Answer { reply: Reply::Presence(Ok(members)), token: back, .. }) = effects.pop() else {
        panic!("it is answered at once")
    };
    assert_eq!((back, effects.len()), (token, 0));
    members.iter().filter_map(|member| member.identity.as_ref()).map(|identity| identity.user_id.to_string()).collect()
}
