//! The whole node as its users see it: real sockets, a real database, clients that others wrote.

mod authentication;
mod client;
mod cluster;
mod drain;
mod http;
mod hubs;
mod keys;
mod limits;
mod metadata;
mod nats;
#[path = "../../src/auth/tests/nats_server.rs"]
mod nats_server;
mod operator;
mod presence;
mod process;
mod provider;
mod publishing;
mod raw;
mod recovery;
mod restoring;
mod server;
mod sessions;
mod settings;
mod slow;
mod sse;
mod streams;
mod tokens;
mod users;
mod web;

use std::time::Duration;

/// No test waits longer than this for anything. It only ends those that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// The outcome of what must come at some time.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// Tries again and again until it holds.
async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "it never came to hold");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
