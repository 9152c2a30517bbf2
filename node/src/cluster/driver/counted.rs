//! How many shards have come so far in a view.

use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub struct Counted(BTreeMap<u64, usize>);

impl Counted {
    /// One more has come so far in this view. Returns how many have. Views before it count no more.
    pub fn add(&mut self, view: u64) -> usize {
        self.0.retain(|other, _| *other >= view);
        let count = self.0.entry(view).or_default();
        *count += 1;
        *count
    }
}
