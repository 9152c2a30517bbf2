//! Who hears a channel is told by its next owner what it lacks, and nothing if it lacks nothing.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::{ClusterId, Member, View},
    shard::{
        peer::{Say, ToRelay},
        request::Effect,
    },
};

use crate::{
    hubs::Switches,
    nodes::{Nodes, channel, delivered, id, view},
};

/// What one node told the other as the owner of channels.
fn answers(nodes: &mut Nodes, from: u64, to: u64) -> Vec<ToRelay> {
    let answer = |say| match say {
        Say::Relay(say) => Some(say),
        _ => None,
    };
    nodes.said(from, to).into_iter().filter_map(answer).collect()
}

/// A channel of the first node, heard at the third, with one message; a fourth node comes, which is to own it. So many messages
/// more are numbered that the third does not hear before.
fn moved(switches: Switches, unheard: i64) -> (Nodes, ChannelKey) {
    let (before, after) = (view(1, &[1, 2, 3]), view(2, &[1, 2, 3, 4]));
    let key = channel(|key| before.owner(key.point()) == Some(id(1)) && after.owner(key.point()) == Some(id(4)));
    let mut nodes = Nodes::with(4, 0, switches);
    nodes.install(&before, &[], &[1, 2, 3]);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3)]);
    nodes.subscribe(3, &key, 1);
    nodes.publish(3, &key, 1);
    nodes.settle();
    (0..unheard).for_each(|number| nodes.publish(1, &key, 2 + number));
    nodes.told_at(3);
    nodes.install(&after, &[before], &[1, 2, 3, 4]);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3), (1, 4), (2, 4), (3, 4)]);
    (nodes, key)
}

#[test]
fn who_lacks_nothing_is_not_answered_and_hears_what_follows() {
    let (mut nodes, key) = moved(Switches::PLAIN, 0);
    let is_told = |effect: &Effect| matches!(effect, Effect::Deliver { .. } | Effect::Reposition { .. });
    assert!(answers(&mut nodes, 4, 3).is_empty() && !nodes.told_at(3).iter().any(is_told));
    nodes.publish(2, &key, 2);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(3)), [2]);
}

#[test]
fn who_lacks_something_is_answered() {
    let (mut nodes, _) = moved(Switches::PLAIN, 2);
    assert!(matches!(&answers(&mut nodes, 4, 3)[..], [ToRelay::Resume(_)]));
    assert_eq!(delivered(&nodes.told_at(3)), [2, 3]);
}

#[test]
fn who_waits_for_a_count_is_answered() {
    let (mut nodes, _) = moved(Switches { occupancy: true, ..Switches::PLAIN }, 0);
    assert!(matches!(&answers(&mut nodes, 4, 3)[..], [ToRelay::Resume(_), ..]));
}

#[test]
fn an_owner_that_was_out_of_reach_is_told_in_the_next_view_who_hears_its_channels() {
    let with = |number, fourth| {
        let members = [(1, 64), (2, 64), (3, 64), (4, fourth)];
        let members = members.map(|(node, points)| Member { id: id(node), points }).to_vec();
        Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members))
    };
    let views = [with(1, 0), with(2, 64), with(3, 64)];
    let owners = |key: &ChannelKey| [0, 1].map(|view: usize| views[view].owner(key.point()));
    let key = channel(|key| owners(key) == [1, 4].map(|node| Some(id(node))));
    let mut nodes = Nodes::new(4, 0);
    let (all, but_three_and_four) = ([(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)], 5);
    nodes.install(&views[0], &[], &[1, 2, 3, 4]);
    nodes.link_all(&all);
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    nodes.install(&views[1], &views[..1], &[1, 2, 3, 4]);
    nodes.link_all(&all[..but_three_and_four]);
    nodes.install(&views[2], &views[..2], &[1, 2, 3, 4]);
    nodes.link_all(&all);
    nodes.told_at(3);
    nodes.publish(2, &key, 1);
    nodes.settle();
    assert_eq!(delivered(&nodes.told_at(3)), [1]);
}

/// The first node, which has a channel, and the second, which has its copy, are out of reach, and the third is to own it: what
/// the fourth hears is not certain.
fn uncertain() -> (Nodes, Arc<View>) {
    let (before, after) = (view(1, &[1, 2, 3, 4]), view(2, &[3, 4]));
    let key =
        channel(|key| before.holders(key.point(), 2) == [1, 2].map(id) && after.owner(key.point()) == Some(id(3)));
    let mut nodes = Nodes::new(4, 1);
    nodes.install(&before, &[], &[1, 2, 3, 4]);
    nodes.link_all(&[(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]);
    nodes.subscribe(4, &key, 1);
    nodes.publish(4, &key, 1);
    nodes.settle();
    nodes.install(&after, std::slice::from_ref(&before), &[3, 4]);
    nodes.link_all(&[(3, 4)]);
    assert!(answers(&mut nodes, 3, 4).contains(&ToRelay::Uncertain));
    nodes.told_at(4);
    (nodes, before)
}

/// It is certain at that owner, and nothing was missed.
fn is_told(nodes: &mut Nodes, owner: u64) {
    let answers = answers(nodes, owner, 4);
    assert!(matches!(answers.last(), Some(ToRelay::Resume(resume)) if resume.missed == Some(vec![])), "{answers:?}");
    let told = nodes.told_at(4);
    assert!(!told.iter().any(|effect| matches!(effect, Effect::Reposition { .. })), "{told:?}");
}

#[test]
fn who_was_told_that_a_channel_is_not_certain_is_told_when_it_is() {
    let (mut nodes, before) = uncertain();
    nodes.install(&view(2, &[3, 4]), &[before], &[1]);
    nodes.link_all(&[(1, 3)]);
    is_told(&mut nodes, 3);
}

#[test]
fn and_so_is_who_was_told_by_another_owner() {
    let (mut nodes, before) = uncertain();
    nodes.install(&view(3, &[1, 3, 4]), &[before, view(2, &[3, 4])], &[1, 3, 4]);
    nodes.link_all(&[(1, 3), (1, 4), (3, 4)]);
    is_told(&mut nodes, 1);
}
