//! From events to protobuf.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    identity::Identity,
    session::event::{
        Authenticated, Event, Failure, HistoryPage, Member, Position, PresenceChange, Published, SessionInfo,
    },
};
use appsockets_proto::client::{self, EventType};
use prost::Message;

use super::message::{self, encode_message};

pub fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::SessionInfo(info) => envelope(EventType::SessionInfo, &session_info(info), out),
        Event::RestoreKey(key) => {
            let restore = client::SessionRestore { restore_key: key.to_string(), channels: Vec::new() };
            envelope(EventType::SessionRestore, &restore, out);
        }
        Event::Restored { session_id, identity, channels } => {
            envelope(EventType::SessionRestored, &restored(session_id, identity.as_deref(), channels), out);
        }
        Event::Ping => envelope(EventType::Ping, &client::Ping {}, out),
        Event::Auth { req_id, outcome } => envelope(EventType::Auth, &auth(*req_id, outcome), out),
        Event::Ack(published) => {
            let ack = client::ChannelPubResponse { published: published.iter().map(response).collect() };
            envelope(EventType::Ack, &ack, out);
        }
        Event::Subscribed { req_id, channels, errors } => {
            let subscribed = client::SubscribeResponse {
                req_id: *req_id,
                subscribed_channels: strings(channels),
                errors: errors.iter().map(failure).collect(),
            };
            envelope(EventType::Subscribe, &subscribed, out);
        }
        Event::Unsubscribed { req_id, channels, error: code } => {
            let unsubscribed = client::UnsubscribeResponse {
                req_id: req_id.unwrap_or(0),
                unsubscribed_channels: strings(channels),
                error: code.map(error),
            };
            envelope(EventType::Unsubscribe, &unsubscribed, out);
        }
        Event::History { req_id, channel, page } => {
            envelope(EventType::History, &history(*req_id, channel, page), out);
        }
        Event::Position(at) => envelope(EventType::Position, &position(at), out),
        Event::Message { channel, message, retained } => encode_message(channel, message, *retained, out),
        Event::Presence { channel, change, members } => presence(channel, *change, members, out),
        Event::Occupancy { channel, count } => {
            let occupancy = client::Occupancy { channel: channel.to_string(), count: *count };
            envelope(EventType::Occupancy, &occupancy, out);
        }
        Event::Error(why) => envelope(EventType::Error, &failure(why), out),
        Event::Reconnect { delay_ms } => {
            envelope(EventType::Reconnect, &client::Reconnect { delay_ms: *delay_ms }, out);
        }
        Event::Close(code) => envelope(EventType::Close, &close(*code), out),
    }
}

fn envelope(event: EventType, message: &impl Message, out: &mut Vec<u8>) {
    message::header(event, message.encoded_len(), out);
    // A Vec grows as it is written, so there is always room.
    let _ = message.encode(out);
}

fn session_info(info: &SessionInfo) -> client::SessionInfo {
    client::SessionInfo {
        hub_id: info.hub.to_string(),
        session_id: info.session_id.to_string(),
        hub_allow_anonymous: info.allow_anonymous,
        hub_allow_user_channel: info.user_channel,
        default_public: info.default_public,
        authenticated: info.authenticated,
        ping_interval_ms: info.ping_interval_ms,
        max_message_size: info.message_bytes_max,
    }
}

fn restored(session_id: &str, identity: Option<&Identity>, channels: &[Arc<str>]) -> client::SessionRestored {
    client::SessionRestored {
        user_id: identity.map_or_else(String::new, |identity| identity.user_id.to_string()),
        channel_authorizations: identity.map_or_else(Vec::new, channel_authorizations),
        rpc_authorizations: identity.map_or_else(Vec::new, rpc_authorizations),
        extra: extra(identity),
        subscribed_channels: strings(channels),
        session_id: session_id.to_string(),
    }
}

fn auth(req_id: Option<i64>, outcome: &Result<Authenticated, ErrorCode>) -> client::AuthResponse {
    let req_id = req_id.unwrap_or(0);
    match outcome {
        Ok(Authenticated { identity, token }) => client::AuthResponse {
            req_id,
            success: true,
            user_id: identity.user_id.to_string(),
            token: token.to_string(),
            channel_authorizations: channel_authorizations(identity),
            rpc_authorizations: rpc_authorizations(identity),
            extra: extra(Some(identity)),
            error: None,
        },
        Err(code) => client::AuthResponse { req_id, error: Some(error(*code)), ..Default::default() },
    }
}

fn channel_authorizations(identity: &Identity) -> Vec<client::ChannelAuthorization> {
    let authorization = |granted: &appsockets_core::identity::ChannelAuthorization| client::ChannelAuthorization {
        channel: granted.channel.to_string(),
        publish: granted.publish,
        subscribe: granted.subscribe,
    };
    identity.channels.iter().map(authorization).collect()
}

fn rpc_authorizations(identity: &Identity) -> Vec<client::RpcAuthorization> {
    identity.rpcs.iter().map(|granted| client::RpcAuthorization { method: granted.method.to_string() }).collect()
}

fn extra(identity: Option<&Identity>) -> BTreeMap<String, String> {
    identity.map(|identity| identity.extra.clone()).unwrap_or_default()
}

fn response(published: &Published) -> client::Response {
    let serial = published.outcome.ok().map(|serial| serial.to_string());
    client::Response {
        req_id: published.req_id,
        success: serial.is_some(),
        msg_id: serial.clone(),
        channel_serial: serial,
        error: published
            .outcome
            .err()
            .map(|code| client::Error { channel: Some(published.channel.to_string()), ..error(code) }),
    }
}

fn failure(failure: &Failure) -> client::Error {
    client::Error {
        channel: failure.channel.as_ref().map(ToString::to_string),
        req_id: failure.req_id,
        ..error(failure.code)
    }
}

fn error(code: ErrorCode) -> client::Error {
    client::Error {
        code: code.code().into(),
        name: code.name().to_owned(),
        message: code.message().to_owned(),
        retry: code.retry(),
        channel: None,
        req_id: None,
    }
}

fn history(req_id: i64, channel: &str, page: &Result<HistoryPage, ErrorCode>) -> client::HistoryResponse {
    let (messages, more) = page.as_ref().map_or((&[][..], false), |page| (&page.messages[..], page.more));
    client::HistoryResponse {
        req_id,
        channel: channel.to_owned(),
        messages: messages.iter().map(|message| message::channel_publish(channel, message, false)).collect(),
        more,
        error: page.as_ref().err().copied().map(error),
    }
}

fn position(position: &Position) -> client::Position {
    client::Position {
        channel: position.channel.to_string(),
        channel_serial: position.serial.to_string(),
        recovered: position.recovered,
        known_serial: position.known.map(|serial| serial.to_string()),
    }
}

fn presence(channel: &str, change: PresenceChange, members: &[Member], out: &mut Vec<u8>) {
    let channel = channel.to_owned();
    let members = members.iter().map(member).collect();
    match change {
        PresenceChange::List => envelope(EventType::Presence, &client::Presence { channel, members }, out),
        PresenceChange::Join => envelope(EventType::Join, &client::Join { channel, members }, out),
        PresenceChange::Leave => envelope(EventType::Leave, &client::Leave { channel, members }, out),
    }
}

fn member(member: &Member) -> client::PresenceMember {
    let identity = member.identity.as_deref();
    client::PresenceMember {
        session_id: member.session_id.to_string(),
        user_id: identity.map_or_else(String::new, |identity| identity.user_id.to_string()),
        extra: extra(identity),
        since: member.since_ms as i64,
    }
}

fn close(code: CloseCode) -> client::Close {
    client::Close {
        code: code.code().into(),
        name: code.name().to_owned(),
        message: code.message().to_owned(),
        reconnect: code.reconnect(),
    }
}

fn strings(texts: &[Arc<str>]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}
