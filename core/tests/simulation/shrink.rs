//! Makes a failing plan smaller, as long as it fails.

use crate::{plan::Plan, spelled};

/// What is tried to be less, and the least that a plan of a seed can have. Time goes first: a run that ends sooner is the
/// same up to its end, while all else makes it another run.
const LEAST: [(&str, u64); 7] =
    [("quiet", 0), ("active", 100), ("clients", 1), ("channels", 1), ("nodes", 3), ("workers", 1), ("edges", 0)];

/// What is tried to be simpler at one stroke.
const SIMPLER: [(&str, u64); 10] = [
    ("required", 0),
    ("crash", 0),
    ("break", 0),
    ("cut", 0),
    ("pause", 0),
    ("suspect", 0),
    ("leave", 0),
    ("majority", 0),
    ("delay", 1),
    ("close", 60_000),
];

/// The smallest plan that is found to fail. `fails` gives back a plan that does, perhaps with another seed, or none if
/// it has tried enough; from then on it has to give none.
pub fn shrink(mut plan: Plan, mut fails: impl FnMut(&Plan) -> Option<Plan>) -> Plan {
    plan.quiet_after_ms = plan.quiet_after_ms.min(plan.active_ms);
    loop {
        let mut smaller = false;
        for (name, value) in SIMPLER {
            smaller |= replace(&mut plan, name, value, &mut fails);
        }
        for (name, least) in LEAST {
            smaller |= lessen(&mut plan, name, least, &mut fails);
        }
        if !smaller {
            return plan;
        }
    }
}

fn replace(plan: &mut Plan, name: &str, value: u64, fails: &mut impl FnMut(&Plan) -> Option<Plan>) -> bool {
    if spelled::get(plan, name) == Some(value) {
        return false;
    }
    match spelled::with(plan, name, value).and_then(|smaller| fails(&smaller)) {
        Some(found) => {
            *plan = found;
            true
        }
        None => false,
    }
}

/// Looks for the least value that fails, by halves.
fn lessen(plan: &mut Plan, name: &str, least: u64, fails: &mut impl FnMut(&Plan) -> Option<Plan>) -> bool {
    let Some(now) = spelled::get(plan, name).filter(|now| *now > least) else { return false };
    if replace(plan, name, least, fails) {
        return true;
    }
    // Times are in steps of 10 ms, and a hundredth less is not worth another round.
    let close = if now > 100 { now / 50 } else { 1 };
    let (mut passes, mut failing) = (least, now);
    while failing - passes > close {
        let middle = passes + (failing - passes) / 2;
        if replace(plan, name, middle, fails) {
            failing = middle;
        } else {
            passes = middle;
        }
    }
    failing < now
}

#[test]
fn what_is_not_needed_goes() {
    let needs = |plan: &Plan| plan.clients >= 3 && plan.faults.cut > 0 && plan.active_ms >= 1_500 && plan.nodes > 3;
    let start = (0..).map(Plan::of).find(|plan| needs(plan) && plan.faults.crash > 0).unwrap();
    let small = shrink(start, |plan| needs(plan).then(|| plan.clone()));
    assert_eq!((small.clients, small.channels, small.nodes, small.workers), (3, 1, 4, 1));
    assert_eq!((small.faults.crash, small.faults.pause, small.quiet_after_ms), (0, 0, 0));
    assert!(small.faults.cut > 0 && (1_500..1_600).contains(&small.active_ms));
}
