//! The channels that the application wants to hear, and where it stands in each.

use std::collections::{BTreeMap, BTreeSet};

use appsockets_proto::client::{
    ChannelPublish, ChannelSubscribeInfo, Error, EventType, Position, SubscribeRequest, SubscribeResponse,
};
use prost::Message;

use super::{Bounds, Step, leaves::Leaves, size};
use crate::event::{End, Ended, Event};

#[derive(Debug, Default)]
pub struct Channels {
    by_name: BTreeMap<String, Channel>,
    /// What comes of these is of a subscription that was left, and passed over. One that is wanted again is asked for
    /// when the session has left it.
    leaves: Leaves,
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
    /// It was asked for or open when the connection broke: the session may have it, if it is restored.
    Kept,
    /// Asked for with this request id, 0 for a restore. It begins with a Position.
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

    /// The application has left; so must the session, if it may have the channel.
    pub fn remove(&mut self, id: u64) {
        let Some(name) = self.by_name.iter().find(|(_, channel)| channel.id == id).map(|(name, _)| name.clone()) else {
            return;
        };
        let known = self.by_name.remove(&name).is_some_and(|channel| !matches!(channel.state, State::Wanted { .. }));
        if known {
            self.leaves.add(name);
        }
    }

    /// The node has done what [`Leaves`] asked for.
    pub fn left(&mut self, req_id: i64) {
        self.leaves.answered(req_id);
    }

    pub fn leave_refused(&mut self, req_id: i64, bounds: &Bounds, step: &Step<'_>) {
        self.leaves.refused(req_id, bounds, step);
    }

    /// The serials to restore a session with.
    pub fn serials(&self) -> Vec<ChannelSubscribeInfo> {
        let kept = self.by_name.iter().filter(|(_, channel)| channel.state == State::Kept && channel.serial.is_some());
        kept.map(|(name, channel)| info(name, channel)).collect()
    }

    pub fn disconnected(&mut self) {
        self.by_name.values_mut().for_each(|channel| match channel.state {
            State::Wanted { .. } => channel.state = State::Wanted { from_ms: 0 },
            State::Kept | State::Asked(_) | State::Open => channel.state = State::Kept,
        });
        self.leaves.disconnected();
    }

    /// The session has these channels and no others. What was kept goes on after the serial that the node was told; the
    /// rest is left, since it stands elsewhere or nobody wants it, but for the user's channel: the node adds it itself.
    pub fn restored(&mut self, mut names: BTreeSet<String>, user_id: &str) {
        self.leaves.restored(&names);
        for (name, channel) in &mut self.by_name {
            match (channel.state, names.remove(name)) {
                (State::Kept, true) => channel.state = State::Asked(0),
                (State::Kept, false) => channel.state = State::Wanted { from_ms: 0 },
                (_, true) => self.leaves.add(name.clone()),
                (_, false) => {}
            }
        }
        names.remove(&format!("u:{user_id}"));
        names.into_iter().for_each(|name| self.leaves.add(name));
    }

    /// Leaves, and asks for, the channels whose time has come.
    pub fn send(&mut self, next_id: &mut i64, bytes_max: usize, step: &mut Step<'_>) {
        self.leaves.send(next_id, bytes_max, step);
        if self.leaves.are_many() {
            return;
        }
        let Channels { by_name, leaves } = self;
        let now_ms = step.now_ms;
        let is_due = |channel: &Channel| matches!(channel.state, State::Wanted { from_ms } if from_ms <= now_ms);
        let due = by_name.iter_mut().filter(|(name, channel)| is_due(channel) && !leaves.contains(name));
        let mut due: Vec<_> = due.map(|(name, channel)| (info(name, channel), channel)).collect();
        let (mut due, mut too_large) = (&mut due[..], Vec::new());
        while !due.is_empty() {
            let mut request = SubscribeRequest { req_id: *next_id + 1, channels: Vec::new() };
            let lengths = due.iter().map(|(info, _)| info.encoded_len());
            let count = size::batch(request.encoded_len(), lengths, bytes_max);
            let (batch, rest) = std::mem::take(&mut due).split_at_mut(count.max(1));
            due = rest;
            if count == 0 {
                too_large.extend(batch.iter().map(|(info, _)| info.channel.clone()));
                continue;
            }
            *next_id += 1;
            batch.iter_mut().for_each(|(_, channel)| channel.state = State::Asked(*next_id));
            request.channels = batch.iter_mut().map(|(info, _)| std::mem::take(info)).collect();
            step.send(EventType::Subscribe, &request);
        }
        for name in too_large {
            self.end_one(&name, Ended::Refused(size::too_large()), step);
        }
    }

    pub fn due_ms(&self) -> Option<u64> {
        let wanted = self.by_name.iter().filter_map(|(name, channel)| match channel.state {
            State::Wanted { from_ms } if !self.leaves.contains(name) => Some(from_ms),
            State::Wanted { .. } | State::Kept | State::Asked(_) | State::Open => None,
        });
        let wanted = if self.leaves.are_many() { None } else { wanted.min() };
        wanted.into_iter().chain(self.leaves.due_ms()).min()
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
        if self.leaves.contains(name) {
            return;
        }
        let Some(channel) = self.by_name.get_mut(name) else { return };
        channel.attempts += 1;
        if error.retry && channel.attempts < bounds.attempts {
            let wait_ms = bounds.backoff.wait_ms(channel.attempts, step.random);
            channel.state = State::Wanted { from_ms: step.now_ms + wait_ms };
            return;
        }
        self.end_one(name, Ended::Refused(error.into()), step);
    }

    pub fn position(&mut self, mut position: Position, step: &mut Step<'_>) {
        if self.leaves.contains(&position.channel) {
            return;
        }
        let Some(channel) = self.by_name.get_mut(&position.channel) else { return };
        // The node subscribes to the user's channel by itself: that is no answer to who asks for what was missed.
        if channel.state != State::Open && channel.serial.is_some() && position.recovered.is_none() {
            return;
        }
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
            // The node promises that this does not happen; leaving and asking again with the serial makes it whole.
            Place::Beyond => {
                channel.state = State::Wanted { from_ms: 0 };
                self.leaves.add(message.channel);
            }
        }
    }

    /// Something else of a channel.
    pub fn tell(&mut self, name: &str, event: Event, step: &mut Step<'_>) {
        if let Some(channel) = self.by_name.get(name).filter(|channel| channel.state == State::Open) {
            step.event(channel.id, event);
        }
    }

    fn end_one(&mut self, name: &str, ended: Ended, step: &mut Step<'_>) {
        if let Some(channel) = self.by_name.remove(name) {
            step.event(channel.id, Event::Ended(ended));
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
