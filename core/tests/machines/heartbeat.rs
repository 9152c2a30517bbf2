//! Silence, pings, and how long it may last.

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    session::{Context, Session, event::Event, request::Request},
};

use crate::{
    hubs::{self, Switches},
    world::World,
};

/// A client that is connected and says nothing by itself, not even Pong.
fn silent() -> World {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.connect(0, 0, None);
    world.clients[0].silent = true;
    world
}

fn pings(world: &World) -> usize {
    world.count(0, |event| *event == Event::Ping)
}

#[test]
fn a_silent_client_is_pinged_once_and_then_ended() {
    let mut world = silent();
    world.wait(29_999);
    assert_eq!(pings(&world), 0);
    world.wait(1);
    assert_eq!(pings(&world), 1);
    world.wait(9_999);
    assert_eq!((pings(&world), world.closed(0)), (1, None));
    world.wait(1);
    assert_eq!(world.closed(0), Some(CloseCode::HeartbeatMissed));
}

#[test]
fn every_sign_of_life_is_an_answer() {
    let signs: [fn(&mut World); 4] = [
        |world| world.request(0, Request::Pong),
        |world| world.publish(0, "a", "m"),
        |world| world.step(world.clients[0].at.unwrap(), |session, cx| session.heard(cx.now)),
        |world| {
            let at = world.clients[0].at.unwrap();
            world.step(at, |session, cx| session.unreadable(ErrorCode::BadMessage, None, cx));
        },
    ];
    for sign in signs {
        let mut world = silent();
        world.wait(30_000);
        sign(&mut world);
        world.wait(29_999);
        assert_eq!((pings(&world), world.closed(0)), (1, None));
        world.wait(1);
        assert_eq!(pings(&world), 2);
    }
}

#[test]
fn a_client_that_speaks_is_never_pinged() {
    let mut world = silent();
    for _ in 0..10 {
        world.wait(29_000);
        world.request(0, Request::Pong);
    }
    assert_eq!(pings(&world), 0);
}

#[test]
fn a_one_way_client_is_pinged_and_never_ended_by_its_silence() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.open(0, 0, None, true, Vec::new());
    world.clients[0].silent = true;
    world.wait(30_000 * 10);
    assert_eq!((pings(&world), world.closed(0)), (10, None));
    assert_eq!(world.clients[0].restore_key, None);
}

#[test]
fn what_cannot_be_read_again_and_again_ends_the_session() {
    let mut world = silent();
    let at = world.clients[0].at.unwrap();
    let unreadable = |session: &mut Session, cx: &mut Context<'_>| session.unreadable(ErrorCode::BadMessage, None, cx);
    world.step(at, unreadable);
    world.step(at, unreadable);
    world.request(0, Request::Pong);
    world.step(at, unreadable);
    world.step(at, unreadable);
    assert_eq!((world.errors(0), world.closed(0)), (vec![ErrorCode::BadMessage; 4], None));
    world.step(at, unreadable);
    assert_eq!(world.closed(0), Some(CloseCode::ProtocolViolation));
}

#[test]
fn a_session_whose_token_never_ends_in_practice_is_still_due() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    let mut forever = (*hubs::user("ann")).clone();
    forever.expires_unix_ms = Some(u64::MAX);
    world.now.mono_ms = world.now.unix_ms + 1;
    world.connect(0, 0, Some(forever.into()));
    let (_, held) = world.sessions().next().unwrap();
    assert_eq!(held.session.due_ms(world.now, &world.config), world.now.mono_ms + 30_000);
}
