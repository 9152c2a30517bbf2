//! Random runs must keep what clients rely on. A failure prints the shortest script that shows it.

use proptest::prelude::*;

use crate::{broken::Fault, play::play, script::script};

/// More cases by `PROPTEST_CASES`.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    ProptestConfig { cases: 4 * config.cases, failure_persistence: None, max_shrink_iters: 20_000, ..config }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn one_worker_keeps_its_word(script in script(60)) {
        let outcome = play(&script, 1, Fault::default());
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }

    #[test]
    fn two_workers_with_late_letters_keep_their_word(script in script(80)) {
        let outcome = play(&script, 2, Fault::default());
        prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    }
}
