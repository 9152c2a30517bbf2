//! A view: the members of the cluster at one number, and the ring that follows from them.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

/// One run of a node's process; a restarted process is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NodeId {
    pub node: u64,
    /// Greater after each restart.
    pub generation: u64,
}

/// Which founding a view descends from. Ordered: the older is less, and of two that meet the younger gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ClusterId {
    /// Unix milliseconds of the founder's clock.
    pub founded_ms: u64,
    pub chance: u64,
}

/// A core node that votes on the next view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Member {
    pub id: NodeId,
    /// Its share of the ring. With none it votes and holds nothing.
    pub points: u16,
}

/// Who the members are at one number; ring, owner and copies of a channel follow from it alone.
#[derive(Clone, Serialize, Deserialize)]
#[serde(into = "Told", try_from = "Told")]
pub struct View {
    pub cluster: ClusterId,
    /// 1 for the first view of a cluster that follows no other.
    pub number: u64,
    /// Sorted, each once.
    pub members: Vec<Member>,
    /// Of the first view of a cluster: the views of a lost one that it follows, oldest first, themselves without such.
    pub origin: Vec<Arc<View>>,
    /// Every point of every member with its index in `members`, sorted.
    ring: Vec<(u64, u16)>,
    /// Where in `ring` to look for a point.
    steps: Steps,
    /// How many members have points.
    holding: usize,
}

/// Holders that [`View::nearest`] tells: more than rules can ask for.
const NEAREST_MAX: usize = 8;

impl View {
    pub fn new(cluster: ClusterId, number: u64, mut members: Vec<Member>) -> View {
        members.sort_unstable();
        members.dedup_by_key(|member| member.id);
        let ring = ring(&members);
        let holding = members.iter().filter(|member| member.points > 0).count();
        let steps = Steps::new(ring.iter().map(|(hash, _)| *hash));
        View { cluster, number, members, origin: Vec::new(), ring, steps, holding }
    }

    /// The first view of a cluster that takes over from a lost one: its numbers go on, so that an epoch that begins in it
    /// is later than all before.
    pub fn founding(cluster: ClusterId, members: Vec<Member>, origin: Vec<Arc<View>>) -> View {
        let number = origin.last().map_or(1, |last| last.number.saturating_add(1));
        View { origin, ..View::new(cluster, number, members) }
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.member(id).is_some()
    }

    pub fn member(&self, id: NodeId) -> Option<&Member> {
        let index = self.members.binary_search_by_key(&id, |member| member.id).ok()?;
        self.members.get(index)
    }

    /// Whose the point is: the member of the next point on the ring. `None` if no member has points.
    pub fn owner(&self, point: u64) -> Option<NodeId> {
        let (_, index) = self.ring.get(self.start(point)).or_else(|| self.ring.first())?;
        Some(self.members[usize::from(*index)].id)
    }

    /// The owner and then the next other members around the ring, which keep its copies; at most so many.
    pub fn holders(&self, point: u64, most: usize) -> Vec<NodeId> {
        let most = most.min(self.holding);
        let (before, after) = self.ring.split_at(self.start(point));
        let mut holders = Vec::with_capacity(most);
        for (_, index) in after.iter().chain(before) {
            if holders.len() == most {
                break;
            }
            let id = self.members[usize::from(*index)].id;
            if !holders.contains(&id) {
                holders.push(id);
            }
        }
        holders
    }

    /// The same without a list: the owner and then the next other members, at most [`NEAREST_MAX`].
    pub fn nearest(&self, point: u64) -> impl Iterator<Item = NodeId> + '_ {
        let (before, after) = self.ring.split_at(self.start(point));
        let most = NEAREST_MAX.min(self.holding);
        let (mut seen, mut count) = ([0; NEAREST_MAX], 0);
        let distinct = move |(_, index): &(u64, u16)| {
            if count == most {
                return Some(None);
            }
            if seen[..count].contains(index) {
                return None;
            }
            seen[count] = *index;
            count += 1;
            Some(Some(self.members[usize::from(*index)].id))
        };
        after.iter().chain(before).filter_map(distinct).map_while(|id| id)
    }

    /// Where on the ring other nodes hold what is there than by another view.
    pub fn difference(&self, other: &View) -> Difference {
        let hashes = |view: &View| view.ring.iter().map(|(hash, _)| *hash).collect::<Vec<_>>();
        let mut ends = [hashes(self), hashes(other)].concat();
        ends.sort_unstable();
        ends.dedup();
        let firsts = ends.iter().map(|end| {
            let pairs = self.nearest(*end).zip(other.nearest(*end));
            let same = pairs.take_while(|(a, b)| a == b).count();
            let all = same == self.nearest(*end).count() && same == other.nearest(*end).count();
            if all { NEAREST_MAX } else { same }
        });
        Difference { firsts: firsts.collect(), steps: Steps::new(ends.iter().copied()), ends }
    }

    fn start(&self, point: u64) -> usize {
        self.steps.find(&self.ring, |(hash, _)| *hash < point, point)
    }
}

/// How the holders of each point differ between two views.
#[derive(Debug, Default)]
pub struct Difference {
    /// The points at which something may change, sorted. Up to each of them, from the one before, nothing does.
    ends: Vec<u64>,
    steps: Steps,
    firsts: Vec<usize>,
}

impl Difference {
    /// The place of the first holder that is another: 0 for the owner, 1 for the first copy; at least [`NEAREST_MAX`] if none is.
    pub fn first(&self, point: u64) -> usize {
        let at = self.steps.find(&self.ends, |end| *end < point, point);
        self.firsts.get(at).or(self.firsts.first()).copied().unwrap_or(NEAREST_MAX)
    }
}

/// Tells nearly where a hash lies in a sorted list of hashes, which are spread evenly: with each view that is looked up for every
/// channel, often several times.
#[derive(Clone, Debug, Default)]
struct Steps {
    /// By the first bits of a hash: the first in the list that is not before those bits.
    starts: Vec<u32>,
    shift: u32,
}

impl Steps {
    fn new(hashes: impl ExactSizeIterator<Item = u64>) -> Steps {
        let count = hashes.len().next_power_of_two().max(2);
        let shift = u64::BITS - count.trailing_zeros();
        let (mut starts, mut index) = (Vec::with_capacity(count), 0);
        for hash in hashes {
            starts.resize(starts.len().max((hash >> shift) as usize + 1), index);
            index += 1;
        }
        starts.resize(count, index);
        Steps { starts, shift }
    }

    /// The first of the list that is not before the point.
    fn find<T>(&self, list: &[T], is_before: impl Fn(&T) -> bool, point: u64) -> usize {
        let start = self.starts.get((point >> self.shift) as usize).map_or(0, |start| *start as usize);
        start + list[start..].iter().take_while(|item| is_before(item)).count()
    }
}

/// A view as it travels.
#[derive(Serialize, Deserialize)]
struct Told {
    cluster: ClusterId,
    number: u64,
    members: Vec<Member>,
    origin: Vec<Bare>,
}

/// A view of an origin as it travels: it has no origin of its own, so nobody can send one without end.
#[derive(Serialize, Deserialize)]
struct Bare {
    cluster: ClusterId,
    number: u64,
    members: Vec<Member>,
}

/// What all members' points may be together, so that nobody can make a node build a ring without end.
const POINTS_MAX: usize = 1 << 20;

impl From<View> for Told {
    fn from(View { cluster, number, members, origin, .. }: View) -> Told {
        let bare =
            |view: &Arc<View>| Bare { cluster: view.cluster, number: view.number, members: view.members.clone() };
        Told { cluster, number, members, origin: origin.iter().map(bare).collect() }
    }
}

impl TryFrom<Told> for View {
    type Error = &'static str;

    fn try_from(Told { cluster, number, members, origin }: Told) -> Result<View, Self::Error> {
        let origin = origin.into_iter().map(|Bare { cluster, number, members }| bounded(cluster, number, members));
        let origin = origin.map(|view| view.map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        Ok(View { origin, ..bounded(cluster, number, members)? })
    }
}

fn bounded(cluster: ClusterId, number: u64, members: Vec<Member>) -> Result<View, &'static str> {
    let points: usize = members.iter().map(|member| usize::from(member.points)).sum();
    if points > POINTS_MAX {
        return Err("a view has more points than a ring may have");
    }
    Ok(View::new(cluster, number, members))
}

/// The ring follows from the rest.
impl PartialEq for View {
    fn eq(&self, other: &View) -> bool {
        let parts = |view: &View| (view.cluster, view.number);
        parts(self) == parts(other) && self.members == other.members && self.origin == other.origin
    }
}

impl Eq for View {}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let View { cluster, number, members, origin, .. } = self;
        write!(f, "View {number} of {}/{}:", cluster.founded_ms, cluster.chance)?;
        for Member { id, points } in members {
            write!(f, " {}.{}*{points}", id.node, id.generation)?;
        }
        if let Some(last) = origin.last() {
            write!(f, " from {} of {}/{}", last.number, last.cluster.founded_ms, last.cluster.chance)?;
        }
        Ok(())
    }
}

/// A restarted node takes the same points again, so the generation is left out.
fn ring(members: &[Member]) -> Vec<(u64, u16)> {
    let mut ring = Vec::with_capacity(members.iter().map(|member| usize::from(member.points)).sum());
    for (index, member) in (0..u16::MAX).zip(members) {
        ring.extend((0..member.points).map(|point| (hash(member.id.node, point), index)));
    }
    ring.sort_unstable();
    ring
}

fn hash(node: u64, point: u16) -> u64 {
    let mut bytes = [0; 10];
    bytes[..8].copy_from_slice(&node.to_le_bytes());
    bytes[8..].copy_from_slice(&point.to_le_bytes());
    xxh3_64(&bytes)
}

#[cfg(test)]
mod tests {
    use super::{ClusterId, Member, NodeId, View};

    const KEYS: u64 = 20_000;

    fn id(node: u64) -> NodeId {
        NodeId { node, generation: 1 }
    }

    fn view(members: &[(u64, u16)]) -> View {
        let members = members.iter().map(|(node, points)| Member { id: id(*node), points: *points }).collect();
        View::new(ClusterId { founded_ms: 1, chance: 2 }, 3, members)
    }

    fn keys() -> impl Iterator<Item = u64> {
        (0..KEYS).map(|key| xxhash_rust::xxh3::xxh3_64(&key.to_le_bytes()))
    }

    #[test]
    fn members_share_evenly() {
        let view = view(&[(1, 128), (2, 128), (3, 128), (4, 128), (5, 128)]);
        for member in &view.members {
            let share = keys().filter(|key| view.owner(*key) == Some(member.id)).count() as f64 / KEYS as f64;
            assert!((0.15..0.25).contains(&share), "{member:?} owns {share}");
        }
    }

    #[test]
    fn a_step_moves_keys_to_the_joiner_only() {
        let before = view(&[(1, 128), (2, 128), (3, 32)]);
        let after = view(&[(1, 128), (2, 128), (3, 64)]);
        let moved: Vec<u64> = keys().filter(|key| before.owner(*key) != after.owner(*key)).collect();
        assert!(!moved.is_empty() && moved.len() < KEYS as usize / 5, "{} moved", moved.len());
        assert!(moved.iter().all(|key| after.owner(*key) == Some(id(3))));
    }

    #[test]
    fn a_death_moves_keys_of_the_dead_to_their_first_copy() {
        let before = view(&[(1, 128), (2, 128), (3, 128)]);
        let after = view(&[(1, 128), (3, 128)]);
        for key in keys() {
            match before.holders(key, 2)[..] {
                [owner, copy] if owner == id(2) => assert_eq!(after.owner(key), Some(copy)),
                [owner, _] => assert_eq!(after.owner(key), Some(owner)),
                _ => panic!("two holders were asked for"),
            }
        }
    }

    #[test]
    fn a_restart_moves_nothing() {
        let before = view(&[(1, 128), (2, 128)]);
        let restarted = Member { id: NodeId { node: 2, generation: 9 }, points: 128 };
        let after = View::new(before.cluster, 4, vec![before.members[0], restarted]);
        assert!(keys().all(|key| before.owner(key).map(|id| id.node) == after.owner(key).map(|id| id.node)));
    }

    #[test]
    fn holders_are_distinct_and_begin_with_the_owner() {
        let view = view(&[(1, 128), (2, 0), (3, 128), (4, 7)]);
        for key in keys() {
            let holders = view.holders(key, 9);
            assert_eq!(holders.first().copied(), view.owner(key));
            let mut sorted = holders.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, [id(1), id(3), id(4)]);
            assert_eq!(view.holders(key, 2), holders[..2]);
            assert_eq!(view.nearest(key).collect::<Vec<_>>(), holders);
        }
    }

    #[test]
    fn a_difference_is_that_of_the_holders() {
        let views = [
            view(&[(1, 128), (2, 128), (3, 128)]),
            view(&[(1, 128), (2, 128), (3, 128), (4, 64)]),
            view(&[(1, 128), (3, 128), (4, 128)]),
            view(&[(2, 1)]),
            view(&[(1, 0)]),
        ];
        for (a, b) in views.iter().flat_map(|a| views.iter().map(move |b| (a, b))) {
            let difference = a.difference(b);
            for key in keys().step_by(40).chain([0, u64::MAX]) {
                let (a, b) = (a.holders(key, 8), b.holders(key, 8));
                let first = (0..8).find(|at| a.get(*at) != b.get(*at));
                assert_eq!(difference.first(key), first.unwrap_or(super::NEAREST_MAX), "{a:?} and {b:?}");
            }
        }
    }

    #[test]
    fn the_ring_closes() {
        let view = view(&[(1, 1), (2, 1)]);
        assert_eq!(view.owner(u64::MAX), view.owner(0));
        assert!(view.holders(u64::MAX, 0).is_empty());
    }

    #[test]
    fn without_points_there_is_no_owner() {
        assert_eq!(view(&[(1, 0)]).owner(5), None);
        assert!(view(&[]).holders(5, 3).is_empty());
    }

    #[test]
    fn members_are_sorted_and_found() {
        let view = view(&[(3, 1), (1, 2), (3, 5)]);
        assert_eq!(view.members.iter().map(|member| member.id).collect::<Vec<_>>(), [id(1), id(3)]);
        assert!(view.contains(id(3)) && !view.contains(id(2)));
        assert_eq!(view.member(id(1)).map(|member| member.points), Some(2));
    }
}
