//! Rights that end while a session holds a subscription.

use appsockets_core::code::{CloseCode, ErrorCode};

use crate::{
    hubs::{self, Switches},
    world::World,
};

const REVOKED: Option<ErrorCode> = Some(ErrorCode::SubscriptionRevoked);

fn subscribed() -> World {
    let mut world = World::new(1, 2, Switches::PLAIN.hub());
    for client in 0..2 {
        world.connect(client, 0, None);
        world.subscribe(client, "a");
        world.subscribe(client, "b");
    }
    world.rest();
    world
}

#[test]
fn a_change_of_rules_ends_subscriptions_and_tells_so() {
    let mut world = subscribed();
    world.set_hub(Some(Switches { a_closed: true, ..Switches::PLAIN }.hub()));
    world.rest();
    assert_eq!(world.ended(0), [(vec!["a".into()], REVOKED)]);
    world.publish(1, "a", "refused");
    world.publish(1, "b", "heard");
    world.rest();
    assert_eq!(world.outcomes(1)[0], Err(ErrorCode::ChannelDenied));
    assert_eq!(world.heard(0), ["heard"]);
}

#[test]
fn a_subscription_that_is_under_way_is_revoked_too_and_answered_once() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.connect(0, 0, None);
    world.subscribe(0, "a");
    world.set_hub(Some(Switches { a_closed: true, ..Switches::PLAIN }.hub()));
    world.rest();
    assert_eq!(world.refusals(0), [ErrorCode::SubscriptionRevoked]);
    assert!(world.clients[0].views.is_empty());
    assert!(world.workers[0].fanout.is_empty());
}

#[test]
fn becoming_somebody_with_fewer_rights_ends_subscriptions() {
    let mut world = World::new(1, 1, Switches { user_channel: true, ..Switches::PLAIN }.hub());
    world.connect(0, 0, Some(hubs::user("ann")));
    world.subscribe(0, "b");
    world.rest();
    // Asked for, not automatic: it is revoked because the channel is another user's now.
    world.unsubscribe(0, "u:ann");
    world.subscribe(0, "u:ann");
    world.rest();
    world.authenticate(0, "ben");
    world.rest();
    assert_eq!(world.ended(0), [(vec!["u:ann".into()], REVOKED)]);
    assert_eq!(world.clients[0].views.keys().map(|c| &**c).collect::<Vec<_>>(), ["b", "u:ben"]);
}

#[test]
fn what_only_reads_may_not_publish() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.connect(0, 0, Some(hubs::user("reader")));
    world.subscribe(0, "b");
    world.publish(0, "b", "m");
    world.rest();
    assert_eq!((world.refusals(0), world.outcomes(0)), (vec![], vec![Err(ErrorCode::ChannelDenied)]));
}

#[test]
fn a_hub_that_closes_to_anonymous_sessions_gives_them_time_to_authenticate() {
    let mut world = subscribed();
    world.set_hub(Some(Switches { anonymous: false, ..Switches::PLAIN }.hub()));
    world.rest();
    assert_eq!(world.ended(0), [(vec!["a".into(), "b".into()], REVOKED)]);
    world.authenticate(1, "ann");
    world.wait(5_000);
    assert_eq!((world.closed(0), world.closed(1)), (Some(CloseCode::AuthTimeout), None));
}

#[test]
fn a_one_way_client_cannot_authenticate_so_it_is_ended() {
    let mut world = World::new(1, 1, Switches::PLAIN.hub());
    world.open(0, 0, None, true, Vec::new());
    world.set_hub(Some(Switches { anonymous: false, ..Switches::PLAIN }.hub()));
    world.rest();
    assert_eq!(world.closed(0), Some(CloseCode::AnonymousRefused));
}

#[test]
fn a_hub_that_opens_again_stops_the_clock() {
    let mut world = subscribed();
    world.set_hub(Some(Switches { anonymous: false, ..Switches::PLAIN }.hub()));
    world.rest();
    world.set_hub(Some(Switches::PLAIN.hub()));
    world.wait(20_000);
    assert_eq!(world.closed(0), None);
}

#[test]
fn a_hub_that_is_removed_ends_its_sessions_and_its_channels() {
    let mut world = subscribed();
    world.set_hub(None);
    world.rest();
    assert_eq!(world.closed(0), Some(CloseCode::HubClosed));
    assert!(world.shard.is_empty());
    assert!(world.workers[0].fanout.is_empty());
}
