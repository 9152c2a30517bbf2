//! The task that owns the connection: carries out what the machine decides, and decides nothing itself.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use appsockets_proto::client::HistoryRequest;
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout},
};

use crate::{
    event::{End, Ended, Error, Event, Publish},
    machine::{Answer, Input, Machine, Output, Step},
    options::{Credentials, Options},
    task::link::{Heard, Link},
};

mod link;

/// How long a client that ends tries to send what it has to say.
const FAREWELL: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub enum Command {
    Subscribe { id: u64, channel: String, since: Option<String>, sender: mpsc::Sender<Event> },
    Ask { wish: Wish, reply: Reply },
    Close,
}

#[derive(Debug)]
pub enum Wish {
    Publish(Publish),
    History(HistoryRequest),
    Authenticate(Credentials),
}

type Reply = oneshot::Sender<Result<Answer, Error>>;

/// Fails with [`Error::BadUrl`].
pub fn spawn(
    options: &Options,
    commands: mpsc::Receiver<Command>,
    left: mpsc::UnboundedReceiver<u64>,
    end: Arc<OnceLock<End>>,
    connections: Arc<AtomicU64>,
) -> Result<(), Error> {
    let task = Task {
        machine: Machine::new(options),
        link: Link::new(std::iter::once(&options.url).chain(&options.other_urls), &options.hub)?,
        commands,
        left,
        end,
        connections,
        start: Instant::now(),
        readers: HashMap::new(),
        backlog: VecDeque::new(),
        replies: HashMap::new(),
        last_token: 0,
    };
    tokio::spawn(task.run());
    Ok(())
}

struct Task {
    machine: Machine,
    link: Link,
    commands: mpsc::Receiver<Command>,
    left: mpsc::UnboundedReceiver<u64>,
    end: Arc<OnceLock<End>>,
    /// How many it has made.
    connections: Arc<AtomicU64>,
    start: Instant,
    readers: HashMap<u64, mpsc::Sender<Event>>,
    /// What a reader has no room for. While there is something nothing is read, so there is never much.
    backlog: VecDeque<(u64, Event)>,
    /// At most as many as the machine's queues hold.
    replies: HashMap<u64, Reply>,
    last_token: u64,
}

enum Happening {
    Left(Option<u64>),
    Command(Option<Command>),
    Link(Heard),
    Room,
    Due,
}

impl Task {
    async fn run(mut self) {
        self.input(Input::Start);
        while self.end.get().is_none() {
            let happening = self.next().await;
            self.take(happening);
        }
        drop(timeout(FAREWELL, self.link.finish()).await);
        let Task { readers, backlog, mut commands, replies, end, .. } = self;
        // From here on the handles see that the client has ended; the readers still get what waits for them.
        commands.close();
        drop(replies);
        while let Some(command) = commands.recv().await {
            // Whoever subscribed too late for the machine hears why as well.
            if let (Command::Subscribe { sender, .. }, Some(end)) = (command, end.get()) {
                drop(sender.try_send(Event::Ended(Ended::Client(end.clone()))));
            }
        }
        for (id, event) in backlog {
            if let Some(reader) = readers.get(&id) {
                drop(reader.send(event).await);
            }
        }
    }

    async fn next(&mut self) -> Happening {
        let reads = self.backlog.is_empty();
        // Who does not read can't tell whether the node is silent.
        let ticks = reads || !self.link.is_up();
        let due = self.machine.due_ms().map(|ms| self.start + Duration::from_millis(ms));
        tokio::select! {
            left = self.left.recv() => Happening::Left(left),
            command = self.commands.recv() => Happening::Command(command),
            heard = self.link.next(reads) => Happening::Link(heard),
            () = room(&self.readers, &self.backlog), if !reads => Happening::Room,
            () = sleep_until(due.unwrap_or(self.start)), if ticks && due.is_some() => Happening::Due,
        }
    }

    fn take(&mut self, happening: Happening) {
        match happening {
            Happening::Left(Some(id)) => self.leave(id),
            Happening::Command(Some(command)) => {
                // What was dropped before the command was given comes before it.
                while let Ok(id) = self.left.try_recv() {
                    self.leave(id);
                }
                self.command(command);
            }
            Happening::Left(None) | Happening::Command(None) => self.input(Input::Close),
            Happening::Link(Heard::Connected) => {
                self.connections.fetch_add(1, Ordering::Relaxed);
                self.input(Input::Connected);
            }
            Happening::Link(Heard::Message(bytes)) => self.input(Input::Received(bytes)),
            Happening::Link(Heard::Sign) => self.input(Input::Heard),
            Happening::Link(Heard::Broken(how)) => self.input(Input::Broken(how)),
            Happening::Room => {
                for (id, event) in std::mem::take(&mut self.backlog) {
                    self.deliver(id, event);
                }
                if self.backlog.is_empty() {
                    self.input(Input::Heard);
                }
            }
            Happening::Due => self.input(Input::Tick),
        }
    }

    fn command(&mut self, command: Command) {
        let (wish, reply) = match command {
            Command::Close => return self.input(Input::Close),
            Command::Subscribe { id, channel, since, sender } => {
                self.readers.insert(id, sender);
                return self.input(Input::Subscribe { id, channel, since });
            }
            Command::Ask { wish, reply } => (wish, reply),
        };
        self.last_token += 1;
        let token = self.last_token;
        self.replies.insert(token, reply);
        self.input(match wish {
            Wish::Publish(mut publish) => {
                let key = publish.key.take().unwrap_or_else(|| format!("{:016x}{:016x}", random(), random()));
                Input::Publish { token, publish, key }
            }
            Wish::History(request) => Input::History { token, request },
            Wish::Authenticate(credentials) => Input::Authenticate { token, credentials },
        });
    }

    fn leave(&mut self, id: u64) {
        self.readers.remove(&id);
        self.backlog.retain(|(of, _)| *of != id);
        self.input(Input::Leave { id });
    }

    fn input(&mut self, input: Input) {
        let mut outputs = Vec::new();
        let now_ms = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.machine.step(input, &mut Step { now_ms, random: random(), outputs: &mut outputs });
        for output in outputs {
            match output {
                Output::Connect => self.link.connect(),
                Output::Disconnect => self.link.disconnect(),
                Output::Send(bytes) => self.link.send(bytes),
                Output::Event { id, event } => self.deliver(id, event),
                Output::Answer { token, outcome } => {
                    if let Some(reply) = self.replies.remove(&token) {
                        drop(reply.send(outcome));
                    }
                }
                Output::End(end) => drop(self.end.set(end)),
            }
        }
    }

    /// Events of all subscriptions keep their order, so that nothing overtakes what waits.
    fn deliver(&mut self, id: u64, event: Event) {
        let Some(reader) = self.readers.get(&id) else { return };
        let last = matches!(event, Event::Ended(_));
        if !self.backlog.is_empty() {
            return self.backlog.push_back((id, event));
        }
        match reader.try_send(event) {
            Err(mpsc::error::TrySendError::Full(event)) => self.backlog.push_back((id, event)),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) if last => drop(self.readers.remove(&id)),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
        }
    }
}

/// Waits until the first that waits can be delivered, or its reader is gone.
async fn room(readers: &HashMap<u64, mpsc::Sender<Event>>, backlog: &VecDeque<(u64, Event)>) {
    if let Some(reader) = backlog.front().and_then(|(id, _)| readers.get(id)) {
        drop(reader.reserve().await);
    }
}

fn random() -> u64 {
    getrandom::u64().expect("the operating system gives random bytes")
}
