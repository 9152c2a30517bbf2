//! The client with a real node, and with connections that break.

mod cases;
mod proxy;
mod server;

use std::time::Duration;

use appsockets_client::{Event, Subscription};

/// No test waits longer than this for anything. It only ends those that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(60);

/// The outcome of what must come at some time.
async fn in_time<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, what).await.expect("it comes in time")
}

/// The text of the next message, which nothing is missing before.
async fn next_text(subscription: &mut Subscription) -> String {
    loop {
        match in_time(subscription.next()).await {
            Some(Event::Message(message)) => return String::from_utf8(message.payload.to_vec()).unwrap(),
            Some(Event::Position(position)) => assert_ne!(position.recovered, Some(false)),
            other => panic!("no message: {other:?}"),
        }
    }
}

/// What the next Position says of recovery. Messages must not come before it.
async fn next_position(subscription: &mut Subscription) -> Option<bool> {
    match in_time(subscription.next()).await {
        Some(Event::Position(position)) => position.recovered,
        other => panic!("no position: {other:?}"),
    }
}
