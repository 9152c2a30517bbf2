//! Many seeds, on all cores.

use std::{
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use crate::{bounded, options::Options, plan::Plan, summary::Summary};

/// How often it is told how far the runs are.
const NEWS: Duration = Duration::from_secs(20);

/// Runs seeds until there were enough or the time is over. Returns the plans that failed, lowest seed first.
pub fn run(from: u64, count: Option<u64>, minutes: Option<u64>, options: &Options, summary: &mut Summary) -> Vec<Plan> {
    let begun = Instant::now();
    let ends = minutes.map(|minutes| begun + Duration::from_secs(60 * minutes));
    let until = count.map_or(u64::MAX, |count| from.saturating_add(count));
    let next = AtomicU64::new(from);
    let (tell, told) = mpsc::channel();
    let mut failed = Vec::new();
    thread::scope(|scope| {
        for _ in 0..options.threads() {
            let (tell, next) = (tell.clone(), &next);
            scope.spawn(move || {
                while ends.is_none_or(|ends| Instant::now() < ends) {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let plan = options.plan(seed);
                    if seed >= until || tell.send((plan.clone(), bounded::run(&plan))).is_err() {
                        break;
                    }
                }
            });
        }
        drop(tell);
        let mut news = begun + NEWS;
        for (plan, outcome) in told {
            if outcome.is_err() {
                failed.push(plan.clone());
            }
            summary.add(&plan, outcome);
            if Instant::now() >= news {
                news += NEWS;
                eprintln!("{} s: {} seeds, {} failed", begun.elapsed().as_secs(), summary.seeds(), failed.len());
            }
            if failed.len() >= options.failures_max() {
                // Whoever runs another seed finds that nobody takes its outcome.
                break;
            }
        }
    });
    failed.sort_by_key(|plan| plan.seed);
    failed
}
