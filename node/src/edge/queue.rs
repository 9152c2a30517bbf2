//! What waits for each connection: linked lists in one pool, so that an empty queue owns nothing and, once the pool has
//! grown to what the worker needs, queueing allocates nothing.

use bytes::Bytes;

const NONE: u32 = u32::MAX;
/// An empty pool with room for more nodes than this is given back.
const SPARE_NODES_MAX: usize = 16 << 10;

/// The waiting bytes of one connection, first in, first out.
#[derive(Debug)]
pub(super) struct Queue {
    head: u32,
    tail: u32,
    /// How much of the head has been written.
    written: usize,
    bytes: usize,
}

impl Queue {
    pub const fn new() -> Queue {
        Queue { head: NONE, tail: NONE, written: 0, bytes: 0 }
    }

    /// How many bytes wait.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn is_empty(&self) -> bool {
        self.head == NONE
    }

    pub fn is_single(&self) -> bool {
        self.head == self.tail
    }
}

/// The nodes of all queues of a worker. Bounded by the bounds of the outboxes.
#[derive(Debug)]
pub(super) struct Pool {
    nodes: Vec<Node>,
    free: u32,
    used: usize,
}

#[derive(Debug)]
struct Node {
    bytes: Bytes,
    next: u32,
}

impl Default for Pool {
    fn default() -> Self {
        Pool { nodes: Vec::new(), free: NONE, used: 0 }
    }
}

impl Pool {
    pub fn push(&mut self, queue: &mut Queue, bytes: Bytes) {
        if bytes.is_empty() {
            return;
        }
        queue.bytes += bytes.len();
        let at = self.node(bytes);
        match queue.tail {
            NONE => queue.head = at,
            tail => self.nodes[tail as usize].next = at,
        }
        queue.tail = at;
    }

    /// The unwritten part of the head; empty if nothing waits.
    pub fn head<'a>(&'a self, queue: &Queue) -> &'a [u8] {
        match queue.head {
            NONE => &[],
            head => &self.nodes[head as usize].bytes[queue.written..],
        }
    }

    /// Copies from the front of the queue as many whole entries as fit into the buffer's room beside what it has.
    pub fn gather(&self, queue: &Queue, room: usize, buffer: &mut Vec<u8>) {
        let (mut at, mut skip) = (queue.head, queue.written);
        while at != NONE {
            let node = &self.nodes[at as usize];
            let bytes = &node.bytes[skip..];
            if buffer.len() + bytes.len() > room {
                return;
            }
            buffer.extend_from_slice(bytes);
            (at, skip) = (node.next, 0);
        }
    }

    /// Takes so many bytes off the front; at most what waits.
    pub fn advance(&mut self, queue: &mut Queue, count: usize) {
        let mut count = count.min(queue.bytes);
        queue.bytes -= count;
        while queue.head != NONE {
            let left = self.nodes[queue.head as usize].bytes.len() - queue.written;
            if count < left {
                queue.written += count;
                return;
            }
            count -= left;
            self.pop(queue);
        }
    }

    pub fn clear(&mut self, queue: &mut Queue) {
        queue.bytes = 0;
        while queue.head != NONE {
            self.pop(queue);
        }
    }

    fn node(&mut self, bytes: Bytes) -> u32 {
        self.used += 1;
        if self.free != NONE {
            let at = self.free;
            let node = &mut self.nodes[at as usize];
            self.free = node.next;
            *node = Node { bytes, next: NONE };
            return at;
        }
        self.nodes.push(Node { bytes, next: NONE });
        (self.nodes.len() - 1) as u32
    }

    fn pop(&mut self, queue: &mut Queue) {
        let at = queue.head;
        let node = &mut self.nodes[at as usize];
        queue.head = node.next;
        queue.written = 0;
        if queue.head == NONE {
            queue.tail = NONE;
        }
        *node = Node { bytes: Bytes::new(), next: self.free };
        self.free = at;
        self.used -= 1;
        if self.used == 0 && self.nodes.capacity() > SPARE_NODES_MAX {
            *self = Pool::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;
    use proptest::prelude::*;

    use super::{Pool, Queue};

    #[derive(Clone, Debug)]
    enum Step {
        Push(usize, usize),
        Advance(usize, usize),
        Clear(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0usize..3, 0usize..20).prop_map(|(queue, length)| Step::Push(queue, length)),
            2 => (0usize..3, 0usize..50).prop_map(|(queue, count)| Step::Advance(queue, count)),
            1 => (0usize..3).prop_map(Step::Clear),
        ]
    }

    proptest! {
        #[test]
        fn queues_in_one_pool_are_queues_of_bytes(steps in prop::collection::vec(step(), 0..200)) {
            let mut pool = Pool::default();
            let mut queues = [Queue::new(), Queue::new(), Queue::new()];
            let mut model: [VecDeque<u8>; 3] = Default::default();
            for (count, step) in steps.into_iter().enumerate() {
                match step {
                    Step::Push(at, length) => {
                        pool.push(&mut queues[at], Bytes::from(vec![count as u8; length]));
                        model[at].extend(std::iter::repeat_n(count as u8, length));
                    }
                    Step::Advance(at, count) => {
                        pool.advance(&mut queues[at], count);
                        model[at].drain(..count.min(model[at].len()));
                    }
                    Step::Clear(at) => {
                        pool.clear(&mut queues[at]);
                        model[at].clear();
                    }
                }
                for (queue, model) in queues.iter().zip(&model) {
                    let mut waiting = Vec::new();
                    pool.gather(queue, usize::MAX, &mut waiting);
                    prop_assert_eq!(&waiting, &Vec::from(model.clone()));
                    prop_assert!(waiting.starts_with(pool.head(queue)));
                    prop_assert_eq!(queue.bytes(), model.len());
                    prop_assert_eq!(queue.is_empty(), model.is_empty());
                }
            }
            prop_assert!(pool.nodes.len() <= 200);
            queues.iter_mut().for_each(|queue| pool.clear(queue));
            prop_assert_eq!(pool.used, 0);
        }
    }
}
