//! The message that a channel keeps for those who come later.

use appsockets_core::session::{event::Event, request::PublishInfo};

use crate::{
    hubs::{HISTORY_MAX, RETAIN_MS, Switches},
    recovery::{connected, missed},
    world::{World, acts::info},
};

fn retain(text: &str) -> PublishInfo {
    PublishInfo { retain: true, ..info("a", text) }
}

fn retained(world: &World, client: usize) -> usize {
    world.count(client, |event| matches!(event, Event::Message { retained: true, .. }))
}

#[test]
fn a_new_subscriber_gets_the_retained_message_until_its_time_is_over() {
    let mut world = connected();
    world.send(0, retain("1"));
    world.send(0, retain("2"));
    world.publish(0, "a", "3");
    world.wait(RETAIN_MS - 1);
    world.subscribe(1, "a");
    world.rest();
    assert_eq!((retained(&world, 1), world.position(1, "a").serial.sequence), (1, 3));
    world.unsubscribe(1, "a");
    world.wait(1);
    world.subscribe(1, "a");
    world.rest();
    assert_eq!(retained(&world, 1), 1);
}

#[test]
fn one_that_lacks_nothing_does_not_get_the_retained_message_again() {
    let mut world = connected();
    let known = missed(&mut world, 0);
    world.send(0, retain("1"));
    world.rest();
    world.recover(1, "a", Some(known));
    world.rest();
    assert_eq!((retained(&world, 1), world.heard(1)), (0, vec!["1".to_owned()]));
}

#[test]
fn one_that_lacks_something_gets_the_retained_message() {
    let mut world = connected();
    let known = missed(&mut world, 0);
    world.send(0, retain("retained"));
    world.rest();
    missed(&mut world, HISTORY_MAX + 1);
    let before = retained(&world, 1);
    world.recover(1, "a", Some(known));
    world.rest();
    assert_eq!((world.position(1, "a").recovered, retained(&world, 1)), (Some(false), before + 1));
}

#[test]
fn rules_that_forbid_retained_messages_drop_them() {
    let mut world = connected();
    world.send(0, retain("1"));
    world.rest();
    world.set_hub(Some(Switches { retain: false, ..Switches::ALL }.hub()));
    world.set_hub(Some(Switches::ALL.hub()));
    world.subscribe(1, "a");
    world.rest();
    assert_eq!(retained(&world, 1), 0);
}
