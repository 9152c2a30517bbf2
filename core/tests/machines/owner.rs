//! How long a channel stays open at its owner.

use appsockets_core::{
    session::{self, request::PublishInfo},
    shard,
};

use crate::{
    hubs::{self, CLOSE_MS, OCCUPANCY_MS, RETAIN_MS, Switches},
    ledger::KEY_MS,
    recovery::{connected, connected_to},
    world::{World, acts::info},
};

fn retain(text: &str) -> PublishInfo {
    PublishInfo { retain: true, ..info("a", text) }
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
        world.shard.tick(world.now, &mut Vec::new());
        Some(())
    });
    assert_eq!(due.count(), 1);
}

#[test]
fn a_tick_closes_only_so_many_and_the_others_stay_due() {
    const CHANNELS: usize = 2_500;
    let session = session::Config { messages_per_second: 2 * CHANNELS as u32, ..hubs::session_config() };
    let shard = shard::Config { channels_max: CHANNELS, ..hubs::shard_config() };
    let mut world = World::with(1, 1, Switches::PLAIN.hub(), session, shard);
    world.connect(0, 0, None);
    world.rest();
    for number in 0..CHANNELS {
        world.publish(0, &format!("c{number}"), "m");
        world.rest();
    }
    assert_eq!(world.shard.len(), CHANNELS);
    world.now.mono_ms += CLOSE_MS;
    let mut left = Vec::new();
    while world.shard.next_tick_ms().is_some_and(|due_ms| due_ms <= world.now.mono_ms) {
        world.shard.tick(world.now, &mut Vec::new());
        world.shard.end_turn(world.now, &mut Vec::new());
        left.push(world.shard.len());
    }
    assert_eq!(left, [1_500, 500, 0]);
}

#[test]
fn a_hub_that_is_removed_leaves_nothing_to_look_at() {
    let mut world = connected();
    world.publish(0, "a", "m");
    world.rest();
    world.set_hub(None);
    assert_eq!(world.shard.next_tick_ms(), None);
}
