//! What is forgotten of a node where a session with it begins anew, and what is not before it has said what it hears.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    session::{event::Member, request::Recover},
    shard::{
        peer::{Body, Say, SayAll, ToRelay},
        request::{Ask, Effect, Reply, Subscribe},
    },
};

use crate::{
    hubs::{RESTORE_MS, Switches},
    nodes::{Letter, Nodes, channel, delivered, id, token, view},
    sessions::order,
};

pub const PRESENCE: Switches = Switches { presence: true, ..Switches::PLAIN };

/// The sessions that the owner of a channel tells to be present.
pub fn present(nodes: &mut Nodes, owner: u64, key: &ChannelKey) -> Vec<String> {
    nodes.told_at(owner);
    nodes.ask(owner, key, Ask::ReadPresence { token: token(99) });
    let members = nodes.told_at(owner).into_iter().find_map(|effect| match effect {
        Effect::Answer { reply: Reply::Presence(Ok(members)), .. } => Some(members),
        _ => None,
    });
    members.expect("it is answered").iter().map(|member| member.session_id.to_string()).collect()
}

/// A node takes another for dead that is out of reach, and learns that it lives: what that has said no longer stands.
fn doubt(nodes: &mut Nodes, node: u64, other: u64) {
    let all = [1, 2, 3].map(id);
    nodes.act(node, |shard, now, effects| {
        shard.set_alive(now, all.into_iter().filter(|living| *living != id(other)), effects);
    });
    nodes.act(node, |shard, now, effects| shard.set_alive(now, all, effects));
}

#[test]
fn who_was_taken_for_dead_and_lives_stays_present() {
    let all = view(1, &[1, 2, 3]);
    let key = channel(|key| all.owner(key.point()) == Some(id(1)));
    let mut nodes = Nodes::with(3, 0, PRESENCE);
    nodes.install(&all, &[], &[1, 2, 3]);
    nodes.link(1, 3);
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    nodes.unlink(1, 3);
    doubt(&mut nodes, 1, 3);
    nodes.wait(2 * RESTORE_MS);
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

/// Three nodes at a new view, in which the first is to own a channel of the second that the third hears. The two have
/// not met yet. The third is about to hear another channel of the first.
fn moving() -> (Nodes, ChannelKey) {
    let (before, after) = (view(1, &[2, 3]), view(2, &[1, 2, 3]));
    let owners = |key: &ChannelKey| [&before, &after].map(|view| view.owner(key.point()));
    let key = channel(|key| owners(key) == [Some(id(2)), Some(id(1))]);
    let other = channel(|key| owners(key) == [Some(id(3)), Some(id(1))]);
    let mut nodes = Nodes::with(3, 0, PRESENCE);
    nodes.install(&before, &[], &[2, 3]);
    nodes.link(2, 3);
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3]);
    nodes.link(1, 3);
    nodes.subscribe(3, &other, 2);
    (nodes, key)
}

#[test]
fn nobody_leaves_because_a_node_has_not_said_in_a_new_view_what_it_hears() {
    let (before, after) = (view(1, &[2, 3]), view(2, &[1, 2, 3]));
    let owners = |key: &ChannelKey| [&before, &after].map(|view| view.owner(key.point()));
    let key = channel(|key| owners(key) == [Some(id(2)), Some(id(1))]);
    let mut nodes = Nodes::with(3, 0, PRESENCE);
    nodes.install(&before, &[], &[1, 2, 3]);
    [(1, 3), (2, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3]);
    nodes.link(1, 2);
    nodes.settle();
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

#[test]
fn nobody_leaves_because_a_node_has_not_said_in_a_session_that_begins_anew_what_it_hears() {
    let (mut nodes, key) = moving();
    nodes.settle();
    nodes.unlink(1, 3);
    doubt(&mut nodes, 1, 3);
    nodes.link(1, 3);
    nodes.arrive(3, 1, 1);
    // The state comes before the third node says that it hears the channel.
    nodes.link(1, 2);
    nodes.arrive(2, 1, 2);
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

#[test]
fn what_was_said_in_the_last_session_and_comes_in_the_next_counts_for_nothing() {
    let (mut nodes, key) = moving();
    // All but the last word: that there was no more.
    let is_last = |letter: &Letter| matches!(letter.message.body, Body::All { say: SayAll::Listened, .. });
    nodes.settle_until(|letter| letter.from == id(3) && is_last(letter));
    for (node, peer) in [(1, 3), (3, 1)] {
        nodes.act(node, |shard, now, effects| shard.session(now, id(peer), None, effects));
    }
    doubt(&mut nodes, 1, 3);
    nodes.link(1, 3);
    nodes.arrive(3, 1, 2);
    nodes.link(1, 2);
    nodes.arrive(2, 1, 2);
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

#[test]
fn who_has_left_a_channel_that_waits_before_a_session_begins_anew_does_not_stay() {
    let (mut nodes, key) = moving();
    nodes.settle();
    nodes.unlink(1, 3);
    doubt(&mut nodes, 1, 3);
    nodes.ask(3, &key, Ask::Unsubscribe { session_id: "3.1".into(), attachment: 1, moved: false });
    nodes.link(1, 3);
    nodes.settle();
    nodes.link(1, 2);
    nodes.settle();
    assert_eq!(present(&mut nodes, 1, &key), [""; 0]);
    assert_eq!(nodes.shard(1).inspect(&key).expect("it was sealed").occupancy, 0);
}

#[test]
fn a_subscriber_that_waits_for_copies_while_a_session_begins_anew_hides_nothing_that_its_node_has_lost() {
    let all = view(1, &[1, 2, 3]);
    let key = channel(|key| all.holders(key.point(), 2) == [id(1), id(2)]);
    let other = channel(|key| all.owner(key.point()) == Some(id(3)));
    let mut nodes = Nodes::new(3, 1);
    nodes.install(&all, &[], &[1, 2, 3]);
    [(1, 2), (1, 3), (2, 3)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.subscribe(1, &other, 1);
    nodes.settle();
    // It counts at the owner, and is still under way to the third node when the link breaks.
    nodes.publish(1, &key, 1);
    nodes.arrive(1, 2, 1);
    nodes.arrive(2, 1, 1);
    // Where it stands is not known here, so the copy is asked first.
    let elsewhere = nodes.shard(3).inspect(&other).expect("it is open").current;
    let member = Member { session_id: "3.2".into(), identity: None, since_ms: 1 };
    let recover = Some(Recover::Serial(elsewhere));
    nodes.ask(3, &key, Ask::Subscribe(Subscribe { token: token(2), member, attachment: 1, recover }));
    nodes.arrive(3, 1, 1);
    nodes.unlink(1, 3);
    doubt(&mut nodes, 3, 1);
    nodes.told_at(3);
    nodes.link(1, 3);
    nodes.arrive(3, 1, 1);
    nodes.arrive(1, 2, 1);
    nodes.arrive(2, 1, 1);
    nodes.settle();
    assert_eq!(order(&nodes.told_at(3)), ["message 1", "subscription 2 at 1"]);
}

/// The third node asks more of the channel than can wait.
fn ask_too_much(nodes: &mut Nodes, key: &ChannelKey) {
    nodes.settle();
    for attachment in 2..200 {
        let member = Member { session_id: "3.1".into(), identity: None, since_ms: 1 };
        nodes.ask(3, key, Ask::Enter { member, attachment });
    }
    nodes.settle();
}

#[test]
fn nobody_leaves_because_a_node_has_asked_more_than_can_wait() {
    let (mut nodes, key) = moving();
    ask_too_much(&mut nodes, &key);
    nodes.link(1, 2);
    nodes.arrive(2, 1, 2);
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

#[test]
fn who_has_asked_more_than_can_wait_and_left_does_not_stay() {
    let (mut nodes, key) = moving();
    ask_too_much(&mut nodes, &key);
    for attachment in 1..200 {
        nodes.ask(3, &key, Ask::Unsubscribe { session_id: "3.1".into(), attachment, moved: false });
    }
    nodes.settle();
    assert!(nodes.shard(3).inspect(&key).is_none());
    nodes.link(1, 2);
    nodes.settle();
    assert_eq!(present(&mut nodes, 1, &key), [""; 0]);
}

#[test]
fn who_has_asked_more_than_can_wait_is_heard_again_in_a_session_that_begins_anew() {
    let (mut nodes, key) = moving();
    ask_too_much(&mut nodes, &key);
    nodes.unlink(1, 3);
    doubt(&mut nodes, 1, 3);
    nodes.link(1, 3);
    nodes.settle();
    nodes.link(1, 2);
    nodes.arrive(2, 1, 2);
    assert_eq!(present(&mut nodes, 1, &key), ["3.1"]);
}

/// What the first of five nodes owns in two views, with two copies, in the second one of them at the fourth, which is out of
/// reach. The third hears it, and has a channel that the first hears. A message of the third counts when the second view
/// comes, before anybody is told.
fn uncopied() -> (Nodes, ChannelKey) {
    let (before, after) = (view(1, &[1, 2, 3, 5]), view(2, &[1, 2, 3, 4, 5]));
    let holders = |key: &ChannelKey, count| [&before, &after].map(|view| view.holders(key.point(), count));
    let key = channel(|key| holders(key, 3) == [[1, 2, 5].map(id).to_vec(), [1, 4, 2].map(id).to_vec()]);
    let other = channel(|key| holders(key, 1) == [[id(3)], [id(3)]]);
    let mut nodes = Nodes::new(5, 2);
    nodes.install(&before, &[], &[1, 2, 3, 5]);
    [(1, 2), (1, 3), (1, 5), (2, 3), (2, 5), (3, 5)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    nodes.settle();
    nodes.subscribe(3, &key, 1);
    nodes.subscribe(1, &other, 1);
    nodes.settle();
    nodes.publish(3, &key, 1);
    nodes.arrive(3, 1, 1);
    nodes.settle_between(1, 2);
    nodes.settle_between(1, 5);
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3, 4, 5]);
    nodes.link(1, 2);
    nodes.link(1, 3);
    nodes.settle();
    assert_eq!((nodes.shard(1).progress().uncopied, delivered(&nodes.told_at(3))), (1, vec![]));
    (nodes, key)
}

/// The outcomes that the third node is told once the copy is there.
fn outcomes(nodes: &mut Nodes) -> Vec<Result<u64, ErrorCode>> {
    nodes.said(1, 3);
    nodes.link(1, 4);
    nodes.settle();
    let outcomes = nodes.said(1, 3).into_iter().filter_map(|say| match say {
        Say::Relay(ToRelay::Published { outcome, .. }) => Some(outcome.map(|serial| serial.sequence)),
        _ => None,
    });
    outcomes.collect()
}

#[test]
fn an_answer_that_waits_for_a_copy_waits_once_however_often_a_session_begins_anew() {
    let (mut nodes, _) = uncopied();
    for _ in 0..3 {
        nodes.unlink(1, 3);
        doubt(&mut nodes, 3, 1);
        nodes.link(1, 3);
        nodes.settle();
    }
    assert_eq!(outcomes(&mut nodes), [Ok(1)]);
}

#[test]
fn an_answer_that_waits_for_a_copy_waits_once_however_often_another_is_lost() {
    let (mut nodes, key) = uncopied();
    for _ in 0..3 {
        nodes.ask(3, &key, Ask::ReadPresence { token: token(2) });
        nodes.arrive(3, 1, 1);
        nodes.unlink(1, 3);
        nodes.link(1, 3);
        nodes.settle();
    }
    assert_eq!(outcomes(&mut nodes), [Ok(1)]);
}

#[test]
fn who_goes_on_hearing_a_channel_that_waits_for_a_copy_misses_nothing_where_a_session_begins_anew() {
    let (mut nodes, key) = uncopied();
    nodes.unlink(1, 3);
    doubt(&mut nodes, 1, 3);
    nodes.link(1, 3);
    nodes.arrive(3, 1, 1);
    // The copy is there, and has another message, before the third node says anew where it stands.
    nodes.link(1, 4);
    nodes.settle_between(1, 4);
    nodes.publish(1, &key, 2);
    nodes.settle_between(1, 4);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(3)), [1, 2]);
}
