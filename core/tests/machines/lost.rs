//! Nodes that are lost while another takes up what they had.

use std::sync::Arc;

use appsockets_core::{
    cluster::view::{ClusterId, Member, View},
    code::ErrorCode,
    shard::{
        peer::{Body, Move, Say},
        request::{Ask, Effect, Reply},
    },
};

use crate::{
    anew::{PRESENCE, present},
    nodes::{Letter, Nodes, channel, id, view},
};

/// A view of the first node, which holds nothing, and the last two.
fn last(number: u64) -> Arc<View> {
    let members = [(1, 0), (3, 64), (4, 64)].map(|(node, points)| Member { id: id(node), points });
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
