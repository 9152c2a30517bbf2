//! Times, counted in buckets that are narrow in proportion: within 4 % of each value, in the memory of a page.

/// Buckets to each doubling.
const STEPS: u64 = 32;

/// How many values of which size there were, in microseconds.
#[derive(Clone, Debug, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: u64,
}

impl Histogram {
    pub fn add(&mut self, value_us: u64) {
        let at = bucket(value_us);
        if self.counts.len() <= at {
            self.counts.resize(at + 1, 0);
        }
        self.counts[at] += 1;
        self.total += 1;
        self.max = self.max.max(value_us);
    }

    pub fn merge(&mut self, other: &Histogram) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        self.counts.iter_mut().zip(&other.counts).for_each(|(own, count)| *own += count);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// The value that so many of ten thousand are at most; of none, 0.
    pub fn quantile(&self, of_ten_thousand: u64) -> u64 {
        let rank = (self.total * of_ten_thousand).div_ceil(10_000);
        let mut seen = 0;
        for (at, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return highest(at).min(self.max);
            }
        }
        self.max
    }

    pub fn max(&self) -> u64 {
        self.max
    }
}

/// Each doubling has as many buckets: the leading bits of a value name its own.
fn bucket(value: u64) -> usize {
    let shift = (u64::BITS - value.leading_zeros()).saturating_sub(STEPS.ilog2() + 1);
    usize::try_from(u64::from(shift) * STEPS + (value >> shift)).unwrap_or(usize::MAX)
}

/// The largest value of a bucket.
fn highest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use super::{Histogram, bucket, highest};

    #[test]
    fn every_value_is_near_the_end_of_its_bucket() {
        let mut last = 0;
        for value in (0..200_000).chain([1 << 40, (1 << 40) + 1, 1 << 50]) {
            let (at, top) = (bucket(value), highest(bucket(value)));
            assert!(at >= last && top >= value && top - value <= value / 32, "{value}: {at} up to {top}");
            last = at;
        }
    }

    #[test]
    fn quantiles_are_values_that_occurred() {
        let (mut low, mut high) = (Histogram::default(), Histogram::default());
        (1..=50).for_each(|value| low.add(value));
        (51..=100).for_each(|value| high.add(value));
        low.merge(&high);
        assert_eq!((low.quantile(1), low.quantile(5_000), low.quantile(10_000)), (1, 50, 100));
        assert_eq!(Histogram::default().quantile(5_000), 0);
    }
}
