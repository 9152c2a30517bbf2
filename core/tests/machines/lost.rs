//! Nodes that are lost while another takes up what they had.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::{self as views, ClusterId, View},
    code::ErrorCode,
    session::event::{Member, PresenceChange},
    shard::{
        peer::{Body, Move, Opening, Part, PeerMessage, Say, SayAll, ToOwner},
        request::{Ask, Effect, Notice, Reply},
    },
};

use crate::{
    anew::{PRESENCE, present},
    hubs::RESTORE_MS,
    nodes::{Letter, Nodes, channel, id, view},
};

/// A view of the first node, which holds nothing, and the last two.
fn last(number: u64) -> Arc<View> {
    let members = [(1, 0), (3, 64), (4, 64)].map(|(node, points)| views::Member { id: id(node), points });
    Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members.to_vec()))
}

/// The owner of a channel ends, and the one copy that has a message which counts does so before its state has come. The third node
/// goes on from a copy that is older, and can't know what the publisher was told.
#[test]
fn a_repeat_is_doubted_if_the_best_copy_ends_before_its_state_has_come() {
    let (first, second, third) = (view(1, &[2, 3, 4]), view(2, &[1, 2, 3, 4]), last(3));
    let key = channel(|key| {
        let holders = |view: &Arc<View>| view.holders(key.point(), 2);
        holders(&first) == [2, 3].map(id)
            && holders(&second) == [2, 1].map(id)
            && third.owner(key.point()) == Some(id(3))
    });
    let mut nodes = Nodes::new(4, 1);
    nodes.install(&first, &[], &[2, 3, 4]);
    nodes.link_all(&[(2, 3), (2, 4), (3, 4)]);
    nodes.publish(4, &key, 1);
    nodes.settle();
    nodes.install(&second, std::slice::from_ref(&first), &[1, 2, 3, 4]);
    nodes.link_all(&[(1, 2), (1, 3), (1, 4), (2, 3), (2, 4), (3, 4)]);
    nodes.publish(4, &key, 2);
    nodes.arrive(4, 2, 1);
    nodes.arrive(2, 1, 1);
    nodes.arrive(1, 2, 1);
    nodes.lose(2);
    nodes.install(&third, &[first, second], &[1, 3, 4]);
    [(1, 3), (1, 4), (3, 4)].into_iter().for_each(|(a, b)| nodes.link(a, b));
    let fetch = |letter: &Letter| matches!(letter.message.body, Body::Channel { say: Say::Move(Move::Fetch), .. });
    nodes.settle_until(fetch);
    nodes.told_at(4);
    nodes.lose(1);
    [2, 1].into_iter().for_each(|gone| nodes.act(3, |shard, now, effects| shard.gone(now, id(gone), effects)));
    nodes.settle();
    let answer = |effect| match effect {
        Effect::Answer { reply: Reply::Published(outcome), .. } => Some(outcome),
        _ => None,
    };
    assert_eq!(nodes.told_at(4).into_iter().filter_map(answer).collect::<Vec<_>>(), [Err(ErrorCode::TryAgain)]);
}

/// A session comes to the owner of a channel itself, and what the copy is told of that is lost with a link. When the owner ends, nobody
/// else knows of the session, and the copy has to.
#[test]
fn who_came_while_the_copy_could_not_be_told_stays_when_the_owner_is_lost() {
    let (before, after) = (view(1, &[1, 2, 3]), view(2, &[2, 3]));
    let key = channel(|key| before.holders(key.point(), 2) == [1, 2].map(id));
    let mut nodes = Nodes::with(3, 1, PRESENCE);
    nodes.install(&before, &[], &[1, 2, 3]);
    nodes.link_all(&[(1, 2), (1, 3), (2, 3)]);
    nodes.subscribe(1, &key, 1);
    nodes.subscribe(3, &key, 1);
    nodes.settle();
    let leaves = Ask::Unsubscribe { session_id: "1.1".into(), attachment: 1, moved: false };
    nodes.ask(1, &key, leaves);
    nodes.subscribe(1, &key, 2);
    nodes.unlink(1, 2);
    nodes.link_all(&[(1, 2)]);
    nodes.lose(1);
    nodes.install(&after, std::slice::from_ref(&before), &[2, 3]);
    nodes.link_all(&[(2, 3)]);
    assert_eq!(present(&mut nodes, 2, &key), ["1.2", "3.1"]);
}

/// The first node owns a channel again that another has had meanwhile, which it does not reach: it goes on in the same epoch from
/// what it has sealed. As many changes of presence as the other has told are not the same ones.
#[test]
fn who_is_present_is_told_by_an_owner_that_goes_on_from_an_old_seal() {
    let with = |number, holding: [u64; 3]| {
        let points = |node| if holding.contains(&node) { 64 } else { 0 };
        let members = (1..=4).map(|node| views::Member { id: id(node), points: points(node) });
        Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members.collect()))
    };
    let views = [with(1, [1, 2, 4]), with(2, [2, 3, 4]), with(3, [1, 2, 4]), with(4, [1, 2, 4])];
    let owners = |key: &ChannelKey| [0, 1, 2].map(|view: usize| views[view].owner(key.point()));
    let key = channel(|key| owners(key) == [1, 3, 1].map(|node| Some(id(node))));
    let (all, but_one_and_three) = ([(1, 2), (1, 4), (2, 3), (2, 4), (3, 4), (1, 3)], 5);
    let mut nodes = Nodes::with(4, 1, PRESENCE);
    nodes.install(&views[0], &[], &[1, 2, 3, 4]);
    nodes.link_all(&all);
    nodes.subscribe(4, &key, 1);
    nodes.settle();
    nodes.install(&views[1], &views[..1], &[1, 2, 3, 4]);
    nodes.link_all(&all);
    nodes.subscribe(2, &key, 2);
    nodes.settle();
    nodes.install(&views[2], &views[..2], &[1, 2, 3, 4]);
    nodes.link_all(&all[..but_one_and_three]);
    nodes.ask(2, &key, Ask::Unsubscribe { session_id: "2.2".into(), attachment: 1, moved: false });
    nodes.subscribe(2, &key, 3);
    nodes.settle();
    nodes.install(&views[3], &views[..3], &[1, 2, 3, 4]);
    nodes.link_all(&all);
    let list = |effect| match effect {
        Effect::Notify { notice: Notice::Presence { change: PresenceChange::List, members }, .. } => Some(members),
        _ => None,
    };
    let told = nodes.told_at(4).into_iter().filter_map(list).last().expect("the list is told");
    let told: Vec<_> = told.iter().map(|member| member.session_id.to_string()).collect();
    assert_eq!(told, present(&mut nodes, 1, &key));
}

/// A node of which gossip does not know begins a session, and all that comes of it comes with its end.
#[test]
fn who_comes_with_a_session_that_ends_at_once_leaves_with_it() {
    let all = view(1, &[1, 2]);
    let key = channel(|key| all.owner(key.point()) == Some(id(1)));
    let mut nodes = Nodes::with(2, 0, PRESENCE);
    nodes.install(&all, &[], &[1]);
    nodes.act(1, |shard, now, effects| shard.set_alive(now, [id(1)], effects));
    let with = vec![Opening { number: 1, ..Opening::default() }];
    let begin = Body::All { from: Part { index: 0, count: 1 }, say: SayAll::Begin { with } };
    let member = Member { session_id: "2.1".into(), identity: None, since_ms: 1 };
    let say = Say::Owner(ToOwner::Subscribe { number: 1, recover: None, enters: Some((member, 1)), subscribers: 1 });
    nodes.act(1, |shard, now, effects| {
        shard.session(now, id(2), Some(1), effects);
        for body in [begin, Body::Channel { key: key.clone(), say }] {
            shard.receive(now, id(2), PeerMessage { view: 1, side: false, body }, effects);
        }
        shard.session(now, id(2), None, effects);
    });
    assert_eq!(present(&mut nodes, 1, &key), ["2.1"]);
    nodes.wait(2 * RESTORE_MS);
    assert!(present(&mut nodes, 1, &key).is_empty());
}
