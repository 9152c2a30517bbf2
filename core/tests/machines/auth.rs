//! Becoming somebody in an open session, having to, and ceasing to be.

use std::sync::Arc;

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    session::{
        event::{Authenticated, Event},
        request::Request,
    },
};

use crate::{
    hubs::{self, Switches},
    world::{World, acts::info},
};

const CLOSED_HUB: Switches = Switches { anonymous: false, ..Switches::PLAIN };

fn connected(switches: Switches) -> World {
    let mut world = World::new(1, 2, switches.hub());
    world.connect(0, 0, None);
    world
}

fn answers(world: &World) -> Vec<Result<Authenticated, ErrorCode>> {
    let answers = world.clients[0].log.iter().filter_map(|event| match event {
        Event::Auth { outcome, .. } => Some(outcome.clone()),
        _ => None,
    });
    answers.collect()
}

#[test]
fn who_must_authenticate_and_does_not_is_ended_in_time() {
    let mut world = connected(CLOSED_HUB);
    world.wait(4_999);
    assert_eq!(world.closed(0), None);
    world.wait(1);
    assert_eq!(world.closed(0), Some(CloseCode::AuthTimeout));
}

#[test]
fn who_need_not_authenticate_stays() {
    let mut world = connected(Switches::PLAIN);
    world.wait(20_000);
    assert_eq!(world.closed(0), None);
}

#[test]
fn who_authenticates_in_time_stays() {
    let mut world = connected(CLOSED_HUB);
    world.wait(4_999);
    world.authenticate(0, "ann");
    world.wait(20_000);
    assert_eq!(world.closed(0), None);
    assert_eq!(answers(&world), [Ok(Authenticated { identity: hubs::user("ann"), token: "token".into() })]);
}

#[test]
fn nothing_but_auth_and_restore_is_taken_before() {
    let mut world = connected(CLOSED_HUB);
    world.publish(0, "b", "m");
    world.subscribe(0, "b");
    world.unsubscribe(0, "b");
    world.request(0, Request::Restore { key: "key".into(), positions: Vec::new() });
    world.rest();
    assert_eq!(world.outcomes(0), [Err(ErrorCode::NotAuthenticated)]);
    assert_eq!(world.refusals(0), [ErrorCode::NotAuthenticated]);
    assert_eq!(world.errors(0), [ErrorCode::NotAuthenticated, ErrorCode::RestoreFailed]);
    assert!(world.clients[0].waiting.is_empty());
}

#[test]
fn a_refusal_ends_a_session_that_must_authenticate_and_is_only_told_elsewhere() {
    let mut world = connected(CLOSED_HUB);
    world.authenticate(0, "bad");
    world.rest();
    assert_eq!(answers(&world), [Err(ErrorCode::TokenInvalid)]);
    assert_eq!(world.closed(0), Some(CloseCode::AuthRefused));

    let mut world = connected(Switches::PLAIN);
    world.authenticate(0, "bad");
    world.rest();
    assert_eq!((answers(&world), world.closed(0)), (vec![Err(ErrorCode::TokenInvalid)], None));
}

#[test]
fn a_provider_that_is_away_ends_nobody_before_the_time() {
    let mut world = connected(CLOSED_HUB);
    world.authenticate(0, "away");
    world.wait(4_000);
    assert_eq!((answers(&world), world.closed(0)), (vec![Err(ErrorCode::AuthUnavailable)], None));
    world.authenticate(0, "ann");
    world.wait(10_000);
    assert_eq!(world.closed(0), None);
}

#[test]
fn a_refusal_keeps_who_the_session_was() {
    let mut world = connected(CLOSED_HUB);
    world.authenticate(0, "ann");
    world.rest();
    world.authenticate(0, "bad");
    world.rest();
    let (_, held) = world.sessions().next().unwrap();
    assert_eq!((held.session.identity(), world.closed(0)), (Some(&hubs::user("ann")), None));
}

#[test]
fn one_authentication_at_a_time() {
    let mut world = connected(Switches::PLAIN);
    world.authenticate(0, "ann");
    world.authenticate(0, "ben");
    world.rest();
    assert_eq!(answers(&world)[0], Err(ErrorCode::AuthInProgress));
    assert_eq!(answers(&world)[1].as_ref().map(|a| a.identity.clone()), Ok(hubs::user("ann")));
}

#[test]
fn a_token_ends_with_its_time_and_a_new_one_goes_on() {
    let until = |world: &World, ms| {
        let expires_unix_ms = Some(world.now.unix_ms + ms);
        Arc::new(appsockets_core::identity::Identity { expires_unix_ms, ..(*hubs::user("ann")).clone() })
    };
    let mut world = World::new(1, 1, CLOSED_HUB.hub());
    world.connect(0, 0, Some(until(&world, 1_000)));
    world.wait(999);
    assert_eq!(world.closed(0), None);
    world.wait(1);
    assert_eq!(world.closed(0), Some(CloseCode::TokenExpired));

    let mut world = World::new(1, 1, CLOSED_HUB.hub());
    world.connect(0, 0, Some(until(&world, 1_000)));
    world.authenticate(0, "ann");
    world.wait(20_000);
    assert_eq!(world.closed(0), None);
}

#[test]
fn the_user_channel_comes_and_goes_with_the_user() {
    let mut world = connected(Switches { user_channel: true, ..Switches::PLAIN });
    let channels = |world: &World| world.sessions().next().unwrap().1.session.channels().cloned().collect::<Vec<_>>();
    assert!(channels(&world).is_empty());
    world.authenticate(0, "ann");
    world.rest();
    assert_eq!(channels(&world), ["u:ann".into()]);
    world.publish(0, "u:ann", "to my other devices");
    world.rest();
    assert_eq!(world.heard(0), ["to my other devices"]);
    world.authenticate(0, "ben");
    world.rest();
    assert_eq!(channels(&world), ["u:ben".into()]);
    assert_eq!(world.ended(0), [(vec!["u:ann".into()], Some(ErrorCode::SubscriptionRevoked))]);
    world.set_hub(Some(Switches::PLAIN.hub()));
    world.rest();
    assert!(channels(&world).is_empty());
    world.set_hub(Some(Switches { user_channel: true, ..Switches::PLAIN }.hub()));
    world.rest();
    assert_eq!(channels(&world), ["u:ben".into()]);
}

#[test]
fn a_user_channel_is_its_users_alone() {
    let mut world = World::new(1, 2, Switches { user_channel: true, ..Switches::PLAIN }.hub());
    world.connect(0, 0, Some(hubs::user("ann")));
    world.connect(1, 0, Some(hubs::user("ben")));
    world.subscribe(1, "u:ann");
    world.send(1, info("u:ann", "m"));
    world.rest();
    assert_eq!(world.refusals(1), [ErrorCode::ChannelDenied]);
    assert_eq!(world.outcomes(1), [Err(ErrorCode::ChannelDenied)]);
    assert!(world.heard(0).is_empty());
}
