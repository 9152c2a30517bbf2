//! What an application holds: the client and its subscriptions.

use std::{
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use appsockets_proto::client::{AuthResponse, HistoryRequest, HistoryResponse};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::{
    event::{Ack, End, Error, Event, Publish},
    machine::Answer,
    options::{Credentials, Options},
    task::{self, Command, Wish},
};

/// Commands that the task has not taken yet; it takes them at once, so this is no queue for them to wait in.
const COMMANDS_MAX: usize = 64;

/// A client; its clones share one connection, which a task of its own holds. When the last clone and the last
/// subscription are dropped it closes.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    commands: mpsc::Sender<Command>,
    /// Subscriptions that were dropped; at most one entry for each that there was.
    left: mpsc::UnboundedSender<u64>,
    last_id: AtomicU64,
    buffer: usize,
    end: Arc<OnceLock<End>>,
    connections: Arc<AtomicU64>,
}

impl Client {
    /// Begins to connect, and goes on trying until [`Client::close`] or a reason that only people can remove. To be called
    /// within a tokio runtime. Fails with [`Error::BadUrl`].
    pub fn connect(options: Options) -> Result<Client, Error> {
        let (commands, commanded) = mpsc::channel(COMMANDS_MAX);
        let (left, leaving) = mpsc::unbounded_channel();
        let (end, connections) = (Arc::new(OnceLock::new()), Arc::new(AtomicU64::new(0)));
        task::spawn(&options, commanded, leaving, end.clone(), connections.clone())?;
        let last_id = AtomicU64::new(0);
        let shared = Shared { commands, left, last_id, buffer: options.buffer.max(1), end, connections };
        Ok(Client { shared: Arc::new(shared) })
    }

    /// Subscribes. What comes of the channel begins with a Position, or ends with the reason why there is none. One client
    /// has at most one subscription to a channel at a time; the next begins when the node has ended the one before.
    /// Fails with [`Error::Closed`].
    pub async fn subscribe(&self, channel: impl Into<String>) -> Result<Subscription, Error> {
        self.open(channel.into(), None).await
    }

    /// The same, beginning after a serial that the application knows of an earlier subscription.
    pub async fn subscribe_since(
        &self,
        channel: impl Into<String>,
        serial: impl Into<String>,
    ) -> Result<Subscription, Error> {
        self.open(channel.into(), Some(serial.into())).await
    }

    /// Publishes, and waits for the node to accept it. Publishes go out in the order in which these futures are first
    /// polled; dropping one does not take its message back.
    pub async fn publish(
        &self,
        channel: impl Into<String>,
        event: impl Into<String>,
        payload: impl Into<Bytes>,
    ) -> Result<Ack, Error> {
        let (channel, event, payload) = (channel.into(), event.into(), payload.into());
        self.publish_with(Publish { channel, event, payload, ..Publish::default() }).await
    }

    /// The same with everything that a publish can have.
    pub async fn publish_with(&self, publish: Publish) -> Result<Ack, Error> {
        match self.ask(Wish::Publish(publish)).await? {
            Answer::Ack(ack) => Ok(ack),
            Answer::Page(_) | Answer::Auth(_) => Err(Error::Closed),
        }
    }

    /// A page of stored messages; the channel and the request id of the query are filled in. Fails as
    /// [`Client::authenticate`] does.
    pub async fn history(&self, channel: impl Into<String>, query: HistoryRequest) -> Result<HistoryResponse, Error> {
        match self.ask(Wish::History(HistoryRequest { channel: channel.into(), ..query })).await? {
            Answer::Page(page) => Ok(page),
            Answer::Ack(_) | Answer::Auth(_) => Err(Error::Closed),
        }
    }

    /// Says who the client is from now on. Credentials that work are shown again in each new session. Fails with
    /// [`Error::Refused`], [`Error::TooLarge`], [`Error::QueueFull`] or [`Error::Closed`].
    pub async fn authenticate(&self, credentials: Credentials) -> Result<AuthResponse, Error> {
        match self.ask(Wish::Authenticate(credentials)).await? {
            Answer::Auth(response) => Ok(response),
            Answer::Ack(_) | Answer::Page(_) => Err(Error::Closed),
        }
    }

    /// Leaves: nothing is kept for the session. Publishes without an answer end with [`Error::Closed`], or with
    /// [`Error::Unknown`] where the node may have them.
    pub async fn close(&self) {
        drop(self.command(Command::Close).await);
        self.shared.commands.closed().await;
    }

    /// Why the client has ended, if it has.
    pub fn ended(&self) -> Option<&End> {
        self.shared.end.get()
    }

    /// How many connections it has made so far, that which it has now among them.
    pub fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }

    async fn open(&self, channel: String, since: Option<String>) -> Result<Subscription, Error> {
        let (sender, events) = mpsc::channel(self.shared.buffer);
        let id = self.shared.last_id.fetch_add(1, Ordering::Relaxed);
        self.command(Command::Subscribe { id, channel, since, sender }).await?;
        Ok(Subscription { id, events, client: self.clone() })
    }

    async fn ask(&self, wish: Wish) -> Result<Answer, Error> {
        let (reply, outcome) = oneshot::channel();
        self.command(Command::Ask { wish, reply }).await?;
        outcome.await.unwrap_or(Err(Error::Closed))
    }

    async fn command(&self, command: Command) -> Result<(), Error> {
        self.shared.commands.send(command).await.map_err(|_| Error::Closed)
    }
}

/// What comes of one channel, as a stream that ends after [`Event::Ended`]. Dropping it unsubscribes.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    events: mpsc::Receiver<Event>,
    client: Client,
}

impl Subscription {
    /// The next event; none after [`Event::Ended`].
    pub async fn next(&mut self) -> Option<Event> {
        self.events.recv().await
    }
}

impl Stream for Subscription {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        // The task has ended if nobody takes it.
        let _ = self.client.shared.left.send(self.id);
    }
}
