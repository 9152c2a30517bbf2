//! Idempotency keys of one channel: a publish that is repeated is answered again instead of delivered again.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::Xxh3;

use crate::{cluster::view::NodeId, message::Form, serial::Serial, shard::request::Publish};

/// How long a key is remembered after its message was accepted, in milliseconds.
pub const KEY_TTL_MS: u64 = 120_000;
/// How many keys of a channel are remembered.
pub const KEYS_MAX: usize = 10_000;

/// The keys that a channel remembers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Keys {
    known: BTreeMap<Arc<str>, Known>,
    /// Those that are decided, oldest first. One that is pending is never forgotten: a repeat may wait with it.
    order: VecDeque<(u64, Arc<str>)>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Known {
    digest: u128,
    form: Form,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum State {
    /// Not decided yet: those who repeated it meanwhile wait with it.
    Pending(Vec<Repeat>),
    Done(Serial),
}

/// A publish that repeats what is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repeat {
    pub sender: NodeId,
    pub counter: u64,
}

/// A key, and what tells its message from another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    pub key: Arc<str>,
    digest: u128,
    form: Form,
}

impl KeyEntry {
    pub fn of(publish: &Publish) -> Option<KeyEntry> {
        let key = publish.key.clone()?;
        Some(KeyEntry { key, digest: digest(publish), form: publish.payload.form })
    }
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
    pub fn check(&mut self, entry: &KeyEntry, repeat: Repeat, now_ms: u64) -> Seen {
        self.expire(now_ms);
        let KeyEntry { key, digest, form } = entry.clone();
        match self.known.get_mut(&key) {
            None => {
                self.known.insert(key, Known { digest, form, state: State::Pending(Vec::new()) });
                Seen::New
            }
            Some(known) if known.digest != digest || !may_be_same(known.form, form) => Seen::Conflict,
            Some(Known { state: State::Done(serial), .. }) => Seen::Done(*serial),
            Some(Known { state: State::Pending(waiting), .. }) if waiting.len() < WAITING_MAX => {
                waiting.push(repeat);
                Seen::Waits
            }
            Some(_) => Seen::Full,
        }
    }

    /// The publish counts. Returns those who wait for it.
    pub fn done(&mut self, entry: KeyEntry, serial: Serial, now_ms: u64) -> Vec<Repeat> {
        self.expire(now_ms);
        let KeyEntry { key, digest, form } = entry;
        self.order.push_back((now_ms + KEY_TTL_MS, key.clone()));
        let known = Known { digest, form, state: State::Done(serial) };
        match self.known.insert(key, known).map(|before| before.state) {
            Some(State::Pending(waiting)) => waiting,
            Some(State::Done(_)) | None => Vec::new(),
        }
    }

    /// The publish was refused, so the key is free again. Returns those who wait for it.
    pub fn failed(&mut self, key: &str) -> Vec<Repeat> {
        match self.known.remove(key) {
            Some(Known { state: State::Pending(waiting), .. }) => waiting,
            _ => Vec::new(),
        }
    }

    /// Of an owner that gives the channel away: what is not decided is as if it had never come.
    pub fn forget_pending(&mut self) {
        self.known.retain(|_, known| matches!(known.state, State::Done(_)));
    }

    pub fn deadlines(&mut self) -> impl Iterator<Item = &mut u64> {
        self.order.iter_mut().map(|(until_ms, _)| until_ms)
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
