//! A channel's last messages, kept in memory so that one who was away for a moment lacks nothing.

use std::{collections::VecDeque, sync::Arc};

use crate::{message::Message, serial::Serial};

/// The newest messages of an epoch, without a hole.
#[derive(Debug)]
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
}

impl History {
    /// The history of a channel that begins now, about whose past nothing is known.
    pub fn new(now_unix_ms: u64) -> Self {
        History { messages: VecDeque::new(), bytes: 0, complete_since_ms: now_unix_ms }
    }

    pub fn push(&mut self, message: Arc<Message>, bounds: HistoryBounds) {
        self.bytes += message.weight();
        self.messages.push_back(message);
        while self.messages.len() > bounds.messages_max || self.bytes > bounds.bytes_max {
            let Some(oldest) = self.messages.pop_front() else { break };
            self.bytes -= oldest.weight();
            self.complete_since_ms = self.complete_since_ms.max(oldest.ts_ms + 1);
        }
    }

    /// What follows a position of the current epoch; `None` if something of it is gone, or the position is ahead.
    pub fn after(&self, position: Serial, current: Serial) -> Option<Vec<Arc<Message>>> {
        if position.epoch != current.epoch {
            return None;
        }
        let lacking = usize::try_from(current.sequence.checked_sub(position.sequence)?).ok()?;
        let skip = self.messages.len().checked_sub(lacking)?;
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
