//! Many seeds, whole and broken.

use proptest::test_runner::Config;

use crate::{chaos::run, fault::Fault};

/// One seed for two of the cases that `PROPTEST_CASES` asks for.
#[test]
fn whatever_breaks_views_stay_one_line_and_come_to_rest() {
    let seeds = 0..u64::from(Config::default().cases).div_ceil(2);
    let outcomes = seeds.map(|seed| run(seed, Fault::None).unwrap_or_else(|error| panic!("{error}")));
    let installs: u64 = outcomes.map(|outcome| outcome.installs).sum();
    assert!(installs > 0);
}

/// The first seed by which two views of one number show.
fn noticed(fault: Fault) -> Option<u64> {
    let shows = |seed: &u64| run(*seed, fault).is_err_and(|error| error.contains("two views of one number"));
    (0..20_000).find(shows)
}

#[test]
fn a_quorum_of_one_less_is_noticed() {
    assert!(noticed(Fault::FakeVotes).is_some());
}

#[test]
fn a_forgotten_promise_is_noticed() {
    assert!(noticed(Fault::ForgottenPromises).is_some());
}

#[test]
fn an_ignored_vote_is_noticed() {
    assert!(noticed(Fault::IgnoredVotes).is_some());
}
