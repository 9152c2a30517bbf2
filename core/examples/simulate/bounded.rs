//! One run in a thread of its own, so that one that panics or never ends is a failure like any other.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use crate::{
    broken::Fault,
    plan::Plan,
    run::{self, Tally},
};

/// A run takes some hundredths of a second.
const LONGEST: Duration = Duration::from_secs(60);

/// What the mistake of a run begins with that was given up. Its thread goes on until the program ends.
pub const ENDLESS: &str = "it has not ended";

pub fn run(plan: &Plan, fault: Fault) -> Result<Tally, String> {
    let (tell, told) = mpsc::channel();
    let this = plan.clone();
    let builder = thread::Builder::new().name(format!("seed {}", plan.seed));
    // Whoever waits may have given up: then nobody takes the outcome.
    let started = builder.spawn(move || drop(tell.send(run::run(&this, fault, false))));
    let thread = started.map_err(|error| format!("no thread: {error}"))?;
    match told.recv_timeout(LONGEST) {
        Ok(outcome) => outcome,
        Err(RecvTimeoutError::Timeout) => Err(format!("{ENDLESS} after {} s", LONGEST.as_secs())),
        Err(RecvTimeoutError::Disconnected) => Err(format!("it panicked: {}", reason(thread.join()))),
    }
}

fn reason(outcome: thread::Result<()>) -> String {
    let Err(panic) = outcome else { return String::new() };
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("for no reason that it tells").to_owned()
}
