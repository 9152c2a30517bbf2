//! What the owner said of every publish, and what follows from it.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    message::{Form, Message},
    serial::{Epoch, Serial},
    shard::{
        delivery::Delivery,
        request::{Publish, Token},
    },
    time::Now,
};

/// A key is remembered for at least so long after its message was accepted.
pub const KEY_MS: u64 = 120_000;
/// A channel remembers at least so many keys.
pub const KEYS_MAX: usize = 10_000;

/// One publish as a session asked for it.
#[derive(Debug)]
pub struct Attempt {
    pub channel: ChannelKey,
    pub publish: Publish,
    session: Arc<str>,
    handled: Option<Now>,
    outcome: Option<Result<Serial, ErrorCode>>,
}

/// What stands under one number.
#[derive(Debug)]
struct Entry {
    attempt: usize,
    accepted_ms: u64,
    ts_ms: Option<u64>,
}

/// All publishes, and all numbers.
#[derive(Debug, Default)]
pub struct Ledger {
    attempts: Vec<Attempt>,
    numbers: HashMap<ChannelKey, BTreeMap<(Epoch, u64), Entry>>,
    by_key: HashMap<(ChannelKey, Arc<str>), Serial>,
    last_of_session: HashMap<(ChannelKey, Arc<str>), usize>,
    stored: HashSet<(ChannelKey, Serial)>,
}

impl Ledger {
    /// Notes a publish, and asks for its outcome in any case. The number of the token leads back to it.
    pub fn ask(&mut self, channel: &ChannelKey, session: &Arc<str>, publish: &mut Publish) {
        let (channel, session) = (channel.clone(), session.clone());
        self.attempts.push(Attempt { channel, publish: publish.clone(), session, handled: None, outcome: None });
        publish.ack = true;
        publish.token.number = self.attempts.len() as i64 - 1;
    }

    pub fn handled(&mut self, number: i64, now: Now) {
        self.attempts[number as usize].handled = Some(now);
    }

    /// Judges an answer. Returns the asker's own token if it is to be told.
    pub fn answer(
        &mut self,
        number: i64,
        outcome: Result<Serial, ErrorCode>,
        now: Now,
    ) -> Result<Option<Token>, String> {
        let index = number as usize;
        let attempt = &mut self.attempts[index];
        if attempt.outcome.replace(outcome).is_some() {
            return Err(format!("publish {index} is answered twice"));
        }
        let wanted = attempt.publish.ack || outcome.is_err();
        let token = wanted.then_some(attempt.publish.token);
        match outcome {
            Ok(serial) => self.accept(index, serial, now)?,
            Err(code) => self.refuse(index, code)?,
        }
        Ok(token)
    }

    /// These messages are durable.
    pub fn stored(&mut self, channel: &ChannelKey, messages: &[Arc<Message>]) {
        self.stored.extend(messages.iter().map(|message| (channel.clone(), message.serial)));
    }

    /// Judges what is delivered: only what was accepted, as it was accepted.
    pub fn deliver(&mut self, delivery: &Delivery) -> Result<(), String> {
        for (index, message) in delivery.messages.iter().enumerate() {
            if message.serial != (Serial { epoch: delivery.epoch, sequence: delivery.first + index as u64 }) {
                return Err(format!("{} is delivered in the place of another", message.serial));
            }
            self.see(&delivery.key, message)?;
        }
        Ok(())
    }

    /// Judges one message that a client is to get.
    pub fn see(&mut self, channel: &ChannelKey, message: &Arc<Message>) -> Result<(), String> {
        let place = (message.serial.epoch, message.serial.sequence);
        let numbers = self.numbers.entry(channel.clone()).or_default();
        let older = numbers.range(..place).rev().find_map(|(_, entry)| entry.ts_ms).unwrap_or(0);
        let newer = numbers.range((place.0, place.1 + 1)..).find_map(|(_, entry)| entry.ts_ms).unwrap_or(u64::MAX);
        let Some(entry) = numbers.get_mut(&place) else {
            return Err(format!("{} is delivered and was not accepted", message.serial));
        };
        let known = entry.ts_ms.replace(message.ts_ms);
        if known.is_some_and(|ts_ms| ts_ms != message.ts_ms) || message.ts_ms < older || message.ts_ms > newer {
            return Err(format!("{} has the time {} between {older} and {newer}", message.serial, message.ts_ms));
        }
        let asked = &self.attempts[entry.attempt].publish;
        if (&asked.payload, &asked.event) != (&message.payload, &message.event) {
            return Err(format!("{} is not the message that was accepted under it", message.serial));
        }
        Ok(())
    }

    /// Judges a retained message that a client gets on subscribing: it must be the newest up to where the client stands.
    pub fn see_retained(&self, channel: &ChannelKey, serial: Serial, position: Serial) -> Result<(), String> {
        let numbers = self.numbers.get(channel).ok_or("a retained message of an unused channel")?;
        let upto = numbers.range((position.epoch, 0)..=(position.epoch, position.sequence));
        let newest = upto.rev().find(|(_, entry)| self.attempts[entry.attempt].publish.retain);
        match newest {
            Some(((_, sequence), _)) if serial == (Serial { sequence: *sequence, ..position }) => Ok(()),
            _ => Err(format!("{serial} is not the newest retained message at {position}")),
        }
    }

    /// Whether a client at `position` was sent everything that was stamped at or after a time.
    pub fn holds_all_since(&self, channel: &ChannelKey, unix_ms: u64, position: Serial) -> Result<(), String> {
        let numbers = self.numbers.get(channel);
        for ((epoch, sequence), entry) in numbers.into_iter().flatten() {
            let handled = self.attempts[entry.attempt].handled.map_or(0, |now| now.unix_ms);
            let follows = *epoch == position.epoch && *sequence > position.sequence;
            if handled >= unix_ms && !follows {
                return Err(format!("{epoch}:{sequence} is missing after {unix_ms}, which {position} claims to hold"));
            }
        }
        Ok(())
    }

    /// The hub was removed, and with it its sessions, what waited for an answer, and all that was known of keys.
    pub fn remove_hub(&mut self) {
        self.by_key.clear();
        self.attempts.iter_mut().filter(|attempt| attempt.outcome.is_none()).for_each(|attempt| attempt.handled = None);
    }

    /// The newest number of an epoch; 0 if there is none.
    pub fn newest(&self, channel: &ChannelKey, epoch: Epoch) -> u64 {
        let numbers = self.numbers.get(channel);
        numbers.and_then(|numbers| numbers.range((epoch, 0)..=(epoch, u64::MAX)).next_back()).map_or(0, |(at, _)| at.1)
    }

    /// Every publish that the owner got must have been answered by now.
    pub fn finish(&self) -> Result<(), String> {
        match self.attempts.iter().position(|attempt| attempt.handled.is_some() && attempt.outcome.is_none()) {
            Some(index) => Err(format!("publish {index} is never answered")),
            None => Ok(()),
        }
    }

    fn accept(&mut self, index: usize, serial: Serial, now: Now) -> Result<(), String> {
        let attempt = &self.attempts[index];
        let newest = self.newest(&attempt.channel, serial.epoch);
        if serial.sequence <= newest {
            return self.repeat(index, serial);
        }
        if serial.sequence != newest + 1 {
            return Err(format!("{serial} follows {newest}"));
        }
        if attempt.publish.store && !self.stored.contains(&(attempt.channel.clone(), serial)) {
            return Err(format!("{serial} is acknowledged and is not stored"));
        }
        if let Some(key) = &attempt.publish.key {
            let handled_ms = attempt.handled.map_or(0, |now| now.mono_ms);
            let before = self.by_key.insert((attempt.channel.clone(), key.clone()), serial);
            if let Some(before) = before
                && handled_ms < self.numbers[&attempt.channel][&(before.epoch, before.sequence)].accepted_ms + KEY_MS
            {
                return Err(format!("{serial} and {before} came of one key"));
            }
        }
        let before = self.last_of_session.insert((attempt.channel.clone(), attempt.session.clone()), index);
        if before.is_some_and(|before| before > index) {
            return Err(format!("{serial} overtook a later publish of its session"));
        }
        let entry = Entry { attempt: index, accepted_ms: now.mono_ms, ts_ms: None };
        self.numbers.entry(attempt.channel.clone()).or_default().insert((serial.epoch, serial.sequence), entry);
        Ok(())
    }

    /// Only a repeat of one key may be answered with a number that is there already.
    fn repeat(&self, index: usize, serial: Serial) -> Result<(), String> {
        let attempt = &self.attempts[index];
        let first =
            self.numbers.get(&attempt.channel).and_then(|numbers| numbers.get(&(serial.epoch, serial.sequence)));
        let first = first.map(|entry| &self.attempts[entry.attempt].publish);
        match first {
            Some(first) if first.key.is_some() && same(first, &attempt.publish) => Ok(()),
            _ => Err(format!("publish {index} is acknowledged as {serial}, which is another message")),
        }
    }

    fn refuse(&self, index: usize, code: ErrorCode) -> Result<(), String> {
        let attempt = &self.attempts[index];
        let other = |other: &Attempt| other.publish.key == attempt.publish.key && other.channel == attempt.channel;
        if code == ErrorCode::KeyConflict
            && !self.attempts.iter().any(|o| other(o) && !same(&o.publish, &attempt.publish))
        {
            return Err(format!("publish {index} conflicts with nothing"));
        }
        Ok(())
    }
}

/// Whether the client chose the same in everything.
fn same(a: &Publish, b: &Publish) -> bool {
    let chosen = |publish: &Publish| {
        let Publish { key, event, payload, store, push, retain, .. } = publish.clone();
        (key, event, payload.bytes, [store, push, retain])
    };
    let detected = [a.payload.form, b.payload.form].contains(&Form::Detect);
    chosen(a) == chosen(b) && (a.payload.form == b.payload.form || detected)
}
