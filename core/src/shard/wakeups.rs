//! When which channel wants to be looked at.

use std::collections::BTreeSet;

use crate::channel::ChannelKey;

/// Due times of channels, at most one of each. A channel's own `wake_ms` says which it is, so none is searched for.
#[derive(Debug, Default)]
pub struct Wakeups {
    /// With the channel's point, which tells channels apart sooner than their names do.
    due: BTreeSet<(u64, u64, ChannelKey)>,
}

impl Wakeups {
    /// Sees to it that the channel is looked at by then. An earlier time stays, and asks again then, so a channel in
    /// steady use changes nothing here.
    pub fn set(&mut self, key: &ChannelKey, point: u64, scheduled_ms: &mut Option<u64>, at_ms: Option<u64>) {
        let Some(at_ms) = at_ms else { return };
        if scheduled_ms.is_some_and(|scheduled_ms| scheduled_ms <= at_ms) {
            return;
        }
        self.remove(key, point, scheduled_ms.replace(at_ms));
        self.due.insert((at_ms, point, key.clone()));
    }

    /// Forgets a channel.
    pub fn remove(&mut self, key: &ChannelKey, point: u64, scheduled_ms: Option<u64>) {
        if let Some(scheduled_ms) = scheduled_ms {
            self.due.remove(&(scheduled_ms, point, key.clone()));
        }
    }

    pub fn next(&self) -> Option<u64> {
        self.due.first().map(|(at_ms, ..)| *at_ms)
    }

    pub fn pop_due(&mut self, now_ms: u64) -> Option<ChannelKey> {
        if self.next()? > now_ms {
            return None;
        }
        self.due.pop_first().map(|(.., key)| key)
    }
}
