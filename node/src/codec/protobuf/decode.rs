//! From protobuf to requests.

use appsockets_core::{
    code::ErrorCode,
    message::{Form, Payload},
    session::request::{Credentials, HistoryQuery, PublishInfo, Request, SubscribeInfo},
};
use appsockets_proto::client::{self, EventType};
use bytes::Bytes;
use prost::Message;

use crate::codec::{
    DecodeError,
    request::{Bounds, recover, req_id},
};

pub fn decode(data: &[u8]) -> Result<Request, DecodeError> {
    let envelope: client::Envelope = message(data)?;
    // Read from a slice and not from the shared bytes: a small payload must not keep a whole batch in memory.
    let payload = &envelope.payload[..];
    match EventType::try_from(envelope.event) {
        Ok(EventType::Pong) => message(payload).map(|client::Pong {}| Request::Pong),
        Ok(EventType::Close) => message::<client::Close>(payload).map(|_| Request::Close),
        Ok(EventType::SessionRestore) => message(payload).map(restore),
        Ok(EventType::Auth) => message(payload).and_then(auth),
        Ok(EventType::Publish) => message(payload).map(publish),
        Ok(EventType::Subscribe) => message(payload).map(subscribe),
        Ok(EventType::Unsubscribe) => message(payload).map(unsubscribe),
        Ok(EventType::History) => message(payload).map(history),
        _ => Err(DecodeError::new(ErrorCode::UnknownEvent, format!("event {}", envelope.event))),
    }
}

fn message<M: Message + Default>(data: &[u8]) -> Result<M, DecodeError> {
    M::decode(data).map_err(|error| DecodeError::bad(error.to_string()))
}

fn restore(message: client::SessionRestore) -> Request {
    Request::Restore { key: message.restore_key.into(), positions: subscribe_infos(message.channels) }
}

fn auth(message: client::AuthRequest) -> Result<Request, DecodeError> {
    let req_id = req_id(message.req_id);
    let credentials = match (message.payload, message.token) {
        (Some(bytes), None) => Credentials::Opaque(payload(bytes)),
        (None, Some(token)) => Credentials::Token(token.into()),
        _ => return Err(DecodeError { req_id, ..DecodeError::bad("AuthRequest: give exactly one of payload, token") }),
    };
    Ok(Request::Auth { req_id, credentials })
}

fn publish(message: client::ChannelPubRequest) -> Request {
    Request::Publish(message.publishes.into_iter().map(publish_info).collect())
}

fn publish_info(info: client::PubRequestInfo) -> PublishInfo {
    let client::ChannelPubExtras { store, push, retain } = info.extra.unwrap_or_default();
    PublishInfo {
        req_id: info.req_id,
        channel: info.channel.into(),
        event: info.event.into(),
        payload: payload(info.payload),
        store,
        push,
        retain,
        key: info.key.map(Into::into),
    }
}

fn payload(bytes: Bytes) -> Payload {
    Payload { bytes, form: Form::Detect }
}

fn subscribe(message: client::SubscribeRequest) -> Request {
    Request::Subscribe { req_id: req_id(message.req_id), channels: subscribe_infos(message.channels) }
}

fn subscribe_infos(channels: Vec<client::ChannelSubscribeInfo>) -> Vec<SubscribeInfo> {
    let info = |info: client::ChannelSubscribeInfo| SubscribeInfo {
        recover: recover(info.channel_serial.as_deref(), info.timestamp),
        channel: info.channel.into(),
    };
    channels.into_iter().map(info).collect()
}

fn unsubscribe(message: client::UnsubscribeRequest) -> Request {
    let channels = message.channels.into_iter().map(Into::into).collect();
    Request::Unsubscribe { req_id: req_id(message.req_id), channels }
}

fn history(message: client::HistoryRequest) -> Request {
    let bounds = Bounds {
        before_ts: message.before_timestamp,
        after_ts: message.after_timestamp,
        before_serial: message.before_serial.as_deref(),
        after_serial: message.after_serial.as_deref(),
    };
    Request::History(HistoryQuery {
        req_id: message.req_id,
        bound: bounds.bound(),
        channel: message.channel.into(),
        limit: message.limit,
    })
}
