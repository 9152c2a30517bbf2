//! What an application chooses.

use std::time::Duration;

use bytes::Bytes;

/// How to connect. [`Options::new`] gives every bound a default.
#[derive(Clone, Debug)]
pub struct Options {
    /// `ws://` or `wss://`, host and port.
    pub url: String,
    /// Further nodes of the same cluster. Each attempt to connect goes to the next one, so that a client whose node ends
    /// is soon at another. Not needed where one address leads to any of them.
    pub other_urls: Vec<String>,
    pub hub: String,
    /// Shown in each new session.
    pub credentials: Option<Credentials>,
    /// How often it is tried to connect for the first time before the client ends with [`crate::End::Unreachable`]; without
    /// it there is no end to that, unless the answer is 400, 401, 403 or 404. Whoever was connected once always tries
    /// to be so again, unless a node says that it is of no use.
    pub first_attempts: Option<u32>,
    /// The wait before the second attempt to reconnect; the first is made at once. Each further one waits twice as long.
    pub backoff_first: Duration,
    /// The longest wait. Of each wait a random part between half and all is taken.
    pub backoff_max: Duration,
    /// Publishes without an answer, and as many other requests, beyond which [`crate::Error::QueueFull`] comes.
    pub queue: usize,
    /// Publishes that are sent before the first of them is answered; at least 1.
    pub in_flight: usize,
    /// How often a publish or a subscription is tried that the node refuses for the moment.
    pub attempts: u32,
    /// Events that may wait in one subscription before the client stops reading its connection; at least 1.
    pub buffer: usize,
}

/// Who the client is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A JWT of the tenant or of AppSockets.
    Token(String),
    /// For the hub's auth provider, as it is.
    Payload(Bytes),
}

impl Options {
    pub fn new(url: impl Into<String>, hub: impl Into<String>) -> Options {
        Options {
            url: url.into(),
            other_urls: Vec::new(),
            hub: hub.into(),
            credentials: None,
            first_attempts: None,
            backoff_first: Duration::from_secs(1),
            backoff_max: Duration::from_secs(30),
            queue: 1_000,
            in_flight: 64,
            attempts: 5,
            buffer: 256,
        }
    }
}
