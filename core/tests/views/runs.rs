//! Many seeds, whole and broken. More by `VIEWS_SEEDS`, another beginning by `VIEWS_FROM`.

use crate::{chaos::run, fault::Fault};

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[test]
fn whatever_breaks_views_stay_one_line_and_come_to_rest() {
    let from = number("VIEWS_FROM", 0);
    let (mut installs, mut slowest_ms) = (0, 0);
    for seed in from..from + number("VIEWS_SEEDS", 200) {
        let outcome = run(seed, Fault::None).unwrap_or_else(|error| panic!("{error}"));
        installs += outcome.installs;
        slowest_ms = slowest_ms.max(outcome.rested_after_ms);
    }
    println!("{installs} installs, rest after {slowest_ms} ms at most");
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
