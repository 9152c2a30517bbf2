//! A publish that is repeated under its idempotency key.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    fanout::Subscriber,
    message::{Form, Payload},
    session::{self, request::PublishInfo},
    shard::request::{Ask, Effect, Listener, Publish, Request as Asked, Token},
};

use crate::{
    hubs::{self, HUB, Switches},
    ledger::{KEY_MS, KEYS_MAX},
    world::{World, acts::info},
};

/// Client 0 publishes, client 1 hears.
fn connected() -> World {
    let mut world = World::new(1, 2, Switches::ALL.hub());
    (0..2).for_each(|client| world.connect(client, 0, None));
    world.subscribe(1, "a");
    world.rest();
    world
}

fn keyed(text: &str) -> PublishInfo {
    PublishInfo { key: Some("a-key-of-16-bytes".into()), ..info("a", text) }
}

fn stored(text: &str) -> PublishInfo {
    PublishInfo { store: true, ..keyed(text) }
}

#[test]
fn a_repeat_gets_the_first_answer_and_is_not_delivered() {
    let mut world = connected();
    world.send(0, keyed("m"));
    world.rest();
    world.publish(0, "a", "another");
    world.wait(KEY_MS - 1);
    world.send(0, keyed("m"));
    world.rest();
    assert_eq!(world.heard(1), ["m", "another"]);
    assert_eq!(world.outcomes(0)[0], world.outcomes(0)[2]);
}

#[test]
fn a_key_is_free_again_after_its_time() {
    let mut world = connected();
    world.send(0, keyed("m"));
    world.wait(KEY_MS);
    world.send(0, keyed("m"));
    world.rest();
    assert_eq!(world.heard(1), ["m", "m"]);
}

#[test]
fn another_message_under_the_key_is_a_conflict() {
    let others = [
        keyed("other"),
        PublishInfo { event: "f".into(), ..keyed("m") },
        PublishInfo { store: true, ..keyed("m") },
        PublishInfo { retain: true, ..keyed("m") },
    ];
    for other in others {
        let mut world = connected();
        world.send(0, keyed("m"));
        world.send(0, other);
        world.rest();
        assert_eq!((world.outcomes(0)[1], world.heard(1).len()), (Err(ErrorCode::KeyConflict), 1));
    }
}

#[test]
fn one_text_in_two_forms_is_two_messages_unless_a_form_is_still_to_be_found_out() {
    use Form::{Binary, Detect, Json, Text};
    for (first, second, same) in
        [(Text, Json, false), (Text, Binary, false), (Json, Json, true), (Detect, Json, true), (Text, Detect, true)]
    {
        let with = |form| PublishInfo { payload: Payload { bytes: "1".into(), form }, ..keyed("") };
        let mut world = connected();
        world.send(0, with(first));
        world.rest();
        world.send(0, with(second));
        world.rest();
        assert_eq!(world.outcomes(0)[1].is_ok(), same, "{first:?} and {second:?}");
        assert_eq!(world.heard(1).len(), 1);
    }
}

#[test]
fn a_key_belongs_to_its_channel() {
    let mut world = connected();
    world.send(0, keyed("m"));
    world.send(0, PublishInfo { channel: "b".into(), ..keyed("other") });
    world.rest();
    assert!(world.outcomes(0).iter().all(Result::is_ok));
}

#[test]
fn a_repeat_of_a_pending_publish_waits_with_it() {
    for ok in [true, false] {
        let mut world = connected();
        world.send(0, stored("m"));
        world.rest();
        world.send(1, stored("m"));
        world.send(1, stored("other"));
        world.rest();
        assert_eq!((world.outcomes(0).len(), world.outcomes(1)), (0, vec![Err(ErrorCode::KeyConflict)]));
        world.answer_store(ok);
        world.rest();
        assert_eq!(world.outcomes(0)[0], world.outcomes(1)[1]);
        assert_eq!((world.outcomes(0)[0].is_ok(), world.heard(1).len()), (ok, usize::from(ok)));
    }
}

#[test]
fn a_refused_publish_frees_its_key() {
    let mut world = connected();
    world.send(0, stored("m"));
    world.rest();
    world.answer_store(false);
    world.rest();
    world.send(0, keyed("other"));
    world.rest();
    assert_eq!(world.heard(1), ["other"]);
}

#[test]
fn a_repeat_waits_for_a_store_that_takes_longer_than_a_key_is_remembered() {
    let mut world = connected();
    world.send(0, stored("m"));
    world.rest();
    world.send(1, stored("m"));
    world.wait(KEY_MS);
    world.send(1, stored("m"));
    world.rest();
    world.answer_store(true);
    world.rest();
    assert_eq!(world.heard(1), ["m"]);
    assert_eq!(world.outcomes(1), [world.outcomes(0)[0]; 2]);
    world.wait(KEY_MS - 1);
    world.send(1, stored("m"));
    world.rest();
    assert_eq!(world.heard(1), ["m"]);
}

#[test]
fn a_publish_without_a_request_id_is_answered_only_where_it_is_refused() {
    let publish = |ack, store| {
        let PublishInfo { event, payload, key, .. } = keyed("m");
        let token = Token { subscriber: Subscriber { slot: 1, generation: 1 }, number: 5 };
        Publish { token, ack, event, payload, store, push: false, retain: false, key }
    };
    for (publishes, stored, answers) in [
        (vec![publish(false, false)], true, 0),
        (vec![publish(false, false), publish(false, false)], true, 0),
        (vec![publish(false, false), publish(true, false)], true, 1),
        (vec![publish(false, false), publish(false, true)], true, 1),
        (vec![publish(false, true), publish(false, true)], true, 0),
        (vec![publish(false, true), publish(true, true)], true, 1),
        (vec![publish(false, true), publish(false, true)], false, 2),
    ] {
        let mut world = connected();
        let mut effects = Vec::new();
        for publish in publishes {
            let (from, key, ask) = (Listener { node: 1, worker: 0 }, ChannelKey::new(HUB, "a"), Ask::Publish(publish));
            world.shard.handle(world.now, Asked { from, key, ask }, &mut effects);
        }
        world.shard.end_turn(world.now, &mut effects);
        if let Some(Effect::Store { key, ticket, .. }) = effects.last().cloned() {
            world.shard.stored(world.now, &key, ticket, stored, &mut effects);
        }
        assert_eq!(effects.iter().filter(|effect| matches!(effect, Effect::Answer { .. })).count(), answers);
    }
}

#[test]
fn so_many_repeats_wait_for_a_pending_publish() {
    let config = session::Config { messages_per_second: 1_000, ..hubs::session_config() };
    let mut world = World::with(1, 1, Switches::ALL.hub(), config, hubs::shard_config());
    world.connect(0, 0, None);
    (0..66).for_each(|_| world.send(0, stored("m")));
    world.rest();
    assert_eq!(world.outcomes(0), [Err(ErrorCode::TryAgain)]);
    world.answer_store(true);
    world.rest();
    assert_eq!(world.outcomes(0)[1..].iter().filter(|outcome| outcome.is_ok()).count(), 65);
}

#[test]
fn a_channel_remembers_so_many_keys() {
    let config = session::Config { messages_per_second: 1_000_000, ..hubs::session_config() };
    let mut world = World::with(1, 1, Switches::ALL.hub(), config, hubs::shard_config());
    world.connect(0, 0, None);
    let keyed = |number: usize| PublishInfo { key: Some(format!("{number:016}").into()), ..info("a", "m") };
    let (first, last) = (0, KEYS_MAX);
    (first..=last).for_each(|number| world.send(0, keyed(number)));
    world.rest();
    // The ledger does not know of the bound.
    world.ledger.remove_hub();
    world.send(0, keyed(last));
    world.send(0, keyed(first));
    world.rest();
    let told = world.outcomes(0);
    assert_eq!(told[KEYS_MAX + 1], told[last]);
    assert_ne!(told[KEYS_MAX + 2], told[first]);
}
