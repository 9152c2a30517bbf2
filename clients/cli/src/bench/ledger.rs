//! What one subscriber has heard of each publisher.

use std::collections::BTreeSet;

/// By the numbers that a publisher gives its messages, from 0 on.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Above all that were heard.
    next: u64,
    /// Those below that were not.
    missing: BTreeSet<u64>,
    pub repeated: u64,
    pub disordered: u64,
}

impl Ledger {
    pub fn take(&mut self, number: u64) {
        if number >= self.next {
            self.missing.extend(self.next..number);
            self.next = number + 1;
        } else if self.missing.remove(&number) {
            self.disordered += 1;
        } else {
            self.repeated += 1;
        }
    }

    /// Messages that were accepted and not heard.
    pub fn lost(&self, accepted: &[bool]) -> u64 {
        let lost = accepted.iter().zip(0..).filter(|&(accepted, number)| *accepted && !self.has(number));
        lost.count() as u64
    }

    fn has(&self, number: u64) -> bool {
        number < self.next && !self.missing.contains(&number)
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;

    #[test]
    fn what_is_lost_repeated_or_late_is_told_apart() {
        let mut ledger = Ledger::default();
        for number in [0, 1, 1, 5, 3, 6] {
            ledger.take(number);
        }
        assert_eq!((ledger.repeated, ledger.disordered), (1, 1));
        // 2 and 7 are lost; 4 was refused.
        assert_eq!(ledger.lost(&[true, true, true, true, false, true, true, true]), 2);
    }
}
