//! The header of a client's frame.

use super::{Opcode, Violation};

/// The greatest length of a client's frame header: two bytes, an eight byte length and the mask.
pub(super) const CLIENT_HEADER_BYTES_MAX: usize = 14;
const CONTROL_BYTES_MAX: u64 = 125;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub fin: bool,
    pub opcode: Opcode,
    pub mask: [u8; 4],
    /// Length of the payload.
    pub length: u64,
}

impl Header {
    /// The header at the front of the bytes and its own length, or none if they are too few. What is wrong already with
    /// the first two bytes is told without waiting for the others.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Header, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else { return Ok(None) };
        let (fin, opcode) = (first & 0x80 != 0, opcode(first & 0x0f)?);
        let (masked, short) = (second & 0x80 != 0, u64::from(second & 0x7f));
        let reserved = first & 0x70 != 0;
        if reserved || !masked || opcode.is_control() && (!fin || short > CONTROL_BYTES_MAX) {
            return Err(Violation::Protocol);
        }
        let Some((length, rest)) = length(short, rest)? else { return Ok(None) };
        let Some((mask, rest)) = rest.split_first_chunk() else { return Ok(None) };
        Ok(Some((Header { fin, opcode, mask: *mask, length }, bytes.len() - rest.len())))
    }
}

/// How many bytes a header has, as far as its first bytes tell; 2 as long as these lack.
pub(super) fn header_length(bytes: &[u8]) -> usize {
    match bytes.get(1).map(|second| second & 0x7f) {
        None => 2,
        Some(126) => 8,
        Some(127) => CLIENT_HEADER_BYTES_MAX,
        Some(_) => 6,
    }
}

impl Opcode {
    pub(super) const fn is_control(self) -> bool {
        matches!(self, Opcode::Close | Opcode::Ping | Opcode::Pong)
    }
}

fn opcode(bits: u8) -> Result<Opcode, Violation> {
    match bits {
        0 => Ok(Opcode::Continuation),
        1 => Ok(Opcode::Text),
        2 => Ok(Opcode::Binary),
        8 => Ok(Opcode::Close),
        9 => Ok(Opcode::Ping),
        10 => Ok(Opcode::Pong),
        _ => Err(Violation::Protocol),
    }
}

/// The payload's length and what follows it. It must be written in the fewest bytes possible.
fn length(short: u64, rest: &[u8]) -> Result<Option<(u64, &[u8])>, Violation> {
    let (length, rest, least) = match short {
        126 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from(u16::from_be_bytes(*bytes)), rest, 126),
            None => return Ok(None),
        },
        127 => match rest.split_first_chunk() {
            Some((bytes, rest)) => (u64::from_be_bytes(*bytes), rest, 1 << 16),
            None => return Ok(None),
        },
        short => (short, rest, 0),
    };
    if length < least || length > i64::MAX as u64 {
        return Err(Violation::Protocol);
    }
    Ok(Some((length, rest)))
}
