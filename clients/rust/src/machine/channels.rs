//! The channels that the application wants to hear, and where it stands in each.

use std::collections::{BTreeMap, BTreeSet};

use appsockets_proto::client::{
    ChannelPublish, ChannelSubscribeInfo, Error, EventType, Position, SubscribeRequest, SubscribeResponse,
    UnsubscribeRequest,
};

use super::{Bounds, Step};
use crate::event::{End, Ended, Event};

/// Channels in one request, so that it stays well below the size of a message.
const BATCH_MAX: usize = 64;

#[derive(Debug, Default)]
pub struct Channels {
    by_name: BTreeMap<String, Channel>,
}

#[derive(Debug)]
struct Channel {
    id: u64,
    /// The last one that the application knows of.
    serial: Option<String>,
    state: State,
    /// Refusals in a row.
    attempts: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be asked for, not before this time.
    Wanted {
        from_ms: u64,
    },
    /// Asked for with this request id, 0 for a restore. What comes before the Position is of an earlier subscription.
    Asked(i64),
    Open,
}

impl Channels {
    /// What was before `since` is known.
    pub fn add(&mut self, id: u64, name: String, since: Option<String>, step: &mut Step<'_>) {
        if self.by_name.contains_key(&name) {
            return step.event(id, Event::Ended(Ended::AlreadySubscribed));
        }
        let state = State::Wanted { from_ms: 0 };
        self.by_name.insert(name, Channel { id, serial: since, state, attempts: 0 });
    }

    /// The application has left. Whether the node may know of the subscription decides what is sent.
    pub fn remove(&mut self, id: u64, connected: bool, req_id: i64, step: &mut Step<'_>) {
        let Some(name) = self.by_name.iter().find(|(_, channel)| channel.id == id).map(|(name, _)| name.clone()) else {
            return;
        };
        let known = self.by_name.remove(&name).is_some_and(|channel| !matches!(channel.state, State::Wanted { .. }));
        if connected && known {
            unsubscribe(vec![name], req_id, step);
        }
    }

    /// The serials to restore a session with.
    pub fn serials(&self) -> Vec<ChannelSubscribeInfo> {
        let known = self.by_name.iter().filter(|(_, channel)| channel.serial.is_some());
        known.map(|(name, channel)| info(name, channel)).collect()
    }

    pub fn disconnected(&mut self) {
        self.by_name.values_mut().for_each(|channel| channel.state = State::Wanted { from_ms: 0 });
    }

    /// The session has these channels already; those that the application has left meanwhile are ended.
    pub fn restored(&mut self, names: BTreeSet<String>, req_id: i64, step: &mut Step<'_>) {
        let mut left = Vec::new();
        for name in names {
            match self.by_name.get_mut(&name) {
                Some(channel) if matches!(channel.state, State::Wanted { .. }) => channel.state = State::Asked(0),
                Some(_) => {}
                None => left.push(name),
            }
        }
        for names in left.chunks(BATCH_MAX) {
            unsubscribe(names.to_vec(), req_id, step);
        }
    }

    /// Asks for the channels whose time has come.
    pub fn ask(&mut self, next_id: &mut i64, step: &mut Step<'_>) {
        let now_ms = step.now_ms;
        let is_due = |channel: &Channel| matches!(channel.state, State::Wanted { from_ms } if from_ms <= now_ms);
        let mut due: Vec<_> = self.by_name.iter_mut().filter(|(_, channel)| is_due(channel)).collect();
        for batch in due.chunks_mut(BATCH_MAX) {
            *next_id += 1;
            let channels = batch.iter().map(|(name, channel)| info(name, channel)).collect();
            batch.iter_mut().for_each(|(_, channel)| channel.state = State::Asked(*next_id));
            step.send(EventType::Subscribe, &SubscribeRequest { req_id: *next_id, channels });
        }
    }

    pub fn due_ms(&self) -> Option<u64> {
        let times = self.by_name.values().filter_map(|channel| match channel.state {
            State::Wanted { from_ms } => Some(from_ms),
            State::Asked(_) | State::Open => None,
        });
        times.min()
    }

    pub fn answered(&mut self, response: SubscribeResponse, bounds: &Bounds, step: &mut Step<'_>) {
        let asked = State::Asked(response.req_id);
        for name in response.subscribed_channels {
            // Without a Position the session had the channel already: it goes on with whatever comes next.
            if let Some(channel) = self.by_name.get_mut(&name).filter(|channel| channel.state == asked) {
                channel.state = State::Open;
            }
        }
        for error in response.errors {
            let name = error.channel.clone().unwrap_or_default();
            if self.by_name.get(&name).is_some_and(|channel| channel.state == asked) {
                self.refused(&name, error, bounds, step);
            }
        }
    }

    /// The node has ended or refused a subscription: what may work later is asked for again.
    pub fn refused(&mut self, name: &str, error: Error, bounds: &Bounds, step: &mut Step<'_>) {
        let Some(channel) = self.by_name.get_mut(name) else { return };
        channel.attempts += 1;
        if error.retry && channel.attempts < bounds.attempts {
            let wait_ms = bounds.backoff.wait_ms(channel.attempts, step.random);
            channel.state = State::Wanted { from_ms: step.now_ms + wait_ms };
            return;
        }
        let id = channel.id;
        self.by_name.remove(name);
        step.event(id, Event::Ended(Ended::Refused(error.into())));
    }

    pub fn position(&mut self, mut position: Position, step: &mut Step<'_>) {
        let Some(channel) = self.by_name.get_mut(&position.channel) else { return };
        channel.state = State::Open;
        channel.attempts = 0;
        // Of one epoch the newest counts: what the application has, it is not given again.
        match &channel.serial {
            Some(known) if position.recovered != Some(false) && is_older(&position.channel_serial, known) => {
                position.channel_serial.clone_from(known)
            }
            _ => channel.serial = Some(position.channel_serial.clone()),
        }
        step.event(channel.id, Event::Position(position));
    }

    pub fn message(&mut self, message: ChannelPublish, step: &mut Step<'_>) {
        let Some(channel) = self.by_name.get_mut(&message.channel) else { return };
        if channel.state != State::Open {
            return;
        }
        if message.retained {
            return step.event(channel.id, Event::Message(message));
        }
        let serial = message.channel_serial.as_ref().unwrap_or(&message.msg_id);
        match channel.serial.as_deref().map_or(Place::Next, |known| place(serial, known)) {
            Place::Next => {
                channel.serial = Some(serial.clone());
                step.event(channel.id, Event::Message(message));
            }
            Place::Known => {}
            // The node promises that this does not happen; asking again with the serial makes it whole.
            Place::Beyond => channel.state = State::Wanted { from_ms: 0 },
        }
    }

    /// Something else of a channel.
    pub fn tell(&mut self, name: &str, event: Event, step: &mut Step<'_>) {
        if let Some(channel) = self.by_name.get(name).filter(|channel| channel.state == State::Open) {
            step.event(channel.id, event);
        }
    }

    pub fn end(&mut self, end: &End, step: &mut Step<'_>) {
        for channel in std::mem::take(&mut self.by_name).into_values() {
            step.event(channel.id, Event::Ended(Ended::Client(end.clone())));
        }
    }
}

enum Place {
    Known,
    Next,
    Beyond,
}

fn place(serial: &str, known: &str) -> Place {
    match (parse(serial), parse(known)) {
        (Some((epoch, sequence)), Some((of, last))) if epoch == of => {
            if sequence <= last {
                Place::Known
            } else if sequence - last == 1 {
                Place::Next
            } else {
                Place::Beyond
            }
        }
        _ => Place::Beyond,
    }
}

fn is_older(serial: &str, known: &str) -> bool {
    matches!((parse(serial), parse(known)), (Some((a, x)), Some((b, y))) if a == b && x < y)
}

fn parse(serial: &str) -> Option<(&str, u64)> {
    let (epoch, sequence) = serial.rsplit_once(':')?;
    Some((epoch, sequence.parse().ok()?))
}

fn info(name: &str, channel: &Channel) -> ChannelSubscribeInfo {
    ChannelSubscribeInfo { channel: name.to_owned(), timestamp: None, channel_serial: channel.serial.clone() }
}

fn unsubscribe(channels: Vec<String>, req_id: i64, step: &mut Step<'_>) {
    step.send(EventType::Unsubscribe, &UnsubscribeRequest { req_id, channels });
}
