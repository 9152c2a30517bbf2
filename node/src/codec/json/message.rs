//! The messages of channels in JSON: written without anything in between, because there are so many.

use appsockets_core::message::{Form, Message, Payload};
use base64::{Engine, prelude::BASE64_STANDARD};
use serde::de::IgnoredAny;

use super::{encode::envelope, fields::Fields};
use crate::codec::serial::SerialText;

pub fn encode_message(channel: &str, message: &Message, retained: bool, out: &mut Vec<u8>) {
    out.reserve(256 + channel.len() + message.event.len() + message.payload.bytes.len());
    envelope("Publish", out, |fields| channel_publish(fields, channel, message, retained));
}

/// Writes the fields of a ChannelPublish.
pub fn channel_publish(fields: &mut Fields<'_>, channel: &str, message: &Message, retained: bool) {
    let serial = SerialText::new(&message.serial);
    fields.put("channel", channel).put("event", &*message.event);
    match shown(&message.payload) {
        Shown::Json(json) => fields.put_with("payload", |out| out.extend_from_slice(json)),
        Shown::Text(text) => fields.put("text", text),
        Shown::Binary(bytes) => fields.put_with("base64", |out| base64(bytes, out)),
    };
    fields
        .put_with("msgID", |out| quoted(serial.as_bytes(), out))
        .put("ts", &message.ts_ms)
        .put_with("channelSerial", |out| quoted(serial.as_bytes(), out));
    if retained {
        fields.put("retained", &true);
    }
}

/// A payload as it appears in JSON.
enum Shown<'a> {
    Json(&'a [u8]),
    Text(&'a str),
    Binary(&'a [u8]),
}

fn shown(payload: &Payload) -> Shown<'_> {
    let bytes = &payload.bytes[..];
    let text = || simdutf8::basic::from_utf8(bytes);
    match payload.form {
        // Read by `RawValue` when it was published, and never touched since.
        Form::Json => Shown::Json(bytes),
        Form::Text => text().map_or(Shown::Binary(bytes), Shown::Text),
        Form::Binary => Shown::Binary(bytes),
        Form::Detect => match text() {
            Ok(text) if is_json(text) => Shown::Json(bytes),
            Ok(text) => Shown::Text(text),
            Err(_) => Shown::Binary(bytes),
        },
    }
}

/// Takes no stack for nested values, unlike reading them.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<IgnoredAny>(text).is_ok()
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + bytes.len().div_ceil(3) * 4, 0);
    let written = BASE64_STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}

/// For what needs no escaping.
fn quoted(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    out.extend_from_slice(text);
    out.push(b'"');
}
