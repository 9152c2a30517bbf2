//! What an owner sends to those who listen: a run of numbered messages of one channel.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    channel::ChannelKey,
    message::Message,
    serial::{Epoch, Serial},
};

/// The messages that one turn brought to one channel, the same for every listener.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivery {
    pub key: ChannelKey,
    pub epoch: Epoch,
    /// The sequence of the first message; the others follow without a hole.
    pub first: u64,
    /// Never empty.
    pub messages: Vec<Arc<Message>>,
}

impl Delivery {
    /// The position of one who is to take this next.
    pub fn follows(&self) -> Serial {
        Serial { epoch: self.epoch, sequence: self.first - 1 }
    }

    /// The position of one who has taken it.
    pub fn last(&self) -> Serial {
        Serial { epoch: self.epoch, sequence: self.first - 1 + self.messages.len() as u64 }
    }
}
