//! How a session of two nodes goes on from the last one (decision 21).

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    session::{
        event::Member,
        record::{self, Record},
    },
    shard::{
        peer::{Body, Say, ToCopy, ToOwner, ToRelay},
        request::{Ask, Effect, Reply, Subscribe},
    },
};

use crate::{
    anew::{PRESENCE, present},
    hubs::{HUB, RESTORE_MS, Switches},
    nodes::{Nodes, channel, delivered, hearing, hub, id, token, view},
};

/// What came to a worker, in its order: numbers of messages, and of subscriptions that were answered.
pub fn order(effects: &[Effect]) -> Vec<String> {
    let came = |effect: &Effect| match effect {
        Effect::Deliver { delivery, .. } => Some(format!("message {}", delivery.last().sequence)),
        Effect::Answer { token, reply: Reply::Subscribed(Ok(start)), .. } => {
            Some(format!("subscription {} at {}", token.number, start.current.sequence))
        }
        _ => None,
    };
    effects.iter().filter_map(came).collect()
}

#[test]
fn a_new_subscriber_does_not_hide_what_its_node_has_lost() {
    let (mut nodes, key) = hearing();
    nodes.publish(2, &key, 1);
    nodes.unlink(1, 2);
    nodes.told_at(1);
    nodes.link(1, 2);
    // It asks when it has met the owner, and before it is asked where it stands.
    nodes.arrive(2, 1, 1);
    nodes.subscribe(1, &key, 2);
    nodes.settle();
    assert_eq!(order(&nodes.told_at(1)), ["message 1", "subscription 2 at 1"]);
    nodes.publish(2, &key, 2);
    nodes.settle();
    assert_eq!(order(&nodes.told_at(1)), ["message 2"]);
}

#[test]
fn who_says_that_it_listens_while_it_hears_stays_where_it_was() {
    let (mut nodes, key) = hearing();
    // What it asks is lost, so it says anew all that it has of the channel.
    nodes.ask(1, &key, Ask::ReadPresence { token: token(2) });
    nodes.unlink(1, 2);
    nodes.link(1, 2);
    nodes.arrive(1, 2, 1);
    nodes.publish(2, &key, 1);
    nodes.said(1, 2);
    // It has not heard the message when it says so, and that one is still under way to it.
    nodes.arrive(2, 1, 1);
    let listens = |say: &Say| matches!(say, Say::Owner(ToOwner::Listen { position: Some(at), .. }) if at.sequence == 0);
    assert!(nodes.said(1, 2).iter().any(listens));
    nodes.settle();
    let resumes = |say: &Say| matches!(say, Say::Relay(ToRelay::Resume(_)));
    assert!(!nodes.said(2, 1).iter().any(resumes));
    assert_eq!(delivered(&nodes.told_at(1)), [1]);
}

fn kept() -> Record {
    Record { id: "s".into(), hub: HUB.into(), identity: None, subscriptions: Vec::new(), number: 1 }
}

/// Three nodes, of which the first owns the place of a session and the second has a copy of it.
fn keeping() -> (Nodes, ChannelKey) {
    let all = view(1, &[1, 2, 3]);
    let places = (0..1_000).map(|number: u32| record::place(&HUB.into(), &number.to_string()));
    let place = places.into_iter().find(|place| all.holders(place.point(), 2) == [id(1), id(2)]).expect("a place");
    let mut nodes = Nodes::new(3, 0);
    nodes.install(&all, &[], &[1, 2, 3]);
    [(1, 2), (1, 3), (2, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.ask(3, &place, Ask::Keep { record: Some(Arc::new(kept())) });
    (nodes, place)
}

/// What a node that takes a session is answered.
fn taken(nodes: &mut Nodes, node: u64) -> Result<Arc<Record>, ErrorCode> {
    let taken = nodes.told_at(node).into_iter().find_map(|effect| match effect {
        Effect::Answer { reply: Reply::Taken(outcome), .. } => Some(outcome),
        _ => None,
    });
    taken.expect("it is answered")
}

/// Whether the session is still there for who comes to the second node when the time to restore it is over.
fn is_there(nodes: &mut Nodes, place: &ChannelKey) -> bool {
    nodes.wait(RESTORE_MS + 1);
    nodes.ask(2, place, Ask::Take { token: token(1) });
    nodes.settle();
    match taken(nodes, 2) {
        Ok(_) => true,
        Err(code) => {
            assert_eq!(code, ErrorCode::RestoreFailed);
            false
        }
    }
}

#[test]
fn a_session_that_is_kept_at_the_word_of_a_node_lost_meanwhile_does_not_stay() {
    let (mut nodes, place) = keeping();
    nodes.settle();
    assert!(is_there(&mut nodes, &place));
    let (mut nodes, place) = keeping();
    // The owner has the word, and loses the node before the copy has it and it counts.
    nodes.arrive(3, 1, 1);
    nodes.lose(3);
    nodes.settle();
    assert!(!is_there(&mut nodes, &place));
}

#[test]
fn a_node_lost_while_its_word_waited_for_the_channel_hears_nothing() {
    let (before, after) = (view(1, &[2, 3]), view(2, &[1, 2, 3]));
    let owners = |key: &ChannelKey| [&before, &after].map(|view| view.owner(key.point()));
    let key = channel(|key| owners(key) == [Some(id(2)), Some(id(1))]);
    let mut nodes = Nodes::new(3, 0);
    nodes.install(&before, &[], &[2, 3]);
    nodes.link(2, 3);
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    assert_eq!(nodes.shard(2).inspect(&key).expect("it is open").occupancy, 1);
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3]);
    nodes.link(1, 3);
    nodes.settle();
    assert!(nodes.shard(1).inspect(&key).is_none());
    nodes.lose(3);
    nodes.link(1, 2);
    nodes.settle();
    assert_eq!(nodes.shard(1).inspect(&key).expect("it was sealed").occupancy, 0);
}

fn state_is_sent(says: &[Say]) -> bool {
    says.iter().any(|say| matches!(say, Say::Copy(ToCopy::State(_))))
}

#[test]
fn who_has_sealed_a_channel_is_its_copy_without_another_word() {
    let (before, after) = (view(1, &[1]), view(2, &[1, 2]));
    let key = channel(|key| after.owner(key.point()) == Some(id(2)));
    let mut nodes = Nodes::new(2, 1);
    nodes.install(&before, &[], &[1]);
    nodes.publish(1, &key, 1);
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2]);
    nodes.link(1, 2);
    nodes.settle();
    let is_copied = |say: &Say| matches!(say, Say::Copy(_) | Say::Confirm(_));
    assert!(!nodes.said(2, 1).iter().chain(&nodes.said(1, 2)).any(is_copied));
    assert!(nodes.told_at(2).contains(&Effect::Served { view: 2 }));
    nodes.publish(2, &key, 2);
    nodes.settle();
    assert!(nodes.said(1, 2).iter().any(is_copied) && nodes.shard(2).inspect(&key).is_some());
}

#[test]
fn a_copy_that_stays_one_is_not_sent_what_it_has_confirmed() {
    let (before, after) = (view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4]));
    let holders = |key: &ChannelKey| [&before, &after].map(|view| view.holders(key.point(), 3));
    let key = channel(|key| holders(key) == [[1, 2, 3].map(id).to_vec(), [1, 2, 4].map(id).to_vec()]);
    let mut nodes = Nodes::new(4, 2);
    nodes.install(&before, &[], &[1, 2, 3]);
    [(1, 2), (1, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.publish(1, &key, 1);
    nodes.settle();
    assert!(state_is_sent(&nodes.said(1, 2)));
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3, 4]);
    [(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    assert!(!state_is_sent(&nodes.said(1, 2)) && state_is_sent(&nodes.said(1, 4)));
}

/// Links lose nothing in a session, so no run of the simulation comes here.
#[test]
fn a_copy_without_what_came_before_is_sent_all() {
    let both = view(1, &[1, 2]);
    let key = channel(|key| both.owner(key.point()) == Some(id(1)));
    let mut nodes = Nodes::new(2, 1);
    nodes.install(&both, &[], &[1, 2]);
    nodes.link(1, 2);
    nodes.settle();
    nodes.publish(1, &key, 1);
    assert!(state_is_sent(&nodes.said(1, 2)));
    nodes.lose_next(1, 2);
    nodes.settle();
    assert!(state_is_sent(&nodes.said(1, 2)));
    let accepted = |effect: &Effect| matches!(effect, Effect::Answer { reply: Reply::Published(Ok(_)), .. });
    assert!(nodes.told_at(1).iter().any(accepted));
}

#[test]
fn who_goes_on_at_another_node_leaves_only_if_nobody_says_where() {
    let all = view(1, &[1, 2, 3]);
    let key = channel(|key| all.owner(key.point()) == Some(id(1)));
    let mut nodes = Nodes::with(3, 0, PRESENCE);
    nodes.install(&all, &[], &[1, 2, 3]);
    [(1, 2), (1, 3), (2, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    let member = |number| Member { session_id: format!("3.{number}").into(), identity: None, since_ms: 1 };
    for number in [1, 2] {
        nodes.subscribe(3, &key, number);
        nodes.settle();
        let session_id = member(number).session_id;
        nodes.ask(3, &key, Ask::Unsubscribe { session_id, attachment: 1, moved: true });
    }
    nodes.settle();
    assert_eq!(present(&mut nodes, 1, &key), ["3.1", "3.2"]);
    // What follows for others changes nothing of them.
    nodes.unlink(1, 3);
    nodes.link(1, 3);
    nodes.settle();
    let subscribe = Subscribe { token: token(2), member: member(2), attachment: 2, recover: None };
    nodes.ask(2, &key, Ask::Subscribe(subscribe));
    nodes.settle();
    nodes.wait(RESTORE_MS + 1);
    assert_eq!(present(&mut nodes, 1, &key), ["3.2"]);
}

#[test]
fn what_is_asked_of_a_channel_that_is_not_open_is_asked_again_where_the_answer_is_lost() {
    let both = view(1, &[1, 2]);
    let key = channel(|key| both.owner(key.point()) == Some(id(2)));
    let mut nodes = Nodes::new(2, 0);
    nodes.install(&both, &[], &[1, 2]);
    nodes.link(1, 2);
    nodes.settle();
    nodes.ask(1, &key, Ask::ReadPresence { token: token(1) });
    nodes.arrive(1, 2, 1);
    nodes.unlink(1, 2);
    nodes.link(1, 2);
    nodes.settle();
    let answered = |effect: &Effect| matches!(effect, Effect::Answer { reply: Reply::Presence(Ok(_)), .. });
    assert_eq!(nodes.told_at(1).iter().filter(|effect| answered(effect)).count(), 1);
}

/// Lets the hub come back at the owner, and says what subscribers hear of the next message when a session begins.
fn heard_with_the_hub(nodes: &mut Nodes, key: &ChannelKey) -> Vec<u64> {
    nodes.act(2, |shard, now, effects| shard.set_hub(now, hub(0, Switches::PLAIN), effects));
    nodes.unlink(1, 2);
    nodes.link(1, 2);
    nodes.settle();
    nodes.publish(2, key, 1);
    nodes.settle();
    delivered(&nodes.told_at(1))
}

#[test]
fn who_hears_a_channel_whose_hub_was_gone_at_the_owner_hears_it_again_with_the_next_session() {
    let (mut nodes, key) = hearing();
    nodes.act(2, |shard, now, effects| shard.remove_hub(now, HUB, effects));
    assert_eq!(heard_with_the_hub(&mut nodes, &key), [1]);
}

#[test]
fn who_says_that_it_hears_a_channel_while_the_hub_is_gone_at_the_owner_hears_it_with_the_next_session() {
    let (mut nodes, key) = hearing();
    nodes.act(2, |shard, now, effects| shard.remove_hub(now, HUB, effects));
    nodes.unlink(1, 2);
    nodes.link(1, 2);
    nodes.settle();
    let listens = |say: &Say| matches!(say, Say::Owner(ToOwner::Listen { .. }));
    assert!(nodes.said(1, 2).iter().any(listens) && nodes.shard(2).inspect(&key).is_none());
    assert_eq!(heard_with_the_hub(&mut nodes, &key), [1]);
}

#[test]
fn who_takes_a_session_while_a_copy_is_out_of_reach_gets_it_however_often_the_link_breaks() {
    let (before, after) = (view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4]));
    let places = (0..10_000).map(|number: u32| record::place(&HUB.into(), &number.to_string()));
    let holders = |place: &ChannelKey| [&before, &after].map(|view| view.holders(place.point(), 2));
    let moves = |place: &ChannelKey| holders(place) == [[1, 2].map(id).to_vec(), [1, 4].map(id).to_vec()];
    let place = places.into_iter().find(moves).expect("a place");
    let mut nodes = Nodes::new(4, 0);
    nodes.install(&before, &[], &[1, 2, 3]);
    [(1, 2), (1, 3), (2, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.ask(3, &place, Ask::Keep { record: Some(Arc::new(kept())) });
    nodes.settle();
    // It is taken, and the view changes before that is told.
    nodes.ask(2, &place, Ask::Take { token: token(1) });
    nodes.arrive(2, 1, 1);
    nodes.arrive(1, 2, 1);
    nodes.arrive(2, 1, 1);
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3, 4]);
    nodes.link(1, 2);
    // It asks again, and the answer waits for the new copy.
    let asks = |body: &Body| matches!(body, Body::Channel { say: Say::Owner(ToOwner::Publish { .. }), .. });
    nodes.settle_until(|letter| asks(&letter.message.body));
    nodes.arrive(2, 1, 1);
    assert_eq!(nodes.shard(1).progress().uncopied, 1);
    nodes.unlink(1, 2);
    nodes.link(1, 2);
    nodes.arrive(2, 1, 1);
    // The copy has it before the node asks once more.
    nodes.link(1, 4);
    nodes.settle_between(1, 4);
    nodes.settle();
    assert!(matches!(taken(&mut nodes, 2), Ok(record) if *record == kept()));
}
