//! Which members the next view should have. A pure function of the current ones and of what is known.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{
    view::{Member, NodeId},
    views::{gone::Gone, message::Known},
};

/// Suspicion may be wrong, so it leaves at least so many members.
const FLOOR: usize = 3;

/// Two nodes of which one can't reach the other; the lesser first.
pub type Pair = (NodeId, NodeId);

pub type Members = BTreeMap<NodeId, u16>;

/// What the next view follows from, besides the current one.
pub struct Facts<'a> {
    pub known: &'a BTreeMap<NodeId, Known>,
    pub gone: &'a Gone,
    /// Members that seem dead, and may live.
    pub suspects: BTreeSet<NodeId>,
    /// Living nodes that don't reach each other, for however short a time.
    pub apart: BTreeSet<Pair>,
    /// The same, for too long.
    pub long_apart: BTreeSet<Pair>,
    /// Whether the current view is settled.
    pub settled: bool,
    /// Whether so many views wait for being settled that only deaths may be added.
    pub crowded: bool,
    /// The points of a full member, and in how many steps it gets them.
    pub points: u16,
    pub steps: u16,
}

/// The members of the next view; `None` if the current ones are right.
pub fn wanted(members: &[Member], facts: &Facts<'_>) -> Option<Vec<Member>> {
    let current: Members = members.iter().map(|member| (member.id, member.points)).collect();
    let mut next = current.clone();
    next.retain(|id, _| !facts.gone.is_gone(*id));
    if facts.settled {
        leave(&mut next, facts);
        grow(&mut next, facts);
        admit(&mut next, step(facts), facts);
    } else if !facts.crowded && facts.suspects.len() > next.len().saturating_sub(FLOOR) {
        // What moves no channel needn't wait: a new voter is what lets the view do without a dead one.
        admit(&mut next, 0, facts);
    }
    remove_suspects(&mut next, facts);
    if !facts.crowded {
        part(&mut next, facts);
    }
    keep_a_holder(&mut next, facts);
    let next_members = || next.iter().map(|(id, points)| Member { id: *id, points: *points }).collect();
    (next != current && !next.is_empty()).then(next_members)
}

fn step(facts: &Facts<'_>) -> u16 {
    facts.points.div_ceil(facts.steps.max(1))
}

fn is_leaving(id: NodeId, facts: &Facts<'_>) -> bool {
    facts.known.get(&id).is_some_and(|known| known.leaving)
}

/// Whoever leaves gives points, and goes when it has none. The last to have points keeps them until somebody else has.
fn leave(next: &mut Members, facts: &Facts<'_>) {
    let leavers: Vec<NodeId> = next.keys().copied().filter(|id| is_leaving(*id, facts)).collect();
    for id in leavers.into_iter().rev() {
        let others_hold = next.iter().any(|(other, points)| *other != id && *points > 0);
        match next.get_mut(&id) {
            Some(0) if others_hold => drop(next.remove(&id)),
            Some(points) if others_hold => *points = points.saturating_sub(step(facts)),
            _ => {}
        }
    }
}

/// Members that have not yet all their points get more.
fn grow(next: &mut Members, facts: &Facts<'_>) {
    for (id, points) in next.iter_mut().filter(|(_, points)| **points < facts.points) {
        let stays = facts.known.get(id).is_some_and(|known| known.alive && known.core && !known.leaving);
        if stays && !facts.suspects.contains(id) {
            *points = points.saturating_add(step(facts)).min(facts.points);
        }
    }
}

/// Adds living core nodes. One that a member can't reach would soon have to be left out again.
fn admit(next: &mut Members, points: u16, facts: &Facts<'_>) {
    let joins = |known: &&Known| known.core && known.alive && !known.leaving && !facts.gone.is_gone(known.id);
    // The highest generation of an id comes last.
    let latest: BTreeMap<u64, NodeId> =
        facts.known.values().filter(joins).map(|known| (known.id.node, known.id)).collect();
    let members: Vec<NodeId> = next.keys().copied().filter(|id| !facts.suspects.contains(id)).collect();
    for id in latest.into_values() {
        let is_reached = members.iter().all(|member| !facts.apart.contains(&pair(*member, id)));
        if is_reached && !next.keys().any(|member| member.node == id.node) {
            next.insert(id, points.min(facts.points));
        }
    }
}

fn remove_suspects(next: &mut Members, facts: &Facts<'_>) {
    for id in facts.suspects.iter().rev() {
        if next.len() > FLOOR {
            next.remove(id);
        }
    }
}

/// As long as members can't reach each other, the one goes that more of them can't reach.
fn part(next: &mut Members, facts: &Facts<'_>) {
    while next.len() > FLOOR {
        let mut missed: BTreeMap<NodeId, usize> = BTreeMap::new();
        for (a, b) in &facts.long_apart {
            if next.contains_key(a) && next.contains_key(b) {
                *missed.entry(*a).or_default() += 1;
                *missed.entry(*b).or_default() += 1;
            }
        }
        let Some(most) = missed.into_iter().max_by_key(|(id, count)| (*count, *id)) else { return };
        next.remove(&most.0);
    }
}

/// When all who had points have died, the others share everything.
fn keep_a_holder(next: &mut Members, facts: &Facts<'_>) {
    if next.values().any(|points| *points > 0) {
        return;
    }
    let all_leave = next.keys().all(|id| is_leaving(*id, facts));
    for (id, points) in next.iter_mut() {
        if all_leave || !is_leaving(*id, facts) {
            *points = facts.points;
        }
    }
}

/// The two in order.
pub fn pair(a: NodeId, b: NodeId) -> Pair {
    (a.min(b), a.max(b))
}
