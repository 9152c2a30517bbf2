//! The client's side: requests as a client would write them.

use appsockets_core::{
    message::{Form, Payload},
    session::request::{Credentials, HistoryBound, HistoryQuery, PublishInfo, Recover, Request, SubscribeInfo},
};
use appsockets_proto::client::{self, EventType};
use base64::{Engine, prelude::BASE64_STANDARD};
use prost::Message;
use serde_json::json;

use crate::codec::Format;

/// What a client sends where it has no serial that a node could have sent.
const BAD_SERIAL: &str = "not a serial";

pub fn encode(format: Format, request: &Request) -> Vec<u8> {
    match format {
        Format::Protobuf => protobuf(request),
        Format::Json => json(request).into_bytes(),
    }
}

fn protobuf(request: &Request) -> Vec<u8> {
    let (event, payload) = match request {
        Request::Pong => (EventType::Pong, Vec::new()),
        Request::Close => (EventType::Close, Vec::new()),
        Request::Restore { key, positions } => {
            let channels = positions.iter().map(subscribe_info).collect();
            let restore = client::SessionRestore { restore_key: key.to_string(), channels };
            (EventType::SessionRestore, restore.encode_to_vec())
        }
        Request::Auth { req_id, credentials } => {
            let (payload, token) = match credentials {
                Credentials::Opaque(payload) => (Some(payload.bytes.clone()), None),
                Credentials::Token(token) => (None, Some(token.to_string())),
            };
            let auth = client::AuthRequest { req_id: req_id.unwrap_or(0), payload, token };
            (EventType::Auth, auth.encode_to_vec())
        }
        Request::Publish(publishes) => {
            let batch = client::ChannelPubRequest { publishes: publishes.iter().map(publish_info).collect() };
            (EventType::Publish, batch.encode_to_vec())
        }
        Request::Subscribe { req_id, channels } => {
            let channels = channels.iter().map(subscribe_info).collect();
            let subscribe = client::SubscribeRequest { req_id: req_id.unwrap_or(0), channels };
            (EventType::Subscribe, subscribe.encode_to_vec())
        }
        Request::Unsubscribe { req_id, channels } => {
            let channels = channels.iter().map(ToString::to_string).collect();
            let unsubscribe = client::UnsubscribeRequest { req_id: req_id.unwrap_or(0), channels };
            (EventType::Unsubscribe, unsubscribe.encode_to_vec())
        }
        Request::History(query) => (EventType::History, history(query).encode_to_vec()),
    };
    client::Envelope { event: event.into(), payload: payload.into() }.encode_to_vec()
}

fn publish_info(info: &PublishInfo) -> client::PubRequestInfo {
    client::PubRequestInfo {
        channel: info.channel.to_string(),
        event: info.event.to_string(),
        payload: info.payload.bytes.clone(),
        extra: Some(client::ChannelPubExtras { store: info.store, push: info.push, retain: info.retain }),
        req_id: info.req_id,
        key: info.key.as_ref().map(ToString::to_string),
    }
}

fn subscribe_info(info: &SubscribeInfo) -> client::ChannelSubscribeInfo {
    let (channel_serial, timestamp) = recover(info.recover);
    client::ChannelSubscribeInfo { channel: info.channel.to_string(), timestamp, channel_serial }
}

fn recover(recover: Option<Recover>) -> (Option<String>, Option<i64>) {
    match recover {
        None => (None, None),
        Some(Recover::Serial(serial)) => (Some(serial.to_string()), None),
        Some(Recover::BadSerial) => (Some(BAD_SERIAL.to_owned()), None),
        Some(Recover::Unknown) => unreachable!("no client can say this"),
        Some(Recover::Timestamp(ts)) => (None, Some(ts as i64)),
    }
}

fn history(query: &HistoryQuery) -> client::HistoryRequest {
    let mut request = client::HistoryRequest {
        req_id: query.req_id,
        channel: query.channel.to_string(),
        limit: query.limit,
        ..Default::default()
    };
    match query.bound {
        HistoryBound::Newest => {}
        HistoryBound::BeforeTimestamp(ts) => request.before_timestamp = Some(ts as i64),
        HistoryBound::AfterTimestamp(ts) => request.after_timestamp = Some(ts as i64),
        HistoryBound::BeforeSerial(serial) => request.before_serial = Some(serial.to_string()),
        HistoryBound::AfterSerial(serial) => request.after_serial = Some(serial.to_string()),
        HistoryBound::Bad => request.before_serial = Some(BAD_SERIAL.to_owned()),
    }
    request
}

/// Written as text, because the text of a payload must come through as it is.
fn json(request: &Request) -> String {
    let (event, payload) = match request {
        Request::Pong => ("Pong", "{}".to_owned()),
        Request::Close => ("Close", "{}".to_owned()),
        Request::Restore { key, positions } => {
            ("SessionRestore", json!({"restoreKey": key, "channels": subscribe_infos(positions)}).to_string())
        }
        Request::Auth { req_id, credentials } => {
            let credentials = match credentials {
                Credentials::Opaque(opaque) => payload_field(opaque),
                Credentials::Token(token) => format!("\"token\":{}", json!(token)),
            };
            ("Auth", format!("{{\"reqID\":{},{credentials}}}", json!(req_id.unwrap_or(0))))
        }
        Request::Publish(publishes) => {
            let publishes: Vec<String> = publishes.iter().map(publish).collect();
            ("Publish", format!("{{\"publishes\":[{}]}}", publishes.join(" , ")))
        }
        Request::Subscribe { req_id, channels } => {
            let req_id = req_id.unwrap_or(0);
            ("Subscribe", json!({"reqID": req_id, "channels": subscribe_infos(channels)}).to_string())
        }
        Request::Unsubscribe { req_id, channels } => {
            ("Unsubscribe", json!({"reqID": req_id.unwrap_or(0), "channels": channels}).to_string())
        }
        Request::History(query) => {
            let history = history(query);
            let request = json!({
                "reqID": history.req_id,
                "channel": history.channel,
                "beforeTs": history.before_timestamp,
                "afterTs": history.after_timestamp,
                "beforeSerial": history.before_serial,
                "afterSerial": history.after_serial,
                "limit": history.limit,
            });
            ("History", request.to_string())
        }
    };
    format!("{{\"payload\": {payload}, \"event\": \"{event}\"}}")
}

fn publish(info: &PublishInfo) -> String {
    format!(
        "{{\"channel\":{},\"event\":{},{},\"extra\":{},\"reqID\":{},\"key\":{}}}",
        json!(info.channel),
        json!(info.event),
        payload_field(&info.payload),
        json!({"store": info.store, "push": info.push, "retain": info.retain}),
        json!(info.req_id),
        json!(info.key),
    )
}

fn payload_field(payload: &Payload) -> String {
    match payload.form {
        Form::Json => format!("\"payload\":{}", String::from_utf8_lossy(&payload.bytes)),
        Form::Text => format!("\"text\":{}", json!(String::from_utf8_lossy(&payload.bytes))),
        Form::Binary | Form::Detect => format!("\"base64\":{}", json!(BASE64_STANDARD.encode(&payload.bytes))),
    }
}

fn subscribe_infos(infos: &[SubscribeInfo]) -> Vec<serde_json::Value> {
    let info = |info: &SubscribeInfo| {
        let (channel_serial, timestamp) = recover(info.recover);
        json!({"channel": info.channel, "timestamp": timestamp, "channelSerial": channel_serial})
    };
    infos.iter().map(info).collect()
}
