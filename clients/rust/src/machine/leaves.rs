//! The channels that the application has left, as long as the session may still have them.

use std::collections::BTreeSet;

use appsockets_proto::client::{EventType, UnsubscribeRequest};
use prost::Message;

use super::{Bounds, Step, size};

/// As many may wait before no further channel is asked for, so that there is an end to those that can be left.
const LEAVES_MAX: usize = 1_000;

#[derive(Debug, Default)]
pub struct Leaves {
    waiting: BTreeSet<String>,
    /// Those of the one request that is under way. What is left meanwhile goes together into the next one, because the
    /// node counts messages.
    asked: BTreeSet<String>,
    req_id: i64,
    /// Nothing is sent before, since the node has refused a request.
    hold_ms: u64,
    /// Refusals in a row.
    refusals: u32,
}

impl Leaves {
    pub fn add(&mut self, name: String) {
        self.waiting.insert(name);
    }

    pub fn contains(&self, name: &str) -> bool {
        self.waiting.contains(name) || self.asked.contains(name)
    }

    pub fn are_many(&self) -> bool {
        self.waiting.len() + self.asked.len() >= LEAVES_MAX
    }

    pub fn send(&mut self, next_id: &mut i64, bytes_max: usize, step: &mut Step<'_>) {
        while self.asked.is_empty() && !self.waiting.is_empty() && self.hold_ms <= step.now_ms {
            *next_id += 1;
            let mut request = UnsubscribeRequest { req_id: *next_id, channels: Vec::new() };
            let count = size::batch(request.encoded_len(), self.waiting.iter().map(String::len), bytes_max);
            if count == 0 {
                // Nobody can have subscribed to what is longer than a message.
                self.waiting.pop_first();
                continue;
            }
            let rest = self.waiting.iter().nth(count).cloned();
            let rest = rest.map(|first| self.waiting.split_off(&first)).unwrap_or_default();
            self.asked = std::mem::replace(&mut self.waiting, rest);
            self.req_id = *next_id;
            request.channels = self.asked.iter().cloned().collect();
            step.send(EventType::Unsubscribe, &request);
        }
    }

    pub fn due_ms(&self) -> Option<u64> {
        (self.asked.is_empty() && !self.waiting.is_empty()).then_some(self.hold_ms)
    }

    /// The session does not have them any more, and nothing of them comes after this.
    pub fn answered(&mut self, req_id: i64) {
        if self.req_id == req_id {
            self.asked.clear();
            self.refusals = 0;
        }
    }

    /// The session still has them, so it is asked again, whatever the reason: only ever later, up to the longest wait.
    pub fn refused(&mut self, req_id: i64, bounds: &Bounds, step: &Step<'_>) {
        if self.req_id == req_id && !self.asked.is_empty() {
            self.waiting.append(&mut self.asked);
            self.refusals = self.refusals.saturating_add(1);
            self.hold_ms = step.now_ms + bounds.backoff.wait_ms(self.refusals, step.random);
        }
    }

    /// Whether the node has done what it was asked for is not known.
    pub fn disconnected(&mut self) {
        self.waiting.append(&mut self.asked);
    }

    /// The session has these channels and no others.
    pub fn restored(&mut self, names: &BTreeSet<String>) {
        self.waiting.retain(|name| names.contains(name));
    }
}
