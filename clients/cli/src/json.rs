//! Events and messages as the protocol writes them in JSON.

use std::collections::BTreeMap;

use appsockets_client::{ChannelPublish, Event, Failure, Position, PresenceMember};
use serde::Serialize;
use serde_json::{Value, json};

use crate::{fault::Fault, payload::Form};

/// What is printed of an event: the envelope of the protocol.
#[derive(Serialize)]
pub struct Envelope<'a> {
    event: &'static str,
    payload: Payload<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Payload<'a> {
    Message(Message<'a>),
    Other(Value),
}

/// A message as it was published.
#[derive(Serialize)]
pub struct Message<'a> {
    channel: &'a str,
    event: &'a str,
    #[serde(flatten)]
    payload: Form<'a>,
    #[serde(rename = "msgID")]
    msg_id: &'a str,
    #[serde(rename = "ts")]
    timestamp: i64,
    #[serde(rename = "channelSerial", skip_serializing_if = "Option::is_none")]
    serial: Option<&'a str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    retained: bool,
}

/// One who is present.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Member<'a> {
    #[serde(rename = "sessionID")]
    session_id: &'a str,
    #[serde(rename = "userID")]
    user_id: &'a str,
    extra: &'a BTreeMap<String, String>,
    since: i64,
}

/// On one line.
pub fn line(value: &impl Serialize) -> Result<String, Fault> {
    serde_json::to_string(value).map_err(|error| Fault::usage(error.to_string()))
}

/// An event of a channel. That a subscription has ended is none.
pub fn event<'a>(channel: &str, event: &'a Event) -> Option<Envelope<'a>> {
    let members = |members: &[PresenceMember]| {
        Payload::Other(json!({"channel": channel, "members": members.iter().map(member).collect::<Vec<_>>()}))
    };
    let (event, payload) = match event {
        Event::Position(at) => ("Position", Payload::Other(position(at))),
        Event::Message(message) => ("Publish", Payload::Message(self::message(message))),
        Event::Presence(present) => ("Presence", members(present)),
        Event::Join(joined) => ("Join", members(joined)),
        Event::Leave(left) => ("Leave", members(left)),
        Event::Occupancy(count) => ("Occupancy", Payload::Other(json!({"channel": channel, "count": count}))),
        Event::Ended(_) => return None,
    };
    Some(Envelope { event, payload })
}

pub fn message(message: &ChannelPublish) -> Message<'_> {
    let ChannelPublish { channel, event, payload, msg_id, timestamp, channel_serial, retained } = message;
    Message {
        channel,
        event,
        payload: Form::of(payload).on_one_line(),
        msg_id,
        timestamp: *timestamp,
        serial: channel_serial.as_deref(),
        retained: *retained,
    }
}

pub fn member(member: &PresenceMember) -> Member<'_> {
    let PresenceMember { session_id, user_id, extra, since } = member;
    Member { session_id, user_id, extra, since: *since }
}

pub fn failure(failure: &Failure) -> Value {
    let Failure { code, name, message, retry } = failure;
    json!({"code": code, "name": name, "message": message, "retry": retry})
}

fn position(position: &Position) -> Value {
    let Position { channel, channel_serial, recovered, known_serial } = position;
    let mut value = json!({"channel": channel, "channelSerial": channel_serial});
    if let Some(recovered) = recovered {
        value["recovered"] = json!(recovered);
    }
    if let Some(known) = known_serial {
        value["knownSerial"] = json!(known);
    }
    value
}
