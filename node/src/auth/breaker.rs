//! The circuit breaker: when a provider that keeps failing is left alone, and when it is tried again. Pure: the time
//! is an argument, in milliseconds of a clock that never goes back.
//!
//! Closed, every call passes. After some failures in a row it opens, and no call passes. When it was open for long
//! enough, one call passes as a probe: its success closes the breaker, its failure opens it again.

/// The state of one provider.
#[derive(Debug)]
pub struct Breaker {
    failures_max: u32,
    open_ms: u64,
    state: State,
    /// Counts the changes of state, so that a call that began before the last one has no say in what came after.
    generation: u64,
}

/// The right to one call. Goes back with [`Breaker::report`] or [`Breaker::abandon`].
#[derive(Debug)]
pub struct Pass {
    generation: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed { failures: u32 },
    Open { until_ms: u64 },
    Probing,
}

impl Breaker {
    /// Opens after `failures_max` failures in a row, at least one, for `open_ms` milliseconds.
    pub fn new(failures_max: u32, open_ms: u64) -> Self {
        Breaker { failures_max: failures_max.max(1), open_ms, state: State::Closed { failures: 0 }, generation: 0 }
    }

    /// Whether a call would be refused now.
    pub fn refuses(&self, now_ms: u64) -> bool {
        match self.state {
            State::Closed { .. } => false,
            State::Open { until_ms } => now_ms < until_ms,
            State::Probing => true,
        }
    }

    /// None: the provider must be left alone.
    pub fn admit(&mut self, now_ms: u64) -> Option<Pass> {
        if self.refuses(now_ms) {
            return None;
        }
        if matches!(self.state, State::Open { .. }) {
            self.turn(State::Probing);
        }
        Some(Pass { generation: self.generation })
    }

    /// How a call ended.
    pub fn report(&mut self, pass: Pass, healthy: bool, now_ms: u64) {
        if pass.generation != self.generation {
            return;
        }
        match self.state {
            State::Closed { .. } if healthy => self.state = State::Closed { failures: 0 },
            State::Closed { failures } if failures + 1 < self.failures_max => {
                self.state = State::Closed { failures: failures + 1 };
            }
            State::Probing if healthy => self.turn(State::Closed { failures: 0 }),
            State::Closed { .. } | State::Probing => {
                self.turn(State::Open { until_ms: now_ms.saturating_add(self.open_ms) });
            }
            State::Open { .. } => {}
        }
    }

    /// Nobody knows how a call ended. If it was the probe, the next call is.
    pub fn abandon(&mut self, pass: Pass, now_ms: u64) {
        if pass.generation == self.generation && self.state == State::Probing {
            self.turn(State::Open { until_ms: now_ms });
        }
    }

    fn turn(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::Breaker;
    use proptest::prelude::*;

    #[test]
    fn it_opens_probes_and_closes() {
        let mut breaker = Breaker::new(2, 100);
        for now in [0, 1] {
            let pass = breaker.admit(now).expect("closed");
            breaker.report(pass, false, now);
        }
        assert!(breaker.admit(100).is_none(), "open until 101");
        let probe = breaker.admit(101).expect("the probe");
        assert!(breaker.admit(1_000).is_none(), "one probe at a time");
        breaker.report(probe, false, 1_000);
        assert!(breaker.admit(1_099).is_none());
        let probe = breaker.admit(1_100).expect("the second probe");
        breaker.report(probe, true, 1_100);
        assert!(breaker.admit(1_100).is_some() && breaker.admit(1_100).is_some());
    }

    #[test]
    fn an_abandoned_probe_gives_its_place_to_the_next() {
        let mut breaker = Breaker::new(1, 100);
        let pass = breaker.admit(0).expect("closed");
        breaker.report(pass, false, 0);
        let probe = breaker.admit(100).expect("the probe");
        breaker.abandon(probe, 150);
        assert!(breaker.admit(150).is_some());
        assert!(breaker.admit(150).is_none());
    }

    #[test]
    fn a_late_answer_neither_closes_nor_opens() {
        let mut breaker = Breaker::new(1, 100);
        let (late, first) = (breaker.admit(0).expect("closed"), breaker.admit(0).expect("closed"));
        breaker.report(first, false, 0);
        breaker.report(late, true, 1);
        assert!(breaker.admit(2).is_none(), "a success from before says nothing of now");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Admit,
        Report { index: usize, healthy: bool },
        Abandon { index: usize },
        Wait { ms: u64 },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => Just(Step::Admit),
            3 => (0..8usize, any::<bool>()).prop_map(|(index, healthy)| Step::Report { index, healthy }),
            1 => (0..8usize).prop_map(|index| Step::Abandon { index }),
            1 => (0..150u64).prop_map(|ms| Step::Wait { ms }),
        ]
    }

    proptest! {
        /// Whatever calls do: without failures in a row it never refuses; a refusal ends by itself or with the probe.
        #[test]
        fn it_refuses_only_after_failures_and_never_for_ever(steps in prop::collection::vec(step(), 0..200)) {
            let (mut breaker, mut now, mut passes) = (Breaker::new(3, 100), 0, Vec::new());
            let mut failures_in_all = 0;
            for step in steps {
                match step {
                    Step::Admit => {
                        prop_assert_eq!(breaker.refuses(now), !{
                            let pass = breaker.admit(now);
                            let admitted = pass.is_some();
                            passes.extend(pass);
                            admitted
                        });
                    }
                    Step::Report { index, healthy } if index < passes.len() => {
                        failures_in_all += u32::from(!healthy);
                        breaker.report(passes.swap_remove(index), healthy, now);
                    }
                    Step::Abandon { index } if index < passes.len() => breaker.abandon(passes.swap_remove(index), now),
                    Step::Report { .. } | Step::Abandon { .. } => {}
                    Step::Wait { ms } => now += ms,
                }
                prop_assert!(failures_in_all >= 3 || !breaker.refuses(now));
            }
            for pass in passes {
                breaker.abandon(pass, now);
            }
            let probe = breaker.admit(now + 100);
            prop_assert!(probe.is_some(), "with no call under way, one is admitted after the time");
            breaker.report(probe.expect("just checked"), true, now + 100);
            prop_assert!(!breaker.refuses(now + 100));
        }
    }
}
