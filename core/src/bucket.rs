//! Rates: how much may pass within a second. Both meters are the generic cell rate algorithm (ITU-T I.371) with room for
//! one second at once, in microseconds so that rates up to a million per second keep their precision.

use std::sync::atomic::{AtomicU64, Ordering};

const BURST_US: u64 = 1_000_000;

/// The rate of one session. Eight bytes, because there are many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// When all that has passed would have passed at the even rate, in microseconds.
    due_us: u64,
}

impl Bucket {
    /// Whether `cost` more may pass at a rate of `per_second`. What is refused costs nothing. A cost beyond the rate
    /// passes when the bucket has room at all, and what follows waits the longer.
    pub fn take(&mut self, now_ms: u64, cost: u32, per_second: u32) -> bool {
        match next_due(self.due_us, now_ms, cost, per_second) {
            Some(due_us) => {
                self.due_us = due_us;
                true
            }
            None => false,
        }
    }
}

/// The rate of a hub on a node, shared by all workers.
#[derive(Debug, Default)]
pub struct SharedBucket {
    due_us: AtomicU64,
}

impl SharedBucket {
    /// As [`Bucket::take`].
    pub fn take(&self, now_ms: u64, cost: u32, per_second: u32) -> bool {
        let next = |due_us| next_due(due_us, now_ms, cost, per_second);
        self.due_us.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

fn next_due(due_us: u64, now_ms: u64, cost: u32, per_second: u32) -> Option<u64> {
    let now_us = now_ms.saturating_mul(1000);
    let due_us = due_us.max(now_us);
    let cost_us = u64::from(cost) * 1_000_000 / u64::from(per_second.max(1));
    (due_us - now_us < BURST_US).then(|| due_us.saturating_add(cost_us))
}

#[cfg(test)]
mod tests {
    use super::Bucket;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_more_passes_than_the_rate_and_one_second(per_second in 1u32..5000, gaps in prop::collection::vec(0u64..50, 1..400)) {
            let mut bucket = Bucket::default();
            let (mut now_ms, mut passed) = (1_000_000, 0u64);
            let start_ms = now_ms;
            for gap in gaps {
                now_ms += gap;
                passed += u64::from(bucket.take(now_ms, 1, per_second));
                let most = u64::from(per_second) * (now_ms - start_ms + 1000) / 1000 + 1;
                prop_assert!(passed <= most, "{} of {}", passed, most);
            }
        }

        #[test]
        fn an_even_rate_always_passes(per_second in 1u32..1000) {
            let mut bucket = Bucket::default();
            let gap_ms = 1000u64.div_ceil(u64::from(per_second));
            for step in 0..500 {
                prop_assert!(bucket.take(5 + step * gap_ms, 1, per_second));
            }
        }
    }
}
