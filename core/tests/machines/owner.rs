//! What a channel's owner keeps, and for how long.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    fanout::Subscriber,
    serial::Serial,
    session::{
        event::{Event, Member},
        request::{PublishInfo, Recover},
    },
    shard::{
        self,
        history::HistoryBounds,
        request::{Ask, Effect, Listener, Publish, Reply, Request, Subscribe, Token},
    },
};

use crate::{
    hubs::{self, CLOSE_MS, HISTORY_MAX, HUB, OCCUPANCY_MS, RETAIN_MS, Switches, VIEW},
    ledger::KEY_MS,
    world::{World, acts::info},
};

fn connected() -> World {
    connected_to(hubs::shard_config())
}

fn connected_to(config: shard::Config) -> World {
    let mut world = World::with(1, 2, Switches::ALL.hub(), hubs::session_config(), config);
    (0..2).for_each(|client| world.connect(client, 0, None));
    world.rest();
    world
}

/// Publishes 1 to `count`, while client 1 subscribed at 0 and is away since.
fn missed(world: &mut World, count: usize) -> Recover {
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

fn retain(text: &str) -> PublishInfo {
    PublishInfo { retain: true, ..info("a", text) }
}

fn retained(world: &World, client: usize) -> usize {
    world.count(client, |event| matches!(event, Event::Message { retained: true, .. }))
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
    let bounds = HistoryBounds { messages_max: 100, bytes_max: 3_000 };
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
    let bounds = HistoryBounds { messages_max: 0, bytes_max: 0 };
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

#[test]
fn an_idle_channel_closes_in_its_time() {
    let mut world = connected();
    world.subscribe(0, "a");
    world.wait(10 * CLOSE_MS);
    assert_eq!(world.shard.len(), 1);
    world.unsubscribe(0, "a");
    world.wait(CLOSE_MS - 1);
    assert_eq!(world.shard.len(), 1);
    world.wait(1);
    assert!(world.shard.is_empty());
}

#[test]
fn a_channel_with_a_retained_message_or_a_key_stays_until_they_are_gone() {
    let keyed = PublishInfo { key: Some("a-key-of-16-bytes".into()), ..info("a", "m") };
    for (publish, ms) in [(retain("m"), RETAIN_MS), (keyed, KEY_MS)] {
        let mut world = connected();
        world.send(0, publish);
        world.rest();
        world.wait(ms - 1);
        assert_eq!(world.shard.len(), 1);
        world.wait(1);
        assert!(world.shard.is_empty());
    }
}

#[test]
fn a_channel_that_is_used_again_and_again_wants_to_be_looked_at_once() {
    let mut world = connected_to(shard::Config { close_ms: 1_000_000, ..hubs::shard_config() });
    for _ in 0..10 {
        world.subscribe(1, "a");
        world.wait(1);
        world.subscribe(0, "a");
        world.wait(OCCUPANCY_MS);
        world.unsubscribe(0, "a");
        world.unsubscribe(1, "a");
        world.wait(1);
    }
    let due = (0..).map_while(|_| {
        let due_ms = world.shard.next_tick_ms()?;
        world.now.mono_ms = world.now.mono_ms.max(due_ms);
        world.shard.tick(world.now);
        Some(())
    });
    assert_eq!(due.count(), 1);
}

#[test]
fn a_hub_that_is_removed_leaves_nothing_to_look_at() {
    let mut world = connected();
    world.publish(0, "a", "m");
    world.rest();
    world.set_hub(None);
    assert_eq!(world.shard.next_tick_ms(), None);
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

#[test]
fn requests_by_another_view_are_refused() {
    let mut world = connected();
    let member = Member { session_id: "s".into(), identity: None, since_ms: 0 };
    let token = Token { subscriber: Subscriber { slot: 9, generation: 9 }, number: 5 };
    let PublishInfo { event, payload, .. } = info("a", "m");
    let publish = Publish { token, ack: false, event, payload, store: false, push: false, retain: false, key: None };
    let subscribe = Subscribe { token, member: member.clone(), attachment: 1, recover: None };
    let asks = [
        (Ask::Publish(publish), Some(Reply::Published(Err(ErrorCode::TryAgain)))),
        (Ask::Subscribe(subscribe), Some(Reply::Subscribed(Err(ErrorCode::TryAgain)))),
        (Ask::Enter { member, attachment: 1 }, None),
        (Ask::Unsubscribe { session_id: "s".into(), attachment: 1 }, None),
        (Ask::ReadPresence { token }, Some(Reply::Presence(Err(ErrorCode::TryAgain)))),
    ];
    for (ask, reply) in asks {
        let from = Listener { node: 1, worker: 0 };
        let key = ChannelKey::new(HUB, "a");
        let mut effects = Vec::new();
        world.shard.handle(world.now, Request { view: VIEW - 1, from, key: key.clone(), ask }, &mut effects);
        world.shard.end_turn(world.now, &mut effects);
        let answer = |reply| Effect::Answer { to: from, key: key.clone(), token, reply };
        assert_eq!(effects, reply.map(answer).into_iter().collect::<Vec<_>>());
    }
    assert!(world.shard.is_empty());
}
