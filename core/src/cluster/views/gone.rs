//! Which nodes are certainly gone: their process has ended and does nothing more.

use std::collections::BTreeMap;

use crate::cluster::view::NodeId;

/// Nodes remembered before those are forgotten that nobody speaks of any more.
const REMEMBERED_MAX: usize = 1024;

/// For each node the first generation that may live.
#[derive(Debug)]
pub struct Gone {
    me: NodeId,
    living: BTreeMap<u64, u64>,
}

impl Gone {
    pub fn new(me: NodeId) -> Gone {
        Gone { me, living: BTreeMap::from([(me.node, me.generation)]) }
    }

    pub fn is_gone(&self, id: NodeId) -> bool {
        self.living.get(&id.node).is_some_and(|living| id.generation < *living)
    }

    /// A process of that node was met, so the ones before it have ended.
    pub fn met(&mut self, id: NodeId) {
        self.raise(id.node, id.generation);
    }

    pub fn add(&mut self, id: NodeId) {
        self.raise(id.node, id.generation.saturating_add(1));
    }

    /// Whether it is time to forget some.
    pub fn is_long(&self) -> bool {
        self.living.len() > REMEMBERED_MAX
    }

    /// Forgets nodes that are not spoken of any more.
    pub fn forget(&mut self, spoken_of: impl Fn(u64) -> bool) {
        let me = self.me.node;
        self.living.retain(|node, _| *node == me || spoken_of(*node));
    }

    /// Whatever is said of this node's own end is wrong: it is here.
    fn raise(&mut self, node: u64, generation: u64) {
        if node != self.me.node {
            let living = self.living.entry(node).or_default();
            *living = generation.max(*living);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Gone, REMEMBERED_MAX};
    use crate::cluster::view::NodeId;

    fn id(node: u64, generation: u64) -> NodeId {
        NodeId { node, generation }
    }

    #[test]
    fn a_later_run_ends_the_earlier_ones() {
        let mut gone = Gone::new(id(1, 5));
        gone.met(id(2, 3));
        assert!(gone.is_gone(id(2, 2)) && !gone.is_gone(id(2, 3)));
        gone.add(id(2, 3));
        gone.met(id(2, 1));
        assert!(gone.is_gone(id(2, 3)) && !gone.is_gone(id(2, 4)));
        assert!(!gone.is_gone(id(3, 1)));
    }

    #[test]
    fn this_run_is_here() {
        let mut gone = Gone::new(id(1, 5));
        gone.add(id(1, 5));
        gone.met(id(1, 9));
        assert!(gone.is_gone(id(1, 4)) && !gone.is_gone(id(1, 5)));
    }

    #[test]
    fn it_is_bounded_by_what_is_spoken_of() {
        let mut gone = Gone::new(id(0, 1));
        for node in 1..=REMEMBERED_MAX as u64 {
            gone.add(id(node, 1));
        }
        assert!(gone.is_long());
        gone.forget(|node| node == 7);
        assert!(gone.is_gone(id(7, 1)) && gone.is_gone(id(0, 0)) && !gone.is_gone(id(8, 1)));
    }
}
