//! One run in a thread of its own, so that one that panics or never ends is a failure like any other.

use std::{
    cell::RefCell,
    panic,
    sync::{Once, mpsc},
    thread,
    time::Duration,
};

use crate::{
    plan::Plan,
    run::{self, Tally},
};

/// A run takes some hundredths of a second.
const LONGEST: Duration = Duration::from_secs(60);

/// What the mistake of a run begins with that was given up. Its thread goes on until the program ends.
pub const ENDLESS: &str = "it has not ended";

thread_local! {
    /// Where and why this thread panicked.
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

pub fn run(plan: &Plan) -> Result<Tally, String> {
    note_panics();
    let (tell, told) = mpsc::channel();
    let this = plan.clone();
    let run = move || {
        let outcome = panic::catch_unwind(|| run::run(&this, false));
        let outcome = outcome.unwrap_or_else(|_| Err(format!("it {}", PANIC.take())));
        // Whoever waits may have given up: then nobody takes the outcome.
        drop(tell.send(outcome));
    };
    let started = thread::Builder::new().name(format!("seed {}", plan.seed)).spawn(run);
    started.map_err(|error| format!("no thread: {error}"))?;
    told.recv_timeout(LONGEST).unwrap_or_else(|_| Err(format!("{ENDLESS} after {} s", LONGEST.as_secs())))
}

/// A panic becomes the mistake of its run instead of many lines among those of others.
fn note_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| panic::set_hook(Box::new(|info| PANIC.set(info.to_string()))));
}
