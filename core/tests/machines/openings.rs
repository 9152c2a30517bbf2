//! With what a session begins.

use appsockets_core::{
    code::ErrorCode,
    session::{
        event::Event,
        request::{Recover, SubscribeInfo},
    },
};

use crate::{
    hubs::{self, Switches},
    world::World,
};

fn channel(channel: &str, recover: Option<Recover>) -> SubscribeInfo {
    SubscribeInfo { channel: channel.into(), recover }
}

#[test]
fn the_first_event_tells_of_the_session_and_its_hub() {
    let mut world = World::new(1, 1, Switches::ALL.hub());
    world.connect(0, 0, Some(hubs::user("ann")));
    let Some(Event::SessionInfo(info)) = world.clients[0].log.first() else { panic!("another event came first") };
    assert_eq!((&*info.hub, info.authenticated, info.user_channel), (hubs::HUB, true, true));
    assert_eq!((info.allow_anonymous, info.default_public, info.ping_interval_ms), (true, true, 30_000));
    assert!(matches!(world.clients[0].log[1], Event::RestoreKey(_)));
}

#[test]
fn channels_given_while_connecting_are_subscribed_to() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.open(0, 0, None, true, vec![channel("a", None), channel("b", None), channel("", None), channel("a", None)]);
    world.rest();
    assert_eq!(world.clients[0].views.keys().map(|channel| &**channel).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(world.errors(0), [ErrorCode::BadChannel]);
}

#[test]
fn a_one_way_client_resumes_its_user_channel_too() {
    let mut world = World::new(1, 2, Switches::ALL.hub());
    world.connect(1, 0, Some(hubs::user("ann")));
    world.rest();
    let known = Recover::Serial(world.position(1, "u:ann").serial);
    world.publish(1, "u:ann", "missed");
    world.rest();
    world.open(0, 0, Some(hubs::user("ann")), true, vec![channel("u:ann", Some(known))]);
    world.rest();
    assert_eq!((world.errors(0), world.heard(0)), (vec![], vec!["missed".to_owned()]));
    assert_eq!(world.position(0, "u:ann").recovered, Some(true));
}

#[test]
fn who_is_to_reconnect_is_told_when() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.connect(0, 0, None);
    world.step(world.clients[0].at.unwrap(), |session, cx| session.drain(1_500, cx));
    assert_eq!(world.clients[0].log.last(), Some(&Event::Reconnect { delay_ms: 1_500 }));
}
