//! A channel's last messages, kept in memory so that one who was away for a moment lacks nothing.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::message::Message;

/// The newest messages of a channel, without a hole. Numbers go on in a child epoch, so they are one line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct History {
    messages: VecDeque<Arc<Message>>,
    bytes: usize,
    /// Every message stamped at or after this is here, in Unix milliseconds.
    complete_since_ms: u64,
}

/// How much of a channel's history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HistoryBounds {
    /// 0 keeps nothing.
    pub messages_max: usize,
    pub bytes_max: usize,
    /// Messages that are kept in any case while a listening node may lack them.
    pub unseen_max: usize,
}

impl History {
    /// The history of a channel that begins now, about whose past nothing is known.
    pub fn new(now_unix_ms: u64) -> Self {
        History { messages: VecDeque::new(), bytes: 0, complete_since_ms: now_unix_ms }
    }

    /// Every listening node has what is up to `seen`.
    pub fn push(&mut self, message: Arc<Message>, bounds: HistoryBounds, seen: u64) {
        self.bytes += message.weight();
        self.messages.push_back(message);
        self.trim(bounds, seen);
    }

    pub fn trim(&mut self, bounds: HistoryBounds, seen: u64) {
        let kept_max = bounds.messages_max.max(bounds.unseen_max);
        while self.messages.len() > bounds.messages_max || self.bytes > bounds.bytes_max {
            let needed = self.messages.len() <= kept_max && self.bytes <= bounds.bytes_max;
            let Some(oldest) = self.messages.pop_front_if(|oldest| !needed || oldest.serial.sequence <= seen) else {
                break;
            };
            self.bytes -= oldest.weight();
            self.complete_since_ms = self.complete_since_ms.max(oldest.ts_ms + 1);
        }
    }

    /// Oldest first.
    pub fn all(&self) -> impl Iterator<Item = &Arc<Message>> {
        self.messages.iter()
    }

    /// The newest so many; `None` if there are fewer.
    pub fn last(&self, count: u64) -> Option<Vec<Arc<Message>>> {
        let skip = self.messages.len().checked_sub(usize::try_from(count).ok()?)?;
        Some(self.messages.range(skip..).cloned().collect())
    }

    /// What was stamped at or after a time; `None` if something of it may be gone.
    pub fn since(&self, unix_ms: u64) -> Option<Vec<Arc<Message>>> {
        if unix_ms < self.complete_since_ms {
            return None;
        }
        let skip = self.messages.partition_point(|message| message.ts_ms < unix_ms);
        Some(self.messages.range(skip..).cloned().collect())
    }
}
