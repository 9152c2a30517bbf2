//! Requests and their answers.

use std::sync::Arc;

use appsockets_core::{
    code::ErrorCode,
    session::{
        event::Event,
        request::{Request, SubscribeInfo},
    },
    settings::hub::Rules,
};

use crate::{
    hubs::Switches,
    world::{World, acts::info},
};

fn connected() -> World {
    let mut world = World::new(1, 1, Switches { a_closed: true, ..Switches::PLAIN }.hub());
    world.connect(0, 0, None);
    world
}

fn infos(channels: &[&str]) -> Vec<SubscribeInfo> {
    channels.iter().map(|channel| SubscribeInfo { channel: (*channel).into(), recover: None }).collect()
}

fn names(channels: &[&str]) -> Vec<Arc<str>> {
    channels.iter().map(|channel| (*channel).into()).collect()
}

/// The channels and the refusals of each answer to a Subscribe request.
fn answers(world: &World) -> Vec<(i64, Vec<Arc<str>>, Vec<ErrorCode>)> {
    let answers = world.clients[0].log.iter().filter_map(|event| match event {
        Event::Subscribed { req_id, channels, errors } => {
            Some((*req_id, channels.clone(), errors.iter().map(|failure| failure.code).collect()))
        }
        _ => None,
    });
    answers.collect()
}

#[test]
fn a_batch_is_answered_once_with_what_worked_and_what_did_not() {
    let mut world = connected();
    world.request(0, Request::Subscribe { req_id: Some(5), channels: infos(&["b", "a", "c", "b"]) });
    assert!(answers(&world).is_empty());
    world.rest();
    assert_eq!(answers(&world), [(5, names(&["b", "c"]), vec![ErrorCode::ChannelDenied])]);
    // Nothing is to be done, and still there is an answer.
    world.request(0, Request::Subscribe { req_id: Some(6), channels: infos(&["b"]) });
    world.request(0, Request::Subscribe { req_id: Some(7), channels: Vec::new() });
    assert_eq!(answers(&world)[1..], [(6, names(&["b"]), vec![]), (7, vec![], vec![])]);
}

#[test]
fn the_answer_comes_after_the_position_and_before_the_first_message() {
    let mut world = connected();
    world.subscribe(0, "b");
    world.rest();
    world.publish(0, "b", "m");
    world.rest();
    let at = |which: fn(&Event) -> bool| world.clients[0].log.iter().position(which);
    let (position, answer) =
        (at(|event| matches!(event, Event::Position(_))), at(|event| matches!(event, Event::Subscribed { .. })));
    assert!(position.is_some() && position < answer);
    assert_eq!(world.heard(0), ["m"]);
}

/// The node of these tests is alone, so there is nowhere to keep a copy.
#[test]
fn where_copies_are_required_a_lonely_node_acknowledges_nothing() {
    let hub = |required| {
        let mut hub = Switches::PLAIN.hub();
        hub.default_rules = Rules { redundancy_required: required, ..hub.default_rules };
        hub
    };
    let mut world = connected();
    world.subscribe(0, "b");
    world.rest();
    for (required, outcome) in [(true, Err(ErrorCode::TooFewNodes)), (false, Ok(()))] {
        world.set_hub(Some(hub(required)));
        world.publish(0, "b", "m");
        world.rest();
        assert_eq!(world.outcomes(0).last().map(|last| last.map(drop)), Some(outcome));
    }
    assert_eq!(world.heard(0), ["m"]);
}

#[test]
fn one_that_unsubscribes_from_what_is_under_way_gets_both_answers() {
    let mut world = connected();
    world.request(0, Request::Subscribe { req_id: Some(5), channels: infos(&["b", "c"]) });
    world.request(0, Request::Unsubscribe { req_id: Some(6), channels: names(&["b"]) });
    world.rest();
    assert_eq!(answers(&world), [(5, names(&["c"]), vec![ErrorCode::NotSubscribed])]);
    assert!(world.clients[0].log.contains(&Event::Unsubscribed {
        req_id: Some(6),
        channels: names(&["b"]),
        error: None
    }));
    assert_eq!(world.clients[0].views.len(), 1);
}

#[test]
fn an_old_answer_is_not_taken_for_a_new_one() {
    let mut world = connected();
    world.request(0, Request::Subscribe { req_id: Some(5), channels: infos(&["b"]) });
    world.request(0, Request::Unsubscribe { req_id: None, channels: names(&["b"]) });
    world.request(0, Request::Subscribe { req_id: Some(6), channels: infos(&["b"]) });
    world.rest();
    assert_eq!(answers(&world), [(5, vec![], vec![ErrorCode::NotSubscribed]), (6, names(&["b"]), vec![])]);
    assert_eq!(world.count(0, |event| matches!(event, Event::Position(_))), 1);
}

#[test]
fn a_channel_that_is_under_way_is_not_asked_for_again() {
    let mut world = connected();
    world.request(0, Request::Subscribe { req_id: Some(5), channels: infos(&["b"]) });
    world.request(0, Request::Subscribe { req_id: Some(6), channels: infos(&["b"]) });
    world.rest();
    assert_eq!(answers(&world), [(6, vec![], vec![ErrorCode::TryAgain]), (5, names(&["b"]), vec![])]);
}

#[test]
fn unsubscribing_tells_what_ended() {
    let mut world = connected();
    world.subscribe(0, "b");
    world.rest();
    let ended = |req_id, channels: &[&str], error| Event::Unsubscribed {
        req_id: Some(req_id),
        channels: names(channels),
        error,
    };
    world.request(0, Request::Unsubscribe { req_id: Some(5), channels: names(&["b", "c"]) });
    assert_eq!(world.clients[0].log.last(), Some(&ended(5, &["b"], None)));
    world.request(0, Request::Unsubscribe { req_id: Some(6), channels: names(&["b"]) });
    assert_eq!(world.clients[0].log.last(), Some(&ended(6, &[], Some(ErrorCode::NotSubscribed))));
    world.publish(0, "b", "m");
    world.rest();
    assert!(world.heard(0).is_empty());
}

#[test]
fn success_without_a_request_id_is_silent_and_failure_is_told() {
    let mut world = connected();
    world.request(0, Request::Subscribe { req_id: None, channels: infos(&["b", "a"]) });
    world.request(0, Request::Publish(vec![info("b", "m"), info("a", "m")]));
    world.rest();
    world.request(0, Request::Unsubscribe { req_id: None, channels: names(&["b", "c"]) });
    let told = world.clients[0].log.iter().filter_map(|event| match event {
        Event::Error(failure) => Some((failure.code, failure.channel.as_deref().unwrap_or(""), failure.req_id)),
        Event::Ack(_) | Event::Subscribed { .. } | Event::Unsubscribed { .. } => panic!("{event:?} answers nothing"),
        _ => None,
    });
    let denied = (ErrorCode::ChannelDenied, "a", None);
    assert_eq!(told.collect::<Vec<_>>(), [denied, denied, (ErrorCode::NotSubscribed, "c", None)]);
}
