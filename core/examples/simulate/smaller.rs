//! Shows the smallest plan that is found to fail as another did.

use std::time::{Duration, Instant};

use crate::{bounded, plan::Plan, run::LET_GO, shrink, spelled};

/// How long a smaller plan is looked for.
const LONGEST: Duration = Duration::from_secs(60);

/// Other seeds that a smaller plan is tried with: whatever changes gives chance another course.
const SEEDS: u64 = 12;

pub fn show(plan: &Plan) {
    println!("\nseed {}: looking for a smaller plan, for {} s at most", plan.seed, LONGEST.as_secs());
    let ends = Instant::now() + LONGEST;
    let (mut runs, mut mistake) = (0, String::new());
    let smallest = shrink::shrink(plan.clone(), |smaller| {
        (0..SEEDS).find_map(|other| {
            if Instant::now() >= ends {
                return None;
            }
            runs += 1;
            // Whether a seed is a multiple of that has a meaning.
            let tried = Plan { seed: smaller.seed.wrapping_add(LET_GO * other), ..smaller.clone() };
            let failure = bounded::run(&tried).err().filter(|failure| !failure.starts_with(bounded::ENDLESS))?;
            mistake = failure;
            Some(tried)
        })
    });
    if mistake.is_empty() {
        println!("none was found in {runs} runs");
    } else {
        println!("{runs} runs later: {smallest:?}\n{mistake:.3000}");
        println!("to see it again: cargo xtask sim --seed {} --plan '{}'", smallest.seed, spelled::spell(&smallest));
    }
}
