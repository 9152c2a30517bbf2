//! What a client that was away gets of what it missed.

use appsockets_core::{
    code::ErrorCode,
    serial::Serial,
    session::request::Recover,
    shard::{self, history::HistoryBounds},
};

use crate::{
    hubs::{self, CLOSE_MS, HISTORY_MAX, Switches},
    world::World,
};

pub fn connected() -> World {
    connected_to(hubs::shard_config())
}

pub fn connected_to(config: shard::Config) -> World {
    let mut world = World::with(1, 2, Switches::ALL.hub(), hubs::session_config(), config);
    (0..2).for_each(|client| world.connect(client, 0, None));
    world.rest();
    world
}

/// Publishes 1 to `count`, while client 1 subscribed at 0 and is away since.
pub fn missed(world: &mut World, count: usize) -> Recover {
    world.subscribe(1, "a");
    world.rest();
    let known = Recover::Serial(world.position(1, "a").serial);
    world.unsubscribe(1, "a");
    for number in 1..=count {
        world.publish(0, "a", &number.to_string());
        world.rest();
    }
    known
}

#[test]
fn a_client_recovers_what_is_still_kept() {
    for (count, recovered) in [(0, true), (HISTORY_MAX, true), (HISTORY_MAX + 1, false)] {
        let mut world = connected();
        let known = missed(&mut world, count);
        world.recover(1, "a", Some(known));
        world.rest();
        assert_eq!(world.position(1, "a").recovered, Some(recovered), "{count} missed");
        assert_eq!(world.heard(1).len(), if recovered { count } else { 0 });
    }
}

#[test]
fn what_is_gone_is_told_with_what_is_known() {
    let mut world = connected();
    let known = missed(&mut world, HISTORY_MAX + 3);
    world.recover(1, "a", Some(known));
    world.rest();
    let position = world.position(1, "a");
    assert_eq!(position.serial.sequence, HISTORY_MAX as u64 + 3);
    assert_eq!(position.known.map(Recover::Serial), Some(known));
}

#[test]
fn history_is_bounded_in_bytes_too() {
    let bounds = HistoryBounds { messages_max: 100, bytes_max: 3_000, unseen_max: 0 };
    let mut world = connected_to(shard::Config { history: bounds, ..hubs::shard_config() });
    world.clients[1].lenient = true;
    world.subscribe(1, "a");
    world.rest();
    let start = world.position(1, "a").serial;
    for number in 1..=3 {
        world.publish(0, "a", &format!("{number:01000}"));
        world.rest();
    }
    // Three thousand bytes, and what each message weighs by itself, are too many; two of the messages fit.
    for (sequence, recovered) in [(0, false), (1, true)] {
        world.recover(1, "a", Some(Recover::Serial(Serial { sequence, ..start })));
        world.rest();
        assert_eq!(world.position(1, "a").recovered, Some(recovered));
    }
}

#[test]
fn a_node_without_history_recovers_only_who_lacks_nothing() {
    let bounds = HistoryBounds { messages_max: 0, bytes_max: 0, unseen_max: 0 };
    let mut world = connected_to(shard::Config { history: bounds, ..hubs::shard_config() });
    let known = missed(&mut world, 0);
    world.recover(1, "a", Some(known));
    world.rest();
    assert_eq!(world.position(1, "a").recovered, Some(true));
    world.clients[1].lenient = true;
    let known = missed(&mut world, 1);
    world.recover(1, "a", Some(known));
    world.rest();
    assert_eq!(world.position(1, "a").recovered, Some(false));
}

#[test]
fn a_time_recovers_with_the_messages_of_its_millisecond() {
    let mut world = connected();
    world.subscribe(1, "a");
    world.rest();
    world.publish(0, "a", "before");
    world.wait(1);
    world.publish(0, "a", "1");
    world.publish(0, "a", "2");
    world.rest();
    let ts_ms = world.now.unix_ms;
    world.unsubscribe(1, "a");
    world.wait(1);
    world.publish(0, "a", "3");
    world.rest();
    world.recover(1, "a", Some(Recover::Timestamp(ts_ms)));
    world.rest();
    assert_eq!(world.heard(1), ["before", "1", "2", "1", "2", "3"]);
    assert_eq!(world.position(1, "a").recovered, Some(true));
}

#[test]
fn a_time_before_the_channel_or_its_history_recovers_nothing() {
    let mut world = connected();
    world.recover(1, "a", Some(Recover::Timestamp(world.now.unix_ms - 1)));
    world.rest();
    assert_eq!(world.position(1, "a").recovered, Some(false));
    let opened_ms = world.now.unix_ms;
    world.wait(1);
    missed(&mut world, HISTORY_MAX + 1);
    world.recover(1, "a", Some(Recover::Timestamp(opened_ms)));
    world.rest();
    assert_eq!(world.position(1, "a").recovered, Some(false));
}

#[test]
fn a_serial_that_nobody_gave_recovers_nothing() {
    let mut world = connected();
    world.subscribe(1, "a");
    world.rest();
    let mut ahead = world.position(1, "a").serial;
    ahead.sequence += 1;
    world.recover(1, "a", Some(Recover::Serial(ahead)));
    world.rest();
    let position = world.position(1, "a");
    assert_eq!((position.recovered, position.known, position.serial.sequence), (Some(false), None, 0));
    world.recover(1, "a", Some(Recover::BadSerial));
    world.rest();
    assert_eq!(world.refusals(1), [ErrorCode::BadSerial]);
}

#[test]
fn a_channel_that_closed_begins_another_epoch() {
    let mut world = connected();
    let known = missed(&mut world, 1);
    world.wait(CLOSE_MS);
    world.recover(1, "a", Some(known));
    world.rest();
    assert_eq!((world.position(1, "a").recovered, world.position(1, "a").known), (Some(false), None));
    assert_eq!(world.position(1, "a").serial.sequence, 0);
}

#[test]
fn a_client_that_took_nothing_for_a_while_gets_what_it_missed() {
    let mut world = connected();
    world.subscribe(1, "a");
    world.rest();
    publish_all(&mut world, 1..=2);
    world.fill(1);
    publish_all(&mut world, 3..=4);
    world.drain(1);
    world.rest();
    let position = world.position(1, "a");
    assert_eq!((position.recovered, position.serial.sequence), (Some(true), 2));
    publish_all(&mut world, 5..=5);
    assert_eq!(world.heard(1), ["1", "2", "3", "4", "5"]);
    world.drain(1);
    world.rest();
    assert_eq!(world.position(1, "a"), position);
}

#[test]
fn a_client_that_took_nothing_for_too_long_is_told_what_it_has() {
    let mut world = connected();
    let last = 2 + HISTORY_MAX + 1;
    world.subscribe(1, "a");
    world.rest();
    publish_all(&mut world, 1..=2);
    world.fill(1);
    publish_all(&mut world, 3..=last);
    world.drain(1);
    world.rest();
    let position = world.position(1, "a");
    assert_eq!((position.recovered, position.serial.sequence), (Some(false), last as u64));
    assert_eq!(position.known.map(|known| known.sequence), Some(2));
    publish_all(&mut world, last + 1..=last + 1);
    assert_eq!(world.heard(1).last(), Some(&(last + 1).to_string()));
}

fn publish_all(world: &mut World, numbers: std::ops::RangeInclusive<usize>) {
    for number in numbers {
        world.publish(0, "a", &number.to_string());
        world.rest();
    }
}
