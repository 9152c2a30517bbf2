//! What subscribers are told at the beginning and at the end of a side view (decision 20).

use appsockets_core::{channel::ChannelKey, serial::Serial, shard::request::Effect};

use crate::nodes::{self, Nodes, delivered, view};

/// A node that hears a channel of the other one, and has had its first message.
fn hearing() -> (Nodes, ChannelKey) {
    let (mut nodes, key) = nodes::hearing();
    nodes.publish(2, &key, 1);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(1)), [1]);
    (nodes, key)
}

/// Where subscribers were told that they stand, and whether they were told that they lack nothing.
fn positions(effects: &[Effect]) -> Vec<(Serial, bool)> {
    let position = |effect: &Effect| match effect {
        Effect::Reposition { position, recovered, .. } => Some((*position, *recovered)),
        _ => None,
    };
    effects.iter().filter_map(position).collect()
}

fn is_side(serial: Serial) -> bool {
    serial.epoch.counter >= 1 << 40
}

fn begin_aside(nodes: &mut Nodes, number: u64) -> Vec<Effect> {
    nodes.unlink(1, 2);
    nodes.act(1, |shard, now, effects| shard.set_side(now, Some(view(number, &[1])), effects));
    nodes.told_at(1)
}

fn end_aside(nodes: &mut Nodes) -> Vec<Effect> {
    nodes.act(1, |shard, now, effects| shard.set_side(now, None, effects));
    nodes.link(1, 2);
    nodes.settle();
    nodes.told_at(1)
}

#[test]
fn subscribers_are_told_at_the_beginning_and_at_the_end_of_a_side_view_that_something_may_be_missing() {
    let (mut nodes, key) = hearing();
    let [(begun, false)] = positions(&begin_aside(&mut nodes, 1))[..] else { panic!("they are told of the beginning") };
    assert!(is_side(begun) && begun.sequence == 0);
    // As many messages in both, so that no number shows that anything is missing.
    nodes.publish(1, &key, 2);
    assert_eq!(delivered(&nodes.told_at(1)), [1]);
    let [(ended, false)] = positions(&end_aside(&mut nodes))[..] else { panic!("they are told of the end") };
    assert_eq!(ended, nodes.shard(2).inspect(&key).expect("it is open").current);
    assert!(!is_side(ended) && ended.sequence == 1);
    nodes.publish(2, &key, 3);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(1)), [2]);
}

#[test]
fn a_side_view_in_which_nothing_happens_is_told_too_and_so_is_one_that_follows_another() {
    let (mut nodes, _) = hearing();
    let [(first, false)] = positions(&begin_aside(&mut nodes, 1))[..] else { panic!("they are told of the first") };
    let [(second, false)] = positions(&begin_aside(&mut nodes, 2))[..] else { panic!("they are told of the second") };
    assert!(is_side(first) && is_side(second) && first.epoch != second.epoch);
    let [(ended, false)] = positions(&end_aside(&mut nodes))[..] else { panic!("they are told of the end") };
    assert!(!is_side(ended));
}

#[test]
fn an_agreed_view_ends_a_side_view_with_the_same_word() {
    let (mut nodes, key) = hearing();
    begin_aside(&mut nodes, 1);
    nodes.install(&view(2, &[1, 2]), &[view(1, &[1, 2])], &[1, 2]);
    nodes.link(1, 2);
    nodes.settle();
    let [(ended, false)] = positions(&nodes.told_at(1))[..] else { panic!("they are told of the end") };
    assert_eq!(ended, nodes.shard(2).inspect(&key).expect("it is open").current);
}
