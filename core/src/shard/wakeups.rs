//! When which channel wants to be looked at.

use std::{cmp::Reverse, collections::BinaryHeap};

use crate::channel::ChannelKey;

/// Due times of channels. A channel's own `wake_ms` says which entry counts, so entries are never searched for.
#[derive(Debug, Default)]
pub struct Wakeups {
    heap: BinaryHeap<Reverse<(u64, ChannelKey)>>,
}

impl Wakeups {
    /// Sees to it that the channel is looked at by then. An entry for an earlier time stays, and asks again then, so a
    /// channel in steady use has one entry and not one for each use.
    pub fn set(&mut self, key: &ChannelKey, scheduled_ms: &mut Option<u64>, at_ms: Option<u64>) {
        let Some(at_ms) = at_ms else { return };
        if scheduled_ms.is_none_or(|scheduled_ms| scheduled_ms > at_ms) {
            *scheduled_ms = Some(at_ms);
            self.heap.push(Reverse((at_ms, key.clone())));
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.heap.peek().map(|Reverse((at_ms, _))| *at_ms)
    }

    pub fn pop_due(&mut self, now_ms: u64) -> Option<(ChannelKey, u64)> {
        if self.next()? > now_ms {
            return None;
        }
        self.heap.pop().map(|Reverse((at_ms, key))| (key, at_ms))
    }
}
