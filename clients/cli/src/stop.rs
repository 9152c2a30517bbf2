//! The ways in which a person or a program ends a command that goes on.

use std::{io, process};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::oneshot,
};

/// What shells use for a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

/// Waits for Ctrl-C or SIGTERM. A second one ends the process at once: where nobody reads what it prints it can't
/// obey the first.
pub fn asked() -> io::Result<impl Future<Output = ()>> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let (first, asked) = oneshot::channel::<()>();
    tokio::spawn(async move {
        either(&mut interrupt, &mut terminate).await;
        drop(first);
        either(&mut interrupt, &mut terminate).await;
        process::exit(INTERRUPTED);
    });
    Ok(async { drop(asked.await) })
}

async fn either(interrupt: &mut Signal, terminate: &mut Signal) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}
