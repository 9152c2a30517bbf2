//! Bounds, and what is said at each.

use appsockets_core::{
    channel::Kind,
    code::ErrorCode,
    session::request::{HistoryBound, HistoryQuery, PublishInfo, Request, SubscribeInfo},
    settings::{hub::Hub, resource::LimitsSpec},
};

use crate::{
    hubs::{self, Switches},
    world::{World, acts::info},
};

fn connected(hub: Hub, clients: usize) -> World {
    let mut world = World::new(1, clients, hub);
    (0..clients).for_each(|client| world.connect(client, 0, None));
    world
}

fn limited(limits: LimitsSpec) -> Hub {
    Hub { limits, ..Switches::PLAIN.hub() }
}

#[test]
fn a_session_subscribes_to_so_many_channels_and_no_more() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    for channel in ["1", "2", "3", "4", "5"] {
        world.subscribe(0, channel);
        world.rest();
    }
    assert_eq!(world.refusals(0), [ErrorCode::TooManyChannels]);
    world.unsubscribe(0, "1");
    world.subscribe(0, "5");
    // A channel that it has already is no new one.
    world.subscribe(0, "2");
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::TooManyChannels]);
}

#[test]
fn the_hub_sets_its_own_bound_of_channels() {
    let mut world = connected(limited(LimitsSpec { channels_per_session: Some(1), ..LimitsSpec::default() }), 1);
    let channels = ["1", "2"].map(|channel| SubscribeInfo { channel: channel.into(), recover: None }).to_vec();
    world.request(0, Request::Subscribe { req_id: Some(77), channels });
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::TooManyChannels]);
    assert_eq!(world.clients[0].views.len(), 1);
}

#[test]
fn names_are_checked() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    let long = "x".repeat(256);
    for channel in ["", "a\nb", &long] {
        world.subscribe(0, channel);
        world.publish(0, channel, "m");
    }
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::BadChannel; 3]);
    assert_eq!(world.outcomes(0), [Err(ErrorCode::BadChannel); 3]);
    world.publish(0, &long[..255], "m");
    world.rest();
    assert!(world.outcomes(0)[3].is_ok());
}

#[test]
fn kinds_that_do_not_exist_yet_are_refused() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    for channel in ["doc:1", "notification:1"] {
        assert_ne!(Kind::of(channel), Kind::Default);
        world.subscribe(0, channel);
        world.publish(0, channel, "m");
    }
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::Unsupported; 2]);
    assert_eq!(world.outcomes(0), [Err(ErrorCode::Unsupported); 2]);
}

#[test]
fn what_a_publish_says_is_checked() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    let key = |key: &str| PublishInfo { key: Some(key.into()), ..info("a", "m") };
    world.send(0, PublishInfo { event: "e".repeat(256).into(), ..info("a", "m") });
    world.send(0, key("fifteen-bytes-k"));
    world.send(0, key(&"k".repeat(65)));
    world.send(0, PublishInfo { store: true, ..info("a", "m") });
    world.send(0, PublishInfo { retain: true, ..info("a", "m") });
    world.send(0, PublishInfo { push: true, ..info("a", "m") });
    world.rest();
    use ErrorCode::*;
    let codes = [BadEventName, BadKey, BadKey, StoreNotAllowed, RetainNotAllowed, PushNotAllowed];
    assert_eq!(world.outcomes(0), codes.map(Err));
    world.send(0, key("sixteen-bytes-ke"));
    world.send(0, key(&"k".repeat(64)));
    world.rest();
    assert!(world.outcomes(0)[6..].iter().all(Result::is_ok));
}

#[test]
fn a_history_query_is_checked_and_passed_on() {
    let mut world = connected(Switches { a_closed: true, ..Switches::PLAIN }.hub(), 1);
    let query = |req_id, channel: &str, bound| {
        Request::History(HistoryQuery { req_id, channel: channel.into(), bound, limit: None })
    };
    let cases = [
        (query(0, "b", HistoryBound::Newest), Some(ErrorCode::BadRequestId)),
        (query(1, "", HistoryBound::Newest), Some(ErrorCode::BadChannel)),
        (query(2, "b", HistoryBound::Bad), Some(ErrorCode::BadSerial)),
        (query(3, "a", HistoryBound::Newest), Some(ErrorCode::ChannelDenied)),
        (query(4, "b", HistoryBound::Newest), None),
    ];
    for (request, refusal) in cases {
        world.request(0, request);
        let told = match world.clients[0].log.last() {
            Some(appsockets_core::session::event::Event::History { page, .. }) => page.as_ref().err().copied(),
            other => panic!("{other:?} is no answer"),
        };
        assert_eq!(told, refusal);
    }
}

#[test]
fn a_session_sends_so_many_messages_and_heartbeats_do_not_count() {
    let mut world = connected(Switches::PLAIN.hub(), 2);
    for _ in 0..40 {
        world.request(0, Request::Pong);
        world.publish(0, "a", "m");
    }
    world.rest();
    world.publish(0, "a", "one too many");
    world.subscribe(0, "a");
    world.publish(1, "a", "another session");
    world.rest();
    assert!(world.outcomes(0)[..40].iter().all(Result::is_ok));
    assert_eq!(world.outcomes(0)[40], Err(ErrorCode::RateLimited));
    assert_eq!(world.refusals(0), [ErrorCode::RateLimited]);
    assert!(world.outcomes(1)[0].is_ok());
    world.wait(1_000);
    world.publish(0, "a", "later");
    world.rest();
    assert!(world.outcomes(0)[41].is_ok());
}

#[test]
fn a_batch_counts_what_it_holds() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    let batch = |of: usize| Request::Publish(vec![PublishInfo { req_id: Some(9), ..info("a", "m") }; of]);
    let at = world.clients[0].at.unwrap();
    world.step(at, |session, cx| session.request(batch(39), cx));
    world.step(at, |session, cx| session.request(batch(20), cx));
    world.step(at, |session, cx| session.request(batch(1), cx));
    world.settle();
    let refused = world.outcomes(0).iter().filter(|outcome| **outcome == Err(ErrorCode::RateLimited)).count();
    assert_eq!((world.outcomes(0).len(), refused), (60, 1));
}

#[test]
fn the_sessions_of_a_hub_share_its_rate() {
    let mut world = connected(limited(LimitsSpec { messages_per_second: Some(5), ..LimitsSpec::default() }), 2);
    for _ in 0..3 {
        world.publish(0, "a", "m");
        world.publish(1, "a", "m");
        world.rest();
    }
    assert!(world.outcomes(0).iter().all(Result::is_ok));
    assert_eq!(world.outcomes(1)[2], Err(ErrorCode::HubRateLimited));
}

#[test]
fn a_hub_sets_its_own_rate_of_a_session() {
    let mut world = connected(limited(LimitsSpec { session_messages_per_second: Some(1), ..LimitsSpec::default() }), 1);
    world.publish(0, "a", "m");
    world.rest();
    world.publish(0, "a", "m");
    world.rest();
    assert_eq!(world.outcomes(0)[1], Err(ErrorCode::RateLimited));
}

#[test]
fn so_many_subscribe_requests_wait_at_a_time() {
    let mut world = connected(Switches::PLAIN.hub(), 1);
    world.subscribe(0, "1");
    world.subscribe(0, "2");
    world.subscribe(0, "3");
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::TooManyRequests]);
    world.subscribe(0, "3");
    world.rest();
    assert_eq!(world.clients[0].views.len(), 3);
}

#[test]
fn a_shard_opens_so_many_channels() {
    let config = appsockets_core::shard::Config { channels_max: 1, ..hubs::shard_config() };
    let mut world = World::with(1, 1, Switches::PLAIN.hub(), hubs::session_config(), config);
    world.connect(0, 0, None);
    world.publish(0, "a", "m");
    world.publish(0, "b", "m");
    world.subscribe(0, "b");
    world.publish(0, "a", "m");
    world.rest();
    assert_eq!(world.outcomes(0)[1], Err(ErrorCode::TryAgain));
    assert_eq!(world.refusals(0), [ErrorCode::TryAgain]);
    assert!(world.outcomes(0)[0].is_ok() && world.outcomes(0)[2].is_ok());
    world.wait(hubs::CLOSE_MS);
    world.publish(0, "b", "m");
    world.rest();
    assert!(world.outcomes(0)[3].is_ok());
}
