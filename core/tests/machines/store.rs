//! Messages that must be durable before they are delivered.

use appsockets_core::{code::ErrorCode, session::request::PublishInfo};

use crate::{
    hubs::{self, CLOSE_MS, Switches},
    world::{World, acts::info},
};

/// Client 0 publishes, client 1 hears.
fn connected() -> World {
    let mut world = World::new(1, 3, Switches::ALL.hub());
    (0..3).for_each(|client| world.connect(client, 0, None));
    world.subscribe(1, "a");
    world.rest();
    world
}

fn stored(text: &str) -> PublishInfo {
    PublishInfo { store: true, ..info("a", text) }
}

/// One that must be stored between two that need not be.
fn mixed(world: &mut World) {
    world.publish(0, "a", "1");
    world.send(0, stored("2"));
    world.publish(0, "a", "3");
    world.rest();
}

#[test]
fn what_comes_after_a_stored_message_waits_for_it() {
    let mut world = connected();
    mixed(&mut world);
    assert_eq!((world.heard(1), world.outcomes(0).len()), (vec!["1".to_owned()], 1));
    world.answer_store(true);
    world.rest();
    assert_eq!(world.heard(1), ["1", "2", "3"]);
    assert!(world.outcomes(0).iter().all(Result::is_ok));
}

#[test]
fn a_store_that_fails_takes_nothing_else_with_it() {
    let mut world = connected();
    mixed(&mut world);
    world.answer_store(false);
    world.rest();
    assert_eq!(world.heard(1), ["1", "3"]);
    assert_eq!(world.outcomes(0)[1], Err(ErrorCode::StoreFailed));
    assert_eq!(world.outcomes(0)[2].map(|serial| serial.sequence), Ok(2));
}

#[test]
fn what_comes_meanwhile_is_the_next_batch() {
    let mut world = connected();
    world.send(0, stored("1"));
    world.rest();
    (2..=4).for_each(|number| world.send(0, stored(&number.to_string())));
    world.rest();
    assert_eq!(world.stores.len(), 1);
    world.answer_store(true);
    world.rest();
    assert_eq!((world.stores.len(), world.stores[0].2.len()), (1, 3));
    world.answer_store(true);
    world.rest();
    assert_eq!(world.heard(1), ["1", "2", "3", "4"]);
}

#[test]
fn a_store_that_never_answers_is_waited_for_by_so_many() {
    let mut world = connected();
    world.send(0, stored("with the store"));
    world.rest();
    let waiting_max = hubs::shard_config().waiting_max;
    (0..waiting_max + 1).for_each(|_| world.publish(0, "a", "m"));
    world.publish(0, "b", "another channel");
    world.rest();
    assert_eq!(world.outcomes(0)[0], Err(ErrorCode::TryAgain));
    assert_eq!((world.outcomes(0).len(), world.outcomes(0)[1].is_ok()), (2, true));
}

#[test]
fn a_subscriber_that_comes_meanwhile_hears_the_message() {
    let mut world = connected();
    world.send(0, stored("m"));
    world.rest();
    world.subscribe(2, "a");
    world.rest();
    world.answer_store(true);
    world.rest();
    assert_eq!(world.heard(2), ["m"]);
}

#[test]
fn a_channel_stays_while_the_store_has_something_of_it() {
    let mut world = connected();
    world.unsubscribe(1, "a");
    world.send(0, stored("m"));
    world.wait(10 * CLOSE_MS);
    assert_eq!(world.shard.len(), 1);
    world.answer_store(true);
    world.wait(CLOSE_MS);
    assert!(world.shard.is_empty() && world.outcomes(0)[0].is_ok());
}

#[test]
fn an_answer_that_nobody_waits_for_changes_nothing() {
    let mut world = connected();
    world.send(0, stored("m"));
    world.rest();
    let (key, ticket, messages) = world.stores[0].clone();
    world.stores.push_front((key.clone(), ticket + 1, messages.clone()));
    world.answer_store(true);
    world.rest();
    assert!(world.heard(1).is_empty());
    world.answer_store(true);
    world.stores.push_front((key, ticket, messages));
    world.answer_store(true);
    world.rest();
    assert_eq!(world.heard(1), ["m"]);
}
