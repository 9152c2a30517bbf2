//! When which channel wants to be looked at.

use std::collections::BTreeSet;

use crate::shard::slots::At;

/// Due times of channels, at most one of each. A channel's own `wake_ms` says which it is, so none is searched for.
#[derive(Debug, Default)]
pub struct Wakeups {
    due: BTreeSet<(u64, At)>,
}

impl Wakeups {
    /// Sees to it that the channel is looked at by then. An earlier time stays, and asks again then, so a channel in
    /// steady use changes nothing here.
    pub fn set(&mut self, at: At, scheduled_ms: &mut Option<u64>, wake_ms: Option<u64>) {
        let Some(wake_ms) = wake_ms else { return };
        if scheduled_ms.is_some_and(|scheduled_ms| scheduled_ms <= wake_ms) {
            return;
        }
        self.remove(at, scheduled_ms.replace(wake_ms));
        self.due.insert((wake_ms, at));
    }

    /// A channel has come to another place.
    pub fn moved(&mut self, from: At, to: At, scheduled_ms: Option<u64>) {
        if let Some(scheduled_ms) = scheduled_ms.filter(|scheduled_ms| self.due.remove(&(*scheduled_ms, from))) {
            self.due.insert((scheduled_ms, to));
        }
    }

    /// Forgets a channel.
    pub fn remove(&mut self, at: At, scheduled_ms: Option<u64>) {
        if let Some(scheduled_ms) = scheduled_ms {
            self.due.remove(&(scheduled_ms, at));
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(wake_ms, _)| *wake_ms)
    }

    pub fn pop_due(&mut self, now_ms: u64) -> Option<At> {
        if self.next()? > now_ms {
            return None;
        }
        self.due.pop_first().map(|(_, at)| at)
    }
}
