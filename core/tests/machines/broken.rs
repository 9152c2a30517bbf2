//! Machines that are broken on purpose, to show that the properties can fail.

use appsockets_core::shard::request::{Effect, Notice, Reply};
use proptest::{
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::{play::play, script::script};

/// What goes wrong in a world.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    #[default]
    None,
    DropsDelivery,
    SwapsDeliveries,
    AnswersTwice,
    ClaimsRecovery,
    DropsPresence,
    HidesGap,
    LosesLeave,
}

impl Fault {
    /// The shard's effects as the broken world passes them on.
    pub fn spoil(self, mut effects: Vec<Effect>) -> Vec<Effect> {
        let delivers = |effect: &Effect| matches!(effect, Effect::Deliver { .. });
        match self {
            Fault::DropsDelivery => effects.retain(|effect| !delivers(effect)),
            Fault::SwapsDeliveries => {
                let places: Vec<_> = (0..effects.len()).filter(|at| delivers(&effects[*at])).collect();
                if let [first, .., last] = places[..] {
                    effects.swap(first, last);
                }
            }
            Fault::AnswersTwice => {
                let answers = effects.iter().filter(|effect| matches!(effect, Effect::Answer { .. })).cloned();
                effects.extend(answers.collect::<Vec<_>>());
            }
            Fault::ClaimsRecovery => effects.iter_mut().for_each(claim_recovery),
            Fault::DropsPresence => {
                effects.retain(|e| !matches!(e, Effect::Notify { notice: Notice::Presence { .. }, .. }));
            }
            Fault::None | Fault::HidesGap | Fault::LosesLeave => {}
        }
        effects
    }

    pub fn hides_gap(self) -> bool {
        self == Fault::HidesGap
    }

    pub fn loses_leave(self) -> bool {
        self == Fault::LosesLeave
    }
}

fn claim_recovery(effect: &mut Effect) {
    if let Effect::Answer { reply: Reply::Subscribed(Ok(start)), .. } = effect
        && start.recovered == Some(false)
    {
        start.recovered = Some(true);
    }
}

/// Whether some script shows the fault.
fn shows(fault: Fault) -> bool {
    let config = Config { cases: 300, failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    runner.run(&script(60), |script| play(&script, 2, fault).map_err(TestCaseError::fail)).is_err()
}

#[test]
fn a_broken_world_is_found_out() {
    for fault in [
        Fault::DropsDelivery,
        Fault::SwapsDeliveries,
        Fault::AnswersTwice,
        Fault::ClaimsRecovery,
        Fault::DropsPresence,
        Fault::HidesGap,
        Fault::LosesLeave,
    ] {
        assert!(shows(fault), "nothing shows {fault:?}");
    }
}
