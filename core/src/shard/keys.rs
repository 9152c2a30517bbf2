//! Idempotency keys of one channel: a publish that is repeated is answered again instead of delivered again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use xxhash_rust::xxh3::Xxh3;

use crate::{
    message::Form,
    serial::Serial,
    shard::request::{Listener, Publish, Token},
};

/// How long a key is remembered after its message was accepted, in milliseconds.
pub const KEY_TTL_MS: u64 = 120_000;
/// How many keys of a channel are remembered.
pub const KEYS_MAX: usize = 10_000;

/// The keys that a channel remembers.
#[derive(Debug, Default)]
pub struct Keys {
    known: BTreeMap<Arc<str>, Known>,
    /// Those that are decided, oldest first. One that is pending is never forgotten: a repeat may wait with it.
    order: VecDeque<(u64, Arc<str>)>,
}

#[derive(Debug)]
struct Known {
    digest: u128,
    form: Form,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Not decided yet: those who repeated it meanwhile wait with it.
    Pending(Vec<Repeat>),
    Done(Serial),
}

/// One who published again what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Repeat {
    pub from: Listener,
    pub token: Token,
    /// Whether success is answered; a refusal always is.
    pub ack: bool,
}

/// What a key says of a publish.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    /// Never before: it is pending from now on.
    New,
    Done(Serial),
    /// It is pending, and this one waits for its outcome.
    Waits,
    /// The key stands for another message.
    Conflict,
    /// As many repeats wait for the outcome as may.
    Full,
}

const WAITING_MAX: usize = 64;

impl Keys {
    pub fn check(&mut self, key: &Arc<str>, publish: &Publish, from: Listener, now_ms: u64) -> Seen {
        self.expire(now_ms);
        let (digest, form) = (digest(publish), publish.payload.form);
        match self.known.get_mut(key) {
            None => {
                self.known.insert(key.clone(), Known { digest, form, state: State::Pending(Vec::new()) });
                Seen::New
            }
            Some(known) if known.digest != digest || !may_be_same(known.form, form) => Seen::Conflict,
            Some(Known { state: State::Done(serial), .. }) => Seen::Done(*serial),
            Some(Known { state: State::Pending(waiting), .. }) if waiting.len() < WAITING_MAX => {
                waiting.push(Repeat { from, token: publish.token, ack: publish.ack });
                Seen::Waits
            }
            Some(_) => Seen::Full,
        }
    }

    /// The publish has its number. Returns those who wait for it.
    pub fn done(&mut self, key: &Arc<str>, serial: Serial, now_ms: u64) -> Vec<Repeat> {
        let Some(known) = self.known.get_mut(key) else { return Vec::new() };
        self.order.push_back((now_ms + KEY_TTL_MS, key.clone()));
        match std::mem::replace(&mut known.state, State::Done(serial)) {
            State::Pending(waiting) => waiting,
            State::Done(_) => Vec::new(),
        }
    }

    /// The publish was refused, so the key is free again. Returns those who wait for it.
    pub fn failed(&mut self, key: &str) -> Vec<Repeat> {
        match self.known.remove(key) {
            Some(Known { state: State::Pending(waiting), .. }) => waiting,
            _ => Vec::new(),
        }
    }

    /// When the last decided key is forgotten, in `Now::mono_ms`; `None` if there is none.
    pub fn expire(&mut self, now_ms: u64) -> Option<u64> {
        while let Some((until_ms, key)) = self.order.front() {
            if *until_ms > now_ms && self.order.len() <= KEYS_MAX {
                break;
            }
            self.known.remove(key);
            self.order.pop_front();
        }
        self.order.back().map(|(until_ms, _)| *until_ms)
    }
}

/// A form that is still to be found out is no choice of the client's: it may repeat in JSON what it published in binary.
fn may_be_same(a: Form, b: Form) -> bool {
    a == b || a == Form::Detect || b == Form::Detect
}

/// Two publishes are the same if everything that the client chose is; the form is compared apart.
fn digest(publish: &Publish) -> u128 {
    let mut hash = Xxh3::new();
    let flags = [publish.store, publish.push, publish.retain].map(u8::from);
    hash.update(&flags);
    hash.update(&(publish.event.len() as u64).to_le_bytes());
    hash.update(publish.event.as_bytes());
    hash.update(&publish.payload.bytes);
    hash.digest128()
}
