//! How long deliveries took.

/// One figure for each delivery.
#[derive(Default)]
pub struct Latencies {
    nanoseconds: Vec<u64>,
}

impl Latencies {
    pub fn add(&mut self, nanoseconds: u64) {
        self.nanoseconds.push(nanoseconds);
    }

    /// Of all deliveries, this share took at most so many microseconds. Not a number if there were none.
    pub fn percentile_us(&mut self, share: f64) -> f64 {
        let count = self.nanoseconds.len();
        if count == 0 {
            return f64::NAN;
        }
        let rank = ((count as f64 * share).ceil() as usize).clamp(1, count);
        let (_, nanoseconds, _) = self.nanoseconds.select_nth_unstable(rank - 1);
        *nanoseconds as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::Latencies;

    #[test]
    fn a_percentile_is_what_that_share_stays_within() {
        let mut latencies = Latencies::default();
        (1..=1000).rev().for_each(|us| latencies.add(us * 1000));
        assert_eq!(latencies.percentile_us(0.5), 500.0);
        assert_eq!(latencies.percentile_us(0.999), 999.0);
        assert_eq!(latencies.percentile_us(1.0), 1000.0);
        assert!(Latencies::default().percentile_us(0.5).is_nan());
    }
}
