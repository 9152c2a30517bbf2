//! When which session is due. Coarse, because heartbeats and time-outs may be a little late, and lazy: a deadline that
//! moves away is found out when the old one comes.

use std::collections::BTreeMap;

use appsockets_core::fanout::Subscriber;

/// Deadlines are rounded up to this, in milliseconds.
const GRAIN_MS: u64 = 64;

/// Not scheduled.
pub const NEVER: u64 = u64::MAX;

#[derive(Debug, Default)]
pub struct Timers {
    buckets: BTreeMap<u64, Vec<Subscriber>>,
}

impl Timers {
    /// Sees to it that the subscriber is due by then. `scheduled` is the subscriber's own mark of its earliest entry;
    /// an entry that differs from it no longer counts.
    pub fn set(&mut self, subscriber: Subscriber, scheduled: &mut u64, due_ms: u64) {
        let bucket = due_ms.div_ceil(GRAIN_MS);
        if bucket < *scheduled {
            *scheduled = bucket;
            self.buckets.entry(bucket).or_default().push(subscriber);
        }
    }

    /// When something is due, in `Now::mono_ms`.
    pub fn next(&self) -> Option<u64> {
        self.buckets.keys().next().map(|bucket| bucket * GRAIN_MS)
    }

    /// A bucket that is due, with the mark that its valid entries carry.
    pub fn pop_due(&mut self, now_ms: u64) -> Option<(u64, Vec<Subscriber>)> {
        if self.next()? > now_ms {
            return None;
        }
        self.buckets.pop_first()
    }
}
