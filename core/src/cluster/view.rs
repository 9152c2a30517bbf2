//! A view: the members on which a cluster has agreed, and what follows from it alone.

use xxhash_rust::xxh3::xxh3_64_with_seed;

/// One run of a node's process; a restarted process is another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId {
    pub node: u64,
    pub generation: u64,
}

/// Which founding a view descends from; the younger of two gives way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClusterId {
    pub founded_ms: u64,
    pub chance: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub id: NodeId,
    pub points: u16,
}

#[derive(Clone, Debug)]
pub struct View {
    pub cluster: ClusterId,
    pub number: u64,
    pub members: Vec<Member>,
    ring: Vec<(u64, u16)>,
}

impl View {
    pub fn new(cluster: ClusterId, number: u64, mut members: Vec<Member>) -> View {
        members.sort_by_key(|member| member.id);
        let points = |(at, member): (usize, &Member)| {
            let node = member.id.node.to_le_bytes();
            (0..member.points)
                .map(move |point| (xxh3_64_with_seed(&node, u64::from(point)), at as u16))
                .collect::<Vec<_>>()
        };
        let mut ring: Vec<_> = members.iter().enumerate().flat_map(points).collect();
        ring.sort_unstable();
        View { cluster, number, members, ring }
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.members.iter().any(|member| member.id == id)
    }

    pub fn owner(&self, point: u64) -> Option<NodeId> {
        self.holders(point, 1).first().copied()
    }

    pub fn holders(&self, point: u64, most: usize) -> Vec<NodeId> {
        let start = self.ring.partition_point(|(hash, _)| *hash < point);
        let mut holders = Vec::with_capacity(most);
        for (_, at) in self.ring[start..].iter().chain(&self.ring[..start]) {
            let id = self.members[usize::from(*at)].id;
            if !holders.contains(&id) {
                holders.push(id);
                if holders.len() == most {
                    break;
                }
            }
        }
        holders
    }
}
