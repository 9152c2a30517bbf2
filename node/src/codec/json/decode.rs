//! From JSON to requests. Unknown fields are ignored, so that a newer client can talk to an older node.

use std::{borrow::Cow, sync::Arc};

use appsockets_core::{
    code::ErrorCode,
    message::{Form, Payload},
    session::request::{Credentials, HistoryQuery, PublishInfo, Request, SubscribeInfo},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::object::{Integer, Object};
use crate::codec::{
    DecodeError,
    request::{Bounds, recover, req_id},
};

pub fn decode(data: &[u8]) -> Result<Request, DecodeError> {
    let envelope: Envelope<'_> = object("envelope", text(data)?)?;
    let payload = envelope.payload.map_or("{}", RawValue::get);
    request(&envelope.event, payload).map_err(|error| DecodeError { req_id: find_req_id(payload), ..error })
}

/// Reads the body of a publish over HTTP: the JSON of a ChannelPubRequest, without an envelope.
pub fn decode_publishes(body: &[u8]) -> Result<Vec<PublishInfo>, DecodeError> {
    let body = text(body)?;
    publishes("body", body).map_err(|error| DecodeError { req_id: find_req_id(body), ..error })
}

fn request(event: &str, payload: &str) -> Result<Request, DecodeError> {
    let place = "payload";
    match event {
        "Pong" => object(place, payload).map(|Empty {}| Request::Pong),
        "Close" => object(place, payload).map(|Empty {}| Request::Close),
        "SessionRestore" => object(place, payload).map(restore),
        "Auth" => object(place, payload).and_then(auth),
        "Publish" => publishes(place, payload).map(Request::Publish),
        "Subscribe" => object(place, payload).map(subscribe),
        "Unsubscribe" => object(place, payload).map(unsubscribe),
        "History" => object(place, payload).map(history),
        _ => Err(DecodeError::new(ErrorCode::UnknownEvent, format!("event {event:?}"))),
    }
}

fn text(data: &[u8]) -> Result<&str, DecodeError> {
    simdutf8::basic::from_utf8(data).map_err(|_| DecodeError::bad("the message is not UTF-8"))
}

fn object<'a, T: Deserialize<'a>>(place: &str, text: &'a str) -> Result<T, DecodeError> {
    let object = serde_json::from_str::<Object<T>>(text);
    object.map(|Object(value)| value).map_err(|error| DecodeError::bad(format!("{place}: {error}")))
}

/// The request id of a message that could not be read. Where a batch holds several, none of them stands for it.
fn find_req_id(payload: &str) -> Option<i64> {
    let Object(ids) = serde_json::from_str::<Object<RequestIds>>(payload).ok()?;
    match &ids.publishes[..] {
        [] => req_id(ids.req_id.unwrap_or_default().0),
        [Object(only)] => only.req_id.map(|Integer(id)| id),
        _ => None,
    }
}

fn restore(message: SessionRestore) -> Request {
    let positions = message.channels.into_iter().map(|Object(info)| info.into()).collect();
    Request::Restore { key: message.restore_key, positions }
}

fn auth(message: AuthRequest<'_>) -> Result<Request, DecodeError> {
    let credentials = match (payload(message.payload, message.text, message.base64)?, message.token) {
        (Some(payload), None) => Credentials::Opaque(payload),
        (None, Some(token)) => Credentials::Token(token),
        _ => return Err(DecodeError::bad("payload: give exactly one of token, payload, text, base64")),
    };
    Ok(Request::Auth { req_id: req_id(message.req_id.0), credentials })
}

fn publishes(place: &str, text: &str) -> Result<Vec<PublishInfo>, DecodeError> {
    let message: ChannelPubRequest<'_> = object(place, text)?;
    let publish = |(index, Object(info))| {
        publish_info(info).map_err(|error| DecodeError::bad(format!("{place}.publishes[{index}]: {}", error.detail)))
    };
    message.publishes.into_iter().enumerate().map(publish).collect()
}

fn publish_info(info: PubRequestInfo<'_>) -> Result<PublishInfo, DecodeError> {
    let empty = Payload { bytes: Bytes::new(), form: Form::Text };
    let Object(Extras { store, push, retain }) = info.extra.unwrap_or(Object(Extras::default()));
    Ok(PublishInfo {
        req_id: info.req_id.map(|Integer(id)| id),
        channel: info.channel,
        event: info.event.unwrap_or_default(),
        payload: payload(info.payload, info.text, info.base64)?.unwrap_or(empty),
        store: store.unwrap_or(false),
        push: push.unwrap_or(false),
        retain: retain.unwrap_or(false),
        key: info.key,
    })
}

/// The payload in the one form in which it was given.
fn payload(
    json: Option<&RawValue>,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Payload>, DecodeError> {
    let (bytes, form) = match (json, text, base64) {
        (None, None, None) => return Ok(None),
        (Some(json), None, None) => (Bytes::copy_from_slice(json.get().as_bytes()), Form::Json),
        (None, Some(text), None) => (Bytes::from(text), Form::Text),
        (None, None, Some(base64)) => {
            let bytes = BASE64_STANDARD.decode(base64).map_err(|error| DecodeError::bad(format!("base64: {error}")))?;
            (Bytes::from(bytes), Form::Binary)
        }
        _ => return Err(DecodeError::bad("give only one of payload, text, base64")),
    };
    Ok(Some(Payload { bytes, form }))
}

fn subscribe(message: SubscribeRequest) -> Request {
    let channels = message.channels.into_iter().map(|Object(info)| info.into()).collect();
    Request::Subscribe { req_id: req_id(message.req_id.0), channels }
}

fn unsubscribe(message: UnsubscribeRequest) -> Request {
    Request::Unsubscribe { req_id: req_id(message.req_id.0), channels: message.channels }
}

fn history(message: HistoryRequest) -> Request {
    let bounds = Bounds {
        before_ts: message.before_ts.map(|Integer(ts)| ts),
        after_ts: message.after_ts.map(|Integer(ts)| ts),
        before_serial: message.before_serial.as_deref(),
        after_serial: message.after_serial.as_deref(),
    };
    Request::History(HistoryQuery {
        req_id: message.req_id.0,
        bound: bounds.bound(),
        channel: message.channel,
        limit: message.limit,
    })
}

impl From<ChannelSubscribeInfo> for SubscribeInfo {
    fn from(info: ChannelSubscribeInfo) -> Self {
        let timestamp = info.timestamp.map(|Integer(timestamp)| timestamp);
        SubscribeInfo { recover: recover(info.channel_serial.as_deref(), timestamp), channel: info.channel }
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow)]
    event: Cow<'a, str>,
    payload: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Empty {}

#[derive(Deserialize)]
struct RequestIds {
    #[serde(rename = "reqID")]
    req_id: Option<Integer>,
    #[serde(default)]
    publishes: Vec<Object<RequestId>>,
}

#[derive(Deserialize)]
struct RequestId {
    #[serde(rename = "reqID")]
    req_id: Option<Integer>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SessionRestore {
    restore_key: Arc<str>,
    #[serde(default)]
    channels: Vec<Object<ChannelSubscribeInfo>>,
}

#[derive(Deserialize)]
struct AuthRequest<'a> {
    #[serde(rename = "reqID", default)]
    req_id: Integer,
    token: Option<Arc<str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    payload: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
}

#[derive(Deserialize)]
struct ChannelPubRequest<'a> {
    #[serde(borrow)]
    publishes: Vec<Object<PubRequestInfo<'a>>>,
}

#[derive(Deserialize)]
struct PubRequestInfo<'a> {
    channel: Arc<str>,
    event: Option<Arc<str>>,
    #[serde(borrow, default, deserialize_with = "given")]
    payload: Option<&'a RawValue>,
    text: Option<String>,
    base64: Option<String>,
    extra: Option<Object<Extras>>,
    #[serde(rename = "reqID")]
    req_id: Option<Integer>,
    key: Option<Arc<str>>,
}

#[derive(Default, Deserialize)]
struct Extras {
    store: Option<bool>,
    push: Option<bool>,
    retain: Option<bool>,
}

#[derive(Deserialize)]
struct SubscribeRequest {
    #[serde(rename = "reqID", default)]
    req_id: Integer,
    channels: Vec<Object<ChannelSubscribeInfo>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ChannelSubscribeInfo {
    channel: Arc<str>,
    timestamp: Option<Integer>,
    channel_serial: Option<Arc<str>>,
}

#[derive(Deserialize)]
struct UnsubscribeRequest {
    #[serde(rename = "reqID", default)]
    req_id: Integer,
    channels: Vec<Arc<str>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HistoryRequest {
    #[serde(rename = "reqID", default)]
    req_id: Integer,
    channel: Arc<str>,
    before_ts: Option<Integer>,
    after_ts: Option<Integer>,
    before_serial: Option<Arc<str>>,
    after_serial: Option<Arc<str>>,
    limit: Option<u32>,
}

/// A field that counts as given also when it is null, because null is JSON that one may publish.
fn given<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}
