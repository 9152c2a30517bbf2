//! Epochs and channel serials: the names that a message has within its channel.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A stretch in which one line of owners numbered a channel's messages. Never reused: the view's number, the node, its
/// generation and its counter together are unique.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Epoch {
    /// The view in which the epoch began.
    pub view: u64,
    /// The node that began it.
    pub node: u64,
    /// The generation of that node: greater after each restart.
    pub generation: u64,
    /// How many epochs that node began before, in this generation.
    pub counter: u64,
}

/// A message's place in its channel: `<epoch>:<sequence>` to clients. Comparable only within one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Serial {
    pub epoch: Epoch,
    /// 1 for the first message of an epoch without a parent; 0 stands before the first.
    pub sequence: u64,
}

/// The text is not a serial that a node has sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadSerial;

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [self.view, self.node, self.generation, self.counter];
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                f.write_str("-")?;
            }
            f.write_str(base36(part, &mut [0; 13]))?;
        }
        Ok(())
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.epoch, self.sequence)
    }
}

impl FromStr for Epoch {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let mut parts = text.split('-').map(parse_base36);
        let mut next = || parts.next().flatten().ok_or(BadSerial);
        let epoch = Epoch { view: next()?, node: next()?, generation: next()?, counter: next()? };
        match parts.next() {
            None => Ok(epoch),
            Some(_) => Err(BadSerial),
        }
    }
}

impl FromStr for Serial {
    type Err = BadSerial;

    fn from_str(text: &str) -> Result<Self, BadSerial> {
        let (epoch, sequence) = text.split_once(':').ok_or(BadSerial)?;
        let canonical = !sequence.starts_with('+') && (sequence == "0" || !sequence.starts_with('0'));
        let sequence = sequence.parse().ok().filter(|_| canonical).ok_or(BadSerial)?;
        Ok(Serial { epoch: epoch.parse()?, sequence })
    }
}

fn base36(mut number: u64, buffer: &mut [u8; 13]) -> &str {
    let mut start = buffer.len();
    loop {
        start -= 1;
        buffer[start] = b"0123456789abcdefghijklmnopqrstuvwxyz"[(number % 36) as usize];
        number /= 36;
        if number == 0 {
            return std::str::from_utf8(&buffer[start..]).unwrap_or_default();
        }
    }
}

/// Only what [`base36`] writes, so that each serial has one text.
fn parse_base36(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with('0');
    let digits = text.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
    (canonical && digits).then(|| u64::from_str_radix(text, 36).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::{Epoch, Serial};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_serial_survives_its_text(view: u64, node: u64, generation: u64, counter: u64, sequence: u64) {
            let serial = Serial { epoch: Epoch { view, node, generation, counter }, sequence };
            prop_assert_eq!(serial.to_string().parse(), Ok(serial));
        }

        #[test]
        fn what_parses_is_written_the_same(text in "[-:0-9a-z+]{0,40}|\\PC{0,20}") {
            if let Ok(serial) = text.parse::<Serial>() {
                prop_assert_eq!(serial.to_string(), text);
            }
        }
    }
}
