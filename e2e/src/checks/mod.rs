//! What is shown.

pub mod changes;
pub mod chart;
pub mod deletion;
pub mod edges;
pub mod failures;
pub mod gitops;
pub mod idle;
pub mod plugin;
pub mod quickstart;
pub mod refused;
pub mod rights;
pub mod rollout;
pub mod scale;
pub mod tenants;
pub mod upgrade;

use std::time::Duration;

/// The value below which a share of all lies.
pub fn percentile(sorted: &[Duration], share: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let index = (last as f64 * share).round() as usize;
    sorted.get(index.min(last)).copied().unwrap_or_default()
}

/// Chance that is the same in each run.
pub struct Chance(u64);

impl Chance {
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below a bound (splitmix64).
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % bound.max(1) as u64) as usize
    }

    pub fn either(&mut self) -> bool {
        self.below(2) == 0
    }
}
