//! How long to wait.

/// Waits that double, in milliseconds.
#[derive(Clone, Copy, Debug)]
pub struct Backoff {
    pub first_ms: u64,
    pub max_ms: u64,
}

impl Backoff {
    /// The wait before an attempt: none before attempt 0, and then a random part between half and all of the first wait,
    /// of twice that, and so on.
    pub fn wait_ms(&self, attempt: u32, random: u64) -> u64 {
        let Some(doublings) = attempt.checked_sub(1) else { return 0 };
        let full = self.first_ms.saturating_mul(1 << doublings.min(32)).min(self.max_ms);
        let half = full / 2;
        half + random % (full - half + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::Backoff;

    #[test]
    fn waits_double_up_to_the_longest() {
        let backoff = Backoff { first_ms: 1_000, max_ms: 30_000 };
        assert_eq!(backoff.wait_ms(0, 7), 0);
        for (attempt, full) in [(1, 1_000), (2, 2_000), (5, 16_000), (6, 30_000), (u32::MAX, 30_000)] {
            assert_eq!(backoff.wait_ms(attempt, 0), full / 2);
            assert_eq!(backoff.wait_ms(attempt, full / 2), full);
            assert!((full / 2..=full).contains(&backoff.wait_ms(attempt, u64::MAX)));
        }
    }
}
