//! What was numbered and acknowledged in all channels of all nodes, and what follows from it.

use std::collections::{BTreeMap, BTreeSet};

use appsockets_core::{
    channel::ChannelKey,
    message::Message,
    serial::{Epoch, Serial},
};

/// What a publish was: everything under one id is the same publish, repeated with its key.
pub type Id = u64;

/// One epoch's line of messages, with what it builds on as far as somebody saw it.
#[derive(Debug, Default)]
struct Line {
    by_number: BTreeMap<u64, Id>,
    by_id: BTreeMap<Id, u64>,
}

#[derive(Debug)]
pub struct Acked {
    pub key: ChannelKey,
    pub id: Id,
    pub serial: Serial,
}

#[derive(Debug, Default)]
pub struct Ledger {
    numbers: BTreeMap<(ChannelKey, Epoch, u64), Id>,
    lines: BTreeMap<(ChannelKey, Epoch), Line>,
    pub acked: Vec<Acked>,
    /// What clients have published again.
    repeated: BTreeSet<Id>,
    pub heard: u64,
    pub now_ms: u64,
}

/// The id that a message carries, and the channel that it was published to.
pub fn id_of(message: &Message) -> (Id, String) {
    let text = String::from_utf8_lossy(&message.payload.bytes).into_owned();
    let (id, channel) = text.split_once(' ').unwrap_or(("0", ""));
    (id.parse().unwrap_or(0), channel.to_owned())
}

impl Ledger {
    /// A client hears a message, and stands in this epoch.
    pub fn hear(&mut self, key: &ChannelKey, message: &Message) -> Result<Id, String> {
        let (id, published_to) = id_of(message);
        if published_to != format!("{}/{}", key.hub, key.channel) {
            return Err(format!("{key:?}: a message of {published_to} arrived"));
        }
        self.heard += 1;
        self.number(key, message.serial, id)?;
        self.on_line(key, message.serial.epoch, message.serial.sequence, id)?;
        Ok(id)
    }

    /// Within an epoch a number stands for one message.
    pub fn number(&mut self, key: &ChannelKey, serial: Serial, id: Id) -> Result<(), String> {
        let place = (key.clone(), serial.epoch, serial.sequence);
        match self.numbers.insert(place, id) {
            Some(before) if before != id => Err(format!("{key:?}: {serial} stands for {before} and for {id}")),
            _ => Ok(()),
        }
    }

    /// Whoever is told that it lacks nothing in an epoch has what all others have there.
    pub fn on_line(&mut self, key: &ChannelKey, epoch: Epoch, sequence: u64, id: Id) -> Result<(), String> {
        let line = self.lines.entry((key.clone(), epoch)).or_default();
        if let Some(before) = line.by_number.insert(sequence, id).filter(|before| *before != id) {
            return Err(format!(
                "{key:?}: on the line of {epoch}, {sequence} is {before} for one and {id} for another"
            ));
        }
        match line.by_id.insert(id, sequence) {
            Some(before) if before != sequence => {
                Err(format!("{key:?}: on the line of {epoch}, {id} is there twice, as {before} and {sequence}"))
            }
            _ => Ok(()),
        }
    }

    /// A client publishes the same again.
    pub fn repeat(&mut self, id: Id) {
        self.repeated.insert(id);
    }

    /// If not, nobody may hear it twice: a node that asks again may not make two of it.
    pub fn was_repeated(&self, id: Id) -> bool {
        self.repeated.contains(&id)
    }

    pub fn ack(&mut self, key: &ChannelKey, id: Id, serial: Serial) -> Result<(), String> {
        self.acked.push(Acked { key: key.clone(), id, serial });
        self.number(key, serial, id)
    }
}
