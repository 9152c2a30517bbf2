//! The one message that is worth writing by hand: it goes out once for each message of a channel.

use appsockets_core::message::Message;
use appsockets_proto::client::{self, EventType};

use crate::codec::serial::SerialText;

// The keys of the fields: number and wire type (0: varint, 2: length and bytes).
const ENVELOPE_EVENT: u8 = 1 << 3;
const ENVELOPE_PAYLOAD: u8 = 2 << 3 | 2;
const CHANNEL: u8 = 1 << 3 | 2;
const EVENT: u8 = 2 << 3 | 2;
const PAYLOAD: u8 = 3 << 3 | 2;
const MSG_ID: u8 = 4 << 3 | 2;
const TS: u8 = 5 << 3;
const CHANNEL_SERIAL: u8 = 6 << 3 | 2;
const RETAINED: u8 = 7 << 3;

/// Appends the same bytes as the generated code would for an envelope with [`channel_publish`] in it.
pub fn encode_message(channel: &str, message: &Message, retained: bool, out: &mut Vec<u8>) {
    let serial = SerialText::new(&message.serial);
    let serial = serial.as_bytes();
    let (event, payload) = (message.event.as_bytes(), &message.payload.bytes[..]);
    let fields = field_len(channel.as_bytes()) + field_len(event) + field_len(payload) + 2 * field_len(serial);
    let ts = if message.ts_ms == 0 { 0 } else { 1 + varint_len(message.ts_ms) };
    let length = fields + ts + if retained { 2 } else { 0 };

    out.reserve(length + 8);
    header(EventType::Publish, length, out);
    field(CHANNEL, channel.as_bytes(), out);
    field(EVENT, event, out);
    field(PAYLOAD, payload, out);
    field(MSG_ID, serial, out);
    if message.ts_ms != 0 {
        out.push(TS);
        varint(message.ts_ms, out);
    }
    field(CHANNEL_SERIAL, serial, out);
    if retained {
        out.extend_from_slice(&[RETAINED, 1]);
    }
}

/// Appends an envelope up to the message in it, which is this long and comes next.
pub fn header(event: EventType, length: usize, out: &mut Vec<u8>) {
    out.push(ENVELOPE_EVENT);
    varint(event as u64, out);
    if length > 0 {
        out.push(ENVELOPE_PAYLOAD);
        varint(length as u64, out);
    }
}

/// The message as the generated code has it.
pub fn channel_publish(channel: &str, message: &Message, retained: bool) -> client::ChannelPublish {
    let serial = message.serial.to_string();
    client::ChannelPublish {
        channel: channel.to_owned(),
        event: message.event.to_string(),
        payload: message.payload.bytes.clone(),
        msg_id: serial.clone(),
        timestamp: message.ts_ms as i64,
        channel_serial: Some(serial),
        retained,
    }
}

/// An empty field is left out, as proto3 wants it.
fn field(key: u8, bytes: &[u8], out: &mut Vec<u8>) {
    if !bytes.is_empty() {
        out.push(key);
        varint(bytes.len() as u64, out);
        out.extend_from_slice(bytes);
    }
}

fn field_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn varint_len(value: u64) -> usize {
    (value | 1).ilog2() as usize / 7 + 1
}
