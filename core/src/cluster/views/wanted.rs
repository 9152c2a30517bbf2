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

/// One that became an edge node leaves the view just so.
fn is_leaving(id: NodeId, facts: &Facts<'_>) -> bool {
    facts.known.get(&id).is_some_and(|known| known.leaving || !known.core)
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
    for id in latest.into_values() {
        let mut living = next.keys().filter(|member| !facts.suspects.contains(member));
        let is_reached = living.all(|member| !facts.apart.contains(&pair(*member, id)));
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

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{Facts, Member, NodeId, pair, wanted};
    use crate::cluster::views::{gone::Gone, message::Known};

    const ME: u64 = 77;

    /// What one case is about; everything else is well.
    #[derive(Clone, Copy, Default)]
    struct Case {
        /// Node and points.
        members: &'static [(u64, u16)],
        /// Living core nodes besides the members.
        joiners: &'static [u64],
        leaving: &'static [u64],
        gone: &'static [u64],
        suspects: &'static [u64],
        apart: &'static [(u64, u64)],
        long_apart: &'static [(u64, u64)],
        unsettled: bool,
        crowded: bool,
        /// `None`: nothing is to change.
        next: Option<&'static [(u64, u16)]>,
    }

    fn id(node: u64) -> NodeId {
        NodeId { node, generation: 1 }
    }

    fn check(case: Case) {
        let nodes = case.members.iter().map(|(node, _)| node).chain(case.joiners);
        let known = nodes.map(|node| {
            let alive = !case.gone.contains(node) && !case.suspects.contains(node);
            let leaving = case.leaving.contains(node);
            (id(*node), Known { id: id(*node), core: true, leaving, alive, unreachable: Vec::new() })
        });
        let known: BTreeMap<NodeId, Known> = known.collect();
        assert_eq!(outcome(&case, &known), case.next.map(<[_]>::to_vec));
    }

    fn outcome(case: &Case, known: &BTreeMap<NodeId, Known>) -> Option<Vec<(u64, u16)>> {
        let mut gone = Gone::new(id(ME));
        case.gone.iter().for_each(|node| gone.add(id(*node)));
        let pairs = |pairs: &[(u64, u64)]| pairs.iter().map(|(a, b)| pair(id(*a), id(*b))).collect::<BTreeSet<_>>();
        let facts = Facts {
            known,
            gone: &gone,
            suspects: case.suspects.iter().map(|node| id(*node)).collect(),
            apart: &pairs(case.apart) | &pairs(case.long_apart),
            long_apart: pairs(case.long_apart),
            settled: !case.unsettled,
            crowded: case.crowded,
            points: 100,
            steps: 3,
        };
        let members: Vec<Member> = case.members.iter().map(|(node, points)| member(*node, *points)).collect();
        let next = wanted(&members, &facts)?;
        Some(next.iter().map(|member| (member.id.node, member.points)).collect())
    }

    fn member(node: u64, points: u16) -> Member {
        Member { id: id(node), points }
    }

    const THREE: &[(u64, u16)] = &[(1, 100), (2, 100), (3, 100)];
    const FOUR: &[(u64, u16)] = &[(1, 100), (2, 100), (3, 100), (4, 100)];
    const FIVE: &[(u64, u16)] = &[(1, 100), (2, 100), (3, 100), (4, 100), (5, 100)];

    #[test]
    fn when_all_is_well_nothing_changes() {
        check(Case { members: THREE, ..Case::default() });
    }

    #[test]
    fn the_dead_go_at_once() {
        let next = Some(&[(1, 100)][..]);
        check(Case { members: THREE, gone: &[2, 3], unsettled: true, crowded: true, next, ..Case::default() });
        check(Case { members: THREE, gone: &[2, 3], next, ..Case::default() });
        check(Case { members: &[(2, 100)], gone: &[2], ..Case::default() });
    }

    #[test]
    fn suspicion_leaves_three() {
        check(Case { members: THREE, suspects: &[2], ..Case::default() });
        check(Case { members: FOUR, suspects: &[2], next: Some(&[(1, 100), (3, 100), (4, 100)]), ..Case::default() });
        check(Case { members: FOUR, suspects: &[2], gone: &[4], next: Some(THREE), ..Case::default() });
        check(Case { members: FIVE, suspects: &[3, 4, 5], next: Some(THREE), ..Case::default() });
        check(Case {
            members: FOUR,
            suspects: &[4],
            crowded: true,
            unsettled: true,
            next: Some(THREE),
            ..Case::default()
        });
    }

    #[test]
    fn who_is_out_of_reach_of_more_goes() {
        let apart = Case { members: FIVE, ..Case::default() };
        let four: &[(u64, u16)] = &[(1, 100), (3, 100), (4, 100), (5, 100)];
        check(Case { long_apart: &[(2, 3), (2, 4)], next: Some(four), ..apart });
        check(Case { long_apart: &[(5, 2)], next: Some(FOUR), ..apart });
        check(Case { long_apart: &[(1, 5), (2, 4)], next: Some(THREE), ..apart });
        check(Case { apart: &[(1, 5), (2, 4)], ..apart });
        check(Case { long_apart: &[(1, 5)], crowded: true, unsettled: true, ..apart });
        check(Case { members: THREE, long_apart: &[(1, 2)], ..apart });
        check(Case { long_apart: &[(1, 9)], ..apart });
    }

    #[test]
    fn joiners_come_by_steps() {
        let join = Case { members: &[(1, 100)], joiners: &[2, 3], ..Case::default() };
        check(Case { next: Some(&[(1, 100), (2, 34), (3, 34)]), ..join });
        check(Case { unsettled: true, ..join });
        check(Case { leaving: &[2], next: Some(&[(1, 100), (3, 34)]), ..join });
        check(Case { gone: &[2], next: Some(&[(1, 100), (3, 34)]), ..join });
        check(Case { apart: &[(1, 2)], next: Some(&[(1, 100), (3, 34)]), ..join });
        check(Case { apart: &[(2, 3)], next: Some(&[(1, 100), (2, 34)]), ..join });
        check(Case { members: &[(1, 100), (2, 34)], next: Some(&[(1, 100), (2, 68)]), ..Case::default() });
        check(Case { members: &[(1, 100), (2, 68)], next: Some(&[(1, 100), (2, 100)]), ..Case::default() });
        check(Case { members: &[(1, 100), (2, 68)], suspects: &[2], ..Case::default() });
    }

    #[test]
    fn a_new_voter_lets_a_suspect_go() {
        let stuck = Case { members: THREE, joiners: &[4], suspects: &[3], unsettled: true, ..Case::default() };
        check(Case { next: Some(&[(1, 100), (2, 100), (4, 0)]), ..stuck });
        check(Case { crowded: true, ..stuck });
        check(Case { unsettled: false, next: Some(&[(1, 100), (2, 100), (4, 34)]), ..stuck });
    }

    #[test]
    fn leavers_give_their_points_and_go() {
        let leave = Case { members: &[(1, 100), (2, 100)], leaving: &[2], ..Case::default() };
        check(Case { next: Some(&[(1, 100), (2, 66)]), ..leave });
        check(Case { unsettled: true, ..leave });
        check(Case { members: &[(1, 100), (2, 32)], next: Some(&[(1, 100), (2, 0)]), ..leave });
        check(Case { members: &[(1, 100), (2, 0)], next: Some(&[(1, 100)]), ..leave });
        check(Case { members: &[(1, 100), (2, 0)], unsettled: true, ..leave });
    }

    #[test]
    fn one_that_becomes_an_edge_node_gives_its_points_and_goes() {
        let known = [(1, true), (2, false)].map(|(node, core)| {
            (id(node), Known { id: id(node), core, leaving: false, alive: true, unreachable: Vec::new() })
        });
        let known = BTreeMap::from(known);
        let next = |members| outcome(&Case { members, ..Case::default() }, &known);
        assert_eq!(next(&[(1, 100), (2, 100)]), Some(vec![(1, 100), (2, 66)]));
        assert_eq!(next(&[(1, 100), (2, 0)]), Some(vec![(1, 100)]));
        assert_eq!(next(&[(1, 100)]), None);
    }

    #[test]
    fn the_last_holder_stays() {
        let last = Case { members: &[(1, 32), (2, 32)], leaving: &[1, 2], ..Case::default() };
        check(Case { next: Some(&[(1, 32), (2, 0)]), ..last });
        check(Case { members: &[(1, 32), (2, 0)], next: Some(&[(1, 32)]), ..last });
        check(Case { members: &[(1, 32)], ..last });
        check(Case { members: &[(1, 32)], joiners: &[2], leaving: &[1], next: Some(&[(1, 32), (2, 34)]), ..last });
    }

    #[test]
    fn somebody_holds_when_the_holders_die() {
        let heirs = Case { members: &[(1, 100), (2, 0), (3, 0)], gone: &[1], unsettled: true, ..Case::default() };
        check(Case { next: Some(&[(2, 100), (3, 100)]), ..heirs });
        check(Case { leaving: &[3], next: Some(&[(2, 100), (3, 0)]), ..heirs });
        check(Case { leaving: &[2, 3], next: Some(&[(2, 100), (3, 100)]), ..heirs });
    }

    #[test]
    fn a_restarted_node_takes_its_own_place() {
        let restarted = NodeId { node: 2, generation: 2 };
        let known = [id(1), id(2), restarted, NodeId { node: 3, generation: 4 }, NodeId { node: 3, generation: 5 }];
        let known =
            known.map(|id| (id, Known { id, core: true, leaving: false, alive: true, unreachable: Vec::new() }));
        let mut gone = Gone::new(id(ME));
        known.iter().for_each(|(id, _)| gone.met(*id));
        let none = BTreeSet::new;
        let facts = Facts {
            known: &BTreeMap::from(known),
            gone: &gone,
            suspects: none(),
            apart: BTreeSet::new(),
            long_apart: BTreeSet::new(),
            settled: true,
            crowded: false,
            points: 100,
            steps: 3,
        };
        let next = wanted(&[member(1, 100), member(2, 100)], &facts).unwrap();
        let at = |node, generation, points| Member { id: NodeId { node, generation }, points };
        assert_eq!(next, [at(1, 1, 100), at(2, 2, 34), at(3, 5, 34)]);
    }
}
