//! A client of AppSockets. It connects again by itself, takes its session up where it broke, recovers what was missed,
//! and publishes each message once.
//!
//! ```no_run
//! use appsockets_client::{Client, Event, Options};
//!
//! # async fn example() -> Result<(), appsockets_client::Error> {
//! let client = Client::connect(Options::new("ws://127.0.0.1:8080", "demo"))?;
//! let mut news = client.subscribe("news").await?;
//! let ack = client.publish("news", "greeting", "hello").await?;
//! println!("published as {}", ack.serial);
//! while let Some(event) = news.next().await {
//!     match event {
//!         Event::Message(message) => println!("{}: {:?}", message.event, message.payload),
//!         Event::Position(position) if position.recovered == Some(false) => println!("something may be missing"),
//!         Event::Ended(reason) => println!("the subscription has ended: {reason}"),
//!         _ => {}
//!     }
//! }
//! client.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! # What is promised
//!
//! - A subscription hears each message of its channel once and in order, across reconnects too. Where something may be
//!   missing it hears a [`Event::Position`] with `recovered: Some(false)` first.
//! - A publish that is acknowledged was accepted once. One whose answer is lost with the connection is sent again with the
//!   same idempotency key and in the same order. The node remembers keys for two minutes; a publish that has no answer by
//!   then ends with [`Error::Unknown`] rather than twice in the channel. A node alone that restarts forgets its keys, so
//!   what it had accepted and not answered then can be accepted again, in the new epoch.
//! - A publish that the node refuses for the moment (`rate_limited`, `try_again` …) is tried again a few times, and those that
//!   were already under way may overtake it. With [`Options::in_flight`] of 1 nothing can.
//! - Every queue is bounded. Beyond [`Options::queue`] a request fails with [`Error::QueueFull`]. When the reader of a
//!   subscription leaves [`Options::buffer`] events waiting, the client stops reading its connection until there is room, and
//!   answers to publishes wait too: read a subscription in another task than the one that awaits publishes.

mod client;
mod event;
mod machine;
mod options;
mod task;

pub use appsockets_proto::client::{
    AuthResponse, ChannelPublish, HistoryRequest, HistoryResponse, Position, PresenceMember,
};
pub use client::{Client, Subscription};
pub use event::{Ack, End, Ended, Error, Event, Failure, Publish, Refusal};
pub use options::{Credentials, Options};
