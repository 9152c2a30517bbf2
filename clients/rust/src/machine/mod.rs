//! Everything that the client decides, without sockets, clock or chance: inputs come with the time and a random number,
//! outputs are carried out by the shell.

mod backoff;
mod channels;
mod leaves;
mod publishes;
mod receive;
mod requests;
mod size;
#[cfg(test)]
mod tests;

use appsockets_proto::client::{
    AuthResponse, Close, Envelope, EventType, HistoryRequest, HistoryResponse, SessionRestore, SessionRestored,
};
use bytes::Bytes;
use prost::Message;

pub use backoff::Backoff;
use channels::Channels;
use publishes::Publishes;
use requests::{Kind, Requests};

use crate::{
    event::{Ack, End, Error, Event, Publish, Refusal},
    options::{Credentials, Options},
};

/// A connection that has lasted as long makes the waits begin anew.
const STABLE_MS: u64 = 10_000;
/// Until the node has told its own values.
const PING_INTERVAL_MS: u64 = 25_000;
const MESSAGE_BYTES_MAX: usize = 64 * 1024;

#[derive(Debug)]
pub enum Input {
    Start,
    /// The WebSocket is open.
    Connected,
    Broken(Break),
    /// One binary message.
    Received(Bytes),
    /// A sign of life that says nothing; also, the shell read nothing for a while, for want of room, and does again.
    Heard,
    Subscribe {
        id: u64,
        channel: String,
        since: Option<String>,
    },
    Leave {
        id: u64,
    },
    /// The key is 16 to 64 random bytes of text.
    Publish {
        token: u64,
        publish: Publish,
        key: String,
    },
    History {
        token: u64,
        request: HistoryRequest,
    },
    Authenticate {
        token: u64,
        credentials: Credentials,
    },
    Close,
    /// It is [`Machine::due_ms`].
    Tick,
}

/// How a connection, or the attempt to make one, has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Break {
    Lost,
    /// With this WebSocket close code.
    Closed(u16),
    Refused(Refusal),
    /// There was none, for this reason.
    Unreachable(String),
}

#[derive(Debug, PartialEq)]
pub enum Output {
    Connect,
    /// Give the connection up without a word, so that the session can be restored.
    Disconnect,
    Send(Bytes),
    Event {
        id: u64,
        event: Event,
    },
    Answer {
        token: u64,
        outcome: Result<Answer, Error>,
    },
    /// The last output: send what waits, then stop.
    End(End),
}

#[derive(Debug, PartialEq)]
pub enum Answer {
    Ack(Ack),
    Page(HistoryResponse),
    Auth(AuthResponse),
}

/// The time (of a clock that only goes forward), a random number, and where the outputs go.
pub struct Step<'a> {
    pub now_ms: u64,
    pub random: u64,
    pub outputs: &'a mut Vec<Output>,
}

#[derive(Debug)]
pub struct Bounds {
    pub backoff: Backoff,
    pub queue: usize,
    pub in_flight: usize,
    pub attempts: u32,
    /// Of the first connection.
    pub first_attempts: Option<u32>,
}

#[derive(Debug)]
pub struct Machine {
    bounds: Bounds,
    credentials: Option<Credentials>,
    phase: Phase,
    /// Attempts to reconnect since a connection was stable.
    attempts: u32,
    /// Whether there ever was a connection.
    connected: bool,
    restore_key: Option<String>,
    ping_interval_ms: u64,
    message_bytes_max: usize,
    heard_ms: u64,
    /// When the node wants to be left.
    leave_ms: Option<u64>,
    channels: Channels,
    publishes: Publishes,
    requests: Requests,
    /// The last request id that was used.
    last_id: i64,
}

#[derive(Debug, PartialEq)]
enum Phase {
    /// Without a connection until then.
    Waiting {
        until_ms: u64,
    },
    Connecting,
    /// Connected; the node will tell the key of the new session.
    Opening,
    Restoring,
    Authenticating {
        req_id: i64,
    },
    Ready {
        since_ms: u64,
    },
    Ended,
}

impl Machine {
    pub fn new(options: &Options) -> Machine {
        let millis = |wait: std::time::Duration| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        let backoff = Backoff { first_ms: millis(options.backoff_first), max_ms: millis(options.backoff_max) };
        let Options { queue, in_flight, attempts, first_attempts, .. } = *options;
        Machine {
            bounds: Bounds { backoff, queue, in_flight, attempts, first_attempts },
            credentials: options.credentials.clone(),
            phase: Phase::Waiting { until_ms: 0 },
            attempts: 0,
            connected: false,
            restore_key: None,
            ping_interval_ms: PING_INTERVAL_MS,
            message_bytes_max: MESSAGE_BYTES_MAX,
            heard_ms: 0,
            leave_ms: None,
            channels: Channels::default(),
            publishes: Publishes::default(),
            requests: Requests::default(),
            last_id: 0,
        }
    }

    pub fn step(&mut self, input: Input, step: &mut Step<'_>) {
        if self.phase == Phase::Ended {
            return;
        }
        match input {
            Input::Start => self.connect(step),
            Input::Connected => self.connected(step),
            Input::Broken(how) => self.broken(how, step),
            Input::Received(bytes) => self.received(bytes, step),
            Input::Heard => self.heard_ms = step.now_ms,
            Input::Subscribe { id, channel, since } => self.channels.add(id, channel, since, step),
            Input::Leave { id } => self.channels.remove(id),
            Input::Publish { token, publish, key } => {
                let req_id = self.next_id();
                self.publishes.add(req_id, token, publish, key, &self.bounds, step);
            }
            Input::History { token, request } => self.ask(token, Kind::History(request), step),
            Input::Authenticate { token, credentials } => self.ask(token, Kind::Auth(credentials), step),
            Input::Close => self.close(step),
            Input::Tick => self.tick(step),
        }
        if self.is_ready() {
            self.requests.send(self.message_bytes_max, step);
            self.channels.send(&mut self.last_id, self.message_bytes_max, step);
            self.publishes.send(&self.bounds, self.message_bytes_max, step);
        }
    }

    /// When [`Input::Tick`] is due, if nothing comes before.
    pub fn due_ms(&self) -> Option<u64> {
        match self.phase {
            Phase::Waiting { until_ms } => Some(until_ms),
            Phase::Connecting | Phase::Ended => None,
            Phase::Opening | Phase::Restoring | Phase::Authenticating { .. } => Some(self.silent_ms()),
            Phase::Ready { .. } => {
                let times = [self.channels.due_ms(), self.publishes.due_ms()];
                // What waits only for room is due already, and nothing happens before something is heard.
                let held = times.into_iter().flatten().filter(|&at_ms| at_ms > self.heard_ms);
                Some(held.chain(self.leave_ms).fold(self.silent_ms(), u64::min))
            }
        }
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready { .. })
    }

    fn connect(&mut self, step: &mut Step<'_>) {
        self.phase = Phase::Connecting;
        step.outputs.push(Output::Connect);
    }

    fn connected(&mut self, step: &mut Step<'_>) {
        self.phase = Phase::Opening;
        self.connected = true;
        self.heard_ms = step.now_ms;
    }

    /// There is no connection any more: tries again, unless somebody has to change something first.
    fn broken(&mut self, how: Break, step: &mut Step<'_>) {
        match how {
            Break::Closed(code @ 4100..=4199) => {
                self.end(End::Code { code, name: String::new(), message: String::new() }, step);
            }
            Break::Refused(refusal) if self.is_last() || self.is_final(&refusal) => {
                self.end(End::Refused(refusal), step);
            }
            Break::Unreachable(why) if self.is_last() => self.end(End::Unreachable(why), step),
            Break::Lost | Break::Closed(_) | Break::Refused(_) | Break::Unreachable(_) => self.wait(step),
        }
    }

    /// Whether no further attempt may follow this one.
    fn is_last(&self) -> bool {
        !self.connected && self.bounds.first_attempts.is_some_and(|first| self.attempts + 1 >= first)
    }

    /// Whether somebody has to change something before it is of use to connect again. Who was connected takes only a
    /// node's word for it: what stands before the nodes may have lost them for a while.
    fn is_final(&self, refusal: &Refusal) -> bool {
        if self.connected {
            refusal.failure.as_ref().is_some_and(|failure| !failure.retry)
        } else {
            matches!(refusal.status, 400 | 401 | 403 | 404)
        }
    }

    fn wait(&mut self, step: &mut Step<'_>) {
        if matches!(self.phase, Phase::Ready { since_ms } if since_ms + STABLE_MS <= step.now_ms) {
            self.attempts = 0;
        }
        // Who was told when to come back waits just so long.
        let until_ms = self.leave_ms.take().unwrap_or_else(|| {
            let wait_ms = self.bounds.backoff.wait_ms(self.attempts, step.random);
            self.attempts = self.attempts.saturating_add(1);
            step.now_ms + wait_ms
        });
        self.phase = Phase::Waiting { until_ms };
        self.channels.disconnected();
        self.publishes.disconnected();
        self.requests.disconnected();
    }

    fn tick(&mut self, step: &mut Step<'_>) {
        match self.phase {
            Phase::Waiting { until_ms } if until_ms <= step.now_ms => self.connect(step),
            Phase::Waiting { .. } | Phase::Connecting | Phase::Ended => {}
            Phase::Opening | Phase::Restoring | Phase::Authenticating { .. } | Phase::Ready { .. } => {
                let leaves = self.leave_ms.is_some_and(|leave_ms| leave_ms <= step.now_ms);
                if leaves || self.silent_ms() <= step.now_ms {
                    self.give_up(step);
                }
            }
        }
    }

    fn give_up(&mut self, step: &mut Step<'_>) {
        step.outputs.push(Output::Disconnect);
        self.wait(step);
    }

    fn close(&mut self, step: &mut Step<'_>) {
        if !matches!(self.phase, Phase::Waiting { .. } | Phase::Connecting) {
            step.send(EventType::Close, &Close::default());
        }
        self.end(End::Closed, step);
    }

    fn end(&mut self, end: End, step: &mut Step<'_>) {
        self.phase = Phase::Ended;
        self.publishes.end(step);
        self.requests.end(step);
        self.channels.end(&end, step);
        step.outputs.push(Output::End(end));
    }

    /// Takes the last session up where it broke, if there was one.
    fn restore(&mut self, key: String, step: &mut Step<'_>) {
        let before = self.restore_key.replace(key);
        let Some(restore_key) = before else { return self.begin(SessionRestored::default(), step) };
        let request = SessionRestore { restore_key, channels: self.channels.serials() };
        // Without all of its serials a session would go on from where the node stopped sending, past what was lost.
        if !step.send_if_fits(EventType::SessionRestore, &request, self.message_bytes_max) {
            return self.begin(SessionRestored::default(), step);
        }
        self.phase = Phase::Restoring;
    }

    /// The session is there, new or restored: says who the client is, unless the session knows.
    fn begin(&mut self, restored: SessionRestored, step: &mut Step<'_>) {
        let SessionRestored { user_id, subscribed_channels, .. } = restored;
        self.channels.restored(subscribed_channels.into_iter().collect(), &user_id);
        let req_id = self.next_id();
        let Some(credentials) = self.credentials.as_ref().filter(|_| user_id.is_empty()) else {
            return self.ready(step);
        };
        let request = requests::auth(req_id, credentials);
        if !step.send_if_fits(EventType::Auth, &request, self.message_bytes_max) {
            return self.end(End::Credentials(size::too_large()), step);
        }
        self.phase = Phase::Authenticating { req_id };
    }

    fn ready(&mut self, step: &mut Step<'_>) {
        self.phase = Phase::Ready { since_ms: step.now_ms };
    }

    fn ask(&mut self, token: u64, kind: Kind, step: &mut Step<'_>) {
        let req_id = self.next_id();
        self.requests.add(req_id, token, kind, &self.bounds, step);
    }

    /// When the node has been silent for so long that the connection can't be alive.
    fn silent_ms(&self) -> u64 {
        self.heard_ms + 2 * self.ping_interval_ms
    }

    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }
}

impl Step<'_> {
    fn send(&mut self, event: EventType, message: &impl Message) {
        let envelope = Envelope { event: event.into(), payload: message.encode_to_vec().into() };
        self.outputs.push(Output::Send(envelope.encode_to_vec().into()));
    }

    /// Whether it was sent: a larger message than the node takes would end the connection, and then the next one.
    fn send_if_fits(&mut self, event: EventType, message: &impl Message, bytes_max: usize) -> bool {
        let fits = size::fits(message.encoded_len(), bytes_max);
        if fits {
            self.send(event, message);
        }
        fits
    }

    fn event(&mut self, id: u64, event: Event) {
        self.outputs.push(Output::Event { id, event });
    }

    fn answer(&mut self, token: u64, outcome: Result<Answer, Error>) {
        self.outputs.push(Output::Answer { token, outcome });
    }
}
