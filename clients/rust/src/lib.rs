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
//!   same idempotency key and in the same order, for 100 s; then it ends with [`Error::Unknown`] rather than twice in
//!   the channel. This holds as long as the key is remembered: for two minutes, and only among the last 10,000 keys of
//!   the channel. Where as many other publishes are accepted before it is sent again (in 5 s at 2,000 a second), it can
//!   be accepted twice, and the client can't know. A node alone that restarts forgets its keys, so what it had accepted
//!   and not answered then can be accepted again, in the new epoch.
//! - A publish that the node refuses for the moment (`rate_limited`, `try_again` …) is tried again a few times, and those that
//!   were already under way may overtake it. With [`Options::in_flight`] of 1 nothing can.
//! - Every queue is bounded. Beyond [`Options::queue`] a request fails with [`Error::QueueFull`]. While the node still
//!   has 1,000 subscriptions that were dropped, new ones wait. When the reader of a subscription leaves
//!   [`Options::buffer`] events waiting, the client stops reading its connection until there is room, and answers to
//!   publishes wait too: read a subscription in another task than the one that awaits publishes.

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
