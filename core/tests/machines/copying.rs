//! New copies: made when everything goes on, and at once where somebody waits for them.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::View,
    shard::{
        peer::{Say, ToCopy, ToRelay},
        request::{Effect, Reply},
    },
};

use crate::nodes::{Nodes, channel, delivered, id, view};

fn gets_state(nodes: &mut Nodes, from: u64, to: u64) -> bool {
    nodes.said(from, to).iter().any(|say| matches!(say, Say::Copy(ToCopy::State(_))))
}

/// A fourth node has come, which is to have the copy of what the first one owns and the third hears. The second and the third do
/// not reach each other yet, so not everything goes on.
fn joined() -> (Nodes, ChannelKey) {
    let (before, after) = (view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4]));
    let holders = |key: &ChannelKey| [&before, &after].map(|view| view.holders(key.point(), 2));
    let key = channel(|key| holders(key) == [[1, 2].map(id), [1, 4].map(id)]);
    let mut nodes = Nodes::new(4, 1);
    nodes.install(&before, &[], &[1, 2, 3]);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3)]);
    nodes.subscribe(3, &key, 1);
    nodes.publish(3, &key, 1);
    nodes.settle();
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3, 4]);
    nodes.link_all(&[(1, 2), (1, 3), (1, 4)]);
    assert!(!gets_state(&mut nodes, 1, 4) && nodes.shard(1).progress().uncopied == 1);
    nodes.told_at(1);
    nodes.told_at(3);
    (nodes, key)
}

#[test]
fn a_new_copy_comes_once_everything_goes_on() {
    let (mut nodes, _) = joined();
    nodes.link_all(&[(2, 3), (2, 4), (3, 4)]);
    let told = nodes.told_at(1);
    let at = |effect: &Effect| told.iter().position(|other| other == effect);
    assert!(at(&Effect::Resumed { view: 2 }) < at(&Effect::Served { view: 2 }), "{told:?}");
    assert!(gets_state(&mut nodes, 1, 4) && nodes.shard(1).progress().uncopied == 0);
}

#[test]
fn a_new_copy_does_not_wait_for_long() {
    let (mut nodes, _) = joined();
    nodes.wait(100);
    assert!(!gets_state(&mut nodes, 1, 4));
    nodes.wait(100);
    assert!(gets_state(&mut nodes, 1, 4) && nodes.shard(1).progress().uncopied == 0);
}

#[test]
fn a_publish_does_not_wait_for_others_to_go_on() {
    let (mut nodes, key) = joined();
    nodes.publish(3, &key, 2);
    nodes.settle();
    let told = nodes.told_at(3);
    assert!(told.iter().any(|effect| matches!(effect, Effect::Answer { reply: Reply::Published(Ok(_)), .. })));
    assert_eq!((delivered(&told), nodes.shard(1).progress().uncopied), (vec![2], 0));
}

#[test]
fn a_copy_out_of_reach_is_made_when_it_is_in_reach() {
    let (mut nodes, _) = joined();
    nodes.unlink(1, 4);
    nodes.wait(1_000);
    assert!(!gets_state(&mut nodes, 1, 4) && nodes.shard(1).progress().uncopied == 1);
    nodes.link_all(&[(1, 4)]);
    assert!(gets_state(&mut nodes, 1, 4) && nodes.shard(1).progress().uncopied == 0);
}

#[test]
fn a_copy_that_was_none_in_between_gets_the_state() {
    let (mut nodes, key) = joined();
    nodes.said(1, 2);
    nodes.lose(4);
    let views = [view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4])];
    nodes.install(&view(3, &[1, 2, 3]), &views, &[1, 2, 3]);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3)]);
    assert!(gets_state(&mut nodes, 1, 2) && nodes.shard(1).progress().uncopied == 0);
    nodes.told_at(3);
    nodes.publish(3, &key, 2);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(3)), [2]);
}

/// The fourth node, which has a channel that the third hears, is lost. The first has its copy, and is to make others; the second
/// and the third do not reach each other yet. So many messages have come to the copy alone.
fn taken_up(redundancy: u8, unheard: i64) -> (Nodes, ChannelKey) {
    let (before, after) = (view(1, &[1, 2, 3, 4]), view(2, &[1, 2, 3]));
    let first = |view: &Arc<View>, key: &ChannelKey| view.holders(key.point(), 2);
    let key = channel(|key| [first(&before, key), first(&after, key)] == [[4, 1].map(id), [1, 2].map(id)]);
    let mut nodes = Nodes::new(4, redundancy);
    nodes.install(&before, &[], &[1, 2, 3, 4]);
    nodes.link_all(&[(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]);
    nodes.subscribe(3, &key, 1);
    nodes.publish(3, &key, 1);
    nodes.settle();
    for number in 0..unheard {
        nodes.publish(4, &key, 2 + number);
        nodes.arrive(4, 1, 1);
    }
    nodes.lose(4);
    nodes.install(&after, std::slice::from_ref(&before), &[1, 2, 3]);
    nodes.told_at(3);
    nodes.said(1, 2);
    nodes.said(1, 3);
    nodes.link_all(&[(1, 2), (1, 3)]);
    (nodes, key)
}

/// What subscribers are told: in which epochs they go on, and the numbers of messages.
fn heard(effects: &[Effect]) -> (usize, Vec<u64>) {
    let epochs = effects.iter().filter(|effect| matches!(effect, Effect::Reposition { recovered: true, .. }));
    (epochs.count(), delivered(effects))
}

fn resumes(nodes: &mut Nodes) -> usize {
    nodes.said(1, 3).iter().filter(|say| matches!(say, Say::Relay(ToRelay::Resume(_)))).count()
}

#[test]
fn who_hears_a_channel_that_was_taken_up_goes_on_before_it_has_a_copy_and_is_told_with_the_next_message() {
    for redundancy in [1, 2] {
        let (mut nodes, key) = taken_up(redundancy, 0);
        assert_eq!((resumes(&mut nodes), heard(&nodes.told_at(3))), (1, (0, vec![])));
        assert!(!gets_state(&mut nodes, 1, 2));
        nodes.publish(2, &key, 2);
        nodes.settle();
        assert_eq!(heard(&nodes.told_at(3)), (1, vec![2]));
        assert!(gets_state(&mut nodes, 1, 2));
    }
}

#[test]
fn who_begins_to_hear_it_meanwhile_stands_where_the_others_do() {
    let (mut nodes, key) = taken_up(1, 0);
    nodes.told_at(3);
    nodes.subscribe(3, &key, 2);
    nodes.settle();
    let told = nodes.told_at(3);
    let position = |effect: &Effect| match effect {
        Effect::Reposition { position, .. } => Some(*position),
        Effect::Answer { reply: Reply::Subscribed(Ok(start)), .. } => Some(start.current),
        _ => None,
    };
    let positions: Vec<_> = told.iter().filter_map(position).collect();
    assert!(positions.len() == 2 && positions[0] == positions[1], "{told:?}");
}

#[test]
fn who_lacks_something_waits_for_the_copies() {
    let (mut nodes, _) = taken_up(1, 1);
    let told = nodes.told_at(3);
    assert!(gets_state(&mut nodes, 1, 2) && heard(&told) == (0, vec![2]), "{told:?}");
}

#[test]
fn an_epoch_that_every_copy_has_is_where_a_node_stands_in_the_next_view() {
    let (mut nodes, key) = taken_up(1, 0);
    nodes.link_all(&[(2, 3)]);
    (1..=3).for_each(|node| nodes.act(node, |shard, _, _| shard.settled(2)));
    nodes.told_at(3);
    let (before, after) = (view(2, &[1, 2, 3]), view(3, &[2, 3]));
    assert_eq!(after.owner(key.point()), Some(id(2)));
    nodes.lose(1);
    nodes.install(&after, std::slice::from_ref(&before), &[2, 3]);
    nodes.link_all(&[(2, 3)]);
    assert_eq!(heard(&nodes.told_at(3)), (0, vec![]));
    nodes.publish(3, &key, 2);
    nodes.settle();
    // Both epochs are one step for who hears it.
    assert_eq!(heard(&nodes.told_at(3)), (1, vec![2]));
}

#[test]
fn epochs_without_a_message_are_told_before_the_owner_forgets_where_they_part() {
    let members: Vec<_> = (1..=20).collect();
    let all = view(1, &members);
    let key = channel(|key| all.holders(key.point(), 20).last() == Some(&id(20)));
    let mut nodes = Nodes::new(20, 1);
    let (mut before, mut living, mut told) = (all, members, Vec::new());
    nodes.install(&before, &[], &living);
    for number in 2..=19 {
        let pairs: Vec<_> = living.iter().flat_map(|a| living.iter().map(move |b| (*a, *b))).collect();
        nodes.link_all(&pairs.into_iter().filter(|(a, b)| a < b).collect::<Vec<_>>());
        living.iter().for_each(|node| nodes.act(*node, |shard, _, _| shard.settled(number - 1)));
        if number == 2 {
            nodes.subscribe(20, &key, 1);
            nodes.publish(20, &key, 1);
            nodes.settle();
        }
        told.push(heard(&nodes.told_at(20)).0);
        let owner = before.owner(key.point()).expect("somebody has it").node;
        living.retain(|node| *node != owner);
        nodes.lose(owner);
        let next = view(number, &living);
        nodes.install(&next, std::slice::from_ref(&before), &living);
        before = next;
    }
    assert!(told.iter().sum::<usize>() == 1 && told.iter().take(17).all(|count| *count == 0), "{told:?}");
}

#[test]
fn a_node_that_was_away_counts_the_epochs_that_it_has_missed() {
    let (all, two, one) = ([1, 2, 3], [1, 2], [2]);
    let owner = |key: &ChannelKey, members: &[u64]| view(1, members).owner(key.point());
    let key = channel(|key| {
        let owners = [owner(key, &all), owner(key, &two), owner(key, &[2, 3])];
        owners == [1, 1, 2].map(|node| Some(id(node))) && view(1, &all).holders(key.point(), 2) == [1, 2].map(id)
    });
    let mut nodes = Nodes::new(3, 1);
    let (mut last, mut number) = (view(1, &all), 1);
    nodes.install(&last, &[], &all);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3)]);
    nodes.subscribe(3, &key, 1);
    nodes.publish(3, &key, 1);
    nodes.settle();
    nodes.told_at(3);
    // Each time one of the two is left behind, the other goes on in an epoch of its own.
    let turns = (0..17).flat_map(|_| [&one[..], &two[..]]).chain([&all[..], &[2, 3], &all]);
    for members in turns {
        number += 1;
        let next = view(number, members);
        nodes.install(&next, std::slice::from_ref(&last), members);
        let pairs = [(1, 2), (1, 3), (2, 3)].into_iter().filter(|(a, b)| members.contains(a) && members.contains(b));
        nodes.link_all(&pairs.collect::<Vec<_>>());
        nodes.wait(200);
        members.iter().for_each(|node| nodes.act(*node, |shard, _, _| shard.settled(number)));
        last = next;
    }
    assert_eq!(heard(&nodes.told_at(3)), (1, vec![]));
}
