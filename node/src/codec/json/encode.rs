//! From events to JSON. What is absent is left out; lists, maps and truth values are always written, but for `retained`.

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    identity::Identity,
    session::event::{
        Authenticated, Event, Failure, HistoryPage, Member, Position, PresenceChange, Published, SessionInfo,
    },
};

use super::{
    fields::{Fields, list, object, value},
    message::{channel_publish, encode_message},
};

pub fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::SessionInfo(info) => envelope("SessionInfo", out, |fields| session_info(info, fields)),
        Event::RestoreKey(key) => envelope("SessionRestore", out, |fields| {
            fields.put("restoreKey", key);
        }),
        Event::Restored { session_id, identity, channels } => envelope("SessionRestored", out, |fields| {
            authorized(identity.as_deref().unwrap_or(&Identity::default()), fields);
            fields.put("subscribedChannels", channels).put("sessionID", session_id);
        }),
        Event::Ping => envelope("Ping", out, |_| {}),
        Event::Auth { req_id, outcome } => envelope("Auth", out, |fields| auth(*req_id, outcome, fields)),
        Event::Ack(published) => envelope("Ack", out, |fields| acknowledged(published, fields)),
        Event::Subscribed { req_id, channels, errors } => envelope("Subscribe", out, |fields| {
            fields.put("reqID", req_id).put("subscribedChannels", channels);
            fields.put_with("errors", |out| list(errors, out, failure));
        }),
        Event::Unsubscribed { req_id, channels, error } => envelope("Unsubscribe", out, |fields| {
            put_error(*error, fields.put_some("reqID", *req_id).put("unsubscribedChannels", channels));
        }),
        Event::History { req_id, channel, page } => {
            envelope("History", out, |fields| history(*req_id, channel, page, fields));
        }
        Event::Position(at) => envelope("Position", out, |fields| position(at, fields)),
        Event::Message { channel, message, retained } => encode_message(channel, message, *retained, out),
        Event::Presence { channel, change, members } => envelope(presence_name(*change), out, |fields| {
            fields.put("channel", channel).put_with("members", |out| list(members, out, member));
        }),
        Event::Occupancy { channel, count } => envelope("Occupancy", out, |fields| {
            fields.put("channel", channel).put("count", count);
        }),
        Event::Error(why) => envelope("Error", out, |fields| failure_fields(why, fields)),
        Event::Reconnect { delay_ms } => envelope("Reconnect", out, |fields| {
            fields.put("delayMs", delay_ms);
        }),
        Event::Close(code) => envelope("Close", out, |fields| close(*code, fields)),
    }
}

/// Appends the answer to a publish over HTTP: the JSON of a ChannelPubResponse, without an envelope.
pub fn encode_published(published: &[Published], out: &mut Vec<u8>) {
    object(out, |fields| acknowledged(published, fields));
}

/// Appends the body of an answer over HTTP: who is present in a channel.
pub fn encode_members(channel: &str, members: &[Member], out: &mut Vec<u8>) {
    object(out, |fields| {
        fields.put("channel", channel).put_with("members", |out| list(members, out, member));
    });
}

/// Appends the body of an answer over HTTP: a HistoryResponse, without an envelope.
pub fn encode_history(channel: &str, page: &HistoryPage, out: &mut Vec<u8>) {
    object(out, |fields| history_page(channel, page, fields));
}

/// Appends an envelope; the closure writes the fields of the message in it.
pub fn envelope(event: &str, out: &mut Vec<u8>, write: impl FnOnce(&mut Fields<'_>)) {
    object(out, |fields| {
        fields.put("event", event).put_with("payload", |out| object(out, write));
    });
}

fn session_info(info: &SessionInfo, fields: &mut Fields<'_>) {
    fields
        .put("hubID", &info.hub)
        .put("sessionID", &info.session_id)
        .put("hubAllowAnonymous", &info.allow_anonymous)
        .put("hubAllowUserChannel", &info.user_channel)
        .put("defaultPublic", &info.default_public)
        .put("authenticated", &info.authenticated)
        .put("pingIntervalMs", &info.ping_interval_ms)
        .put("maxMessageSize", &info.message_bytes_max);
}

fn auth(req_id: Option<i64>, outcome: &Result<Authenticated, ErrorCode>, fields: &mut Fields<'_>) {
    fields.put_some("reqID", req_id).put("success", &outcome.is_ok());
    match outcome {
        Ok(Authenticated { identity, token }) => {
            fields.put("token", token);
            authorized(identity, fields);
        }
        Err(code) => put_error(Some(*code), fields),
    }
}

/// What a session that was authenticated or restored is told of itself.
fn authorized(identity: &Identity, fields: &mut Fields<'_>) {
    fields
        .put("userID", &identity.user_id)
        .put_with("channelAuthorizations", |out| {
            list(&identity.channels, out, |granted, out| {
                object(out, |fields| {
                    fields.put("channel", &granted.channel);
                    fields.put("publish", &granted.publish).put("subscribe", &granted.subscribe);
                });
            });
        })
        .put_with("rpcAuthorizations", |out| {
            list(&identity.rpcs, out, |granted, out| {
                object(out, |fields| {
                    fields.put("method", &granted.method);
                });
            });
        })
        .put("extra", &identity.extra);
}

fn acknowledged(published: &[Published], fields: &mut Fields<'_>) {
    fields.put_with("published", |out| list(published, out, response));
}

fn response(published: &Published, out: &mut Vec<u8>) {
    let Published { req_id, channel, outcome } = published;
    object(out, |fields| {
        fields.put("reqID", req_id).put("success", &outcome.is_ok());
        match outcome {
            Ok(serial) => {
                let serial = serial.to_string();
                fields.put("msgID", &serial).put("channelSerial", &serial);
            }
            Err(code) => {
                let why = Failure { code: *code, channel: Some(channel.clone()), req_id: None };
                fields.put_with("error", |out| failure(&why, out));
            }
        }
    });
}

fn put_error(code: Option<ErrorCode>, fields: &mut Fields<'_>) {
    if let Some(code) = code {
        fields.put_with("error", |out| failure(&Failure { code, channel: None, req_id: None }, out));
    }
}

fn failure(why: &Failure, out: &mut Vec<u8>) {
    object(out, |fields| failure_fields(why, fields));
}

fn failure_fields(why: &Failure, fields: &mut Fields<'_>) {
    let Failure { code, channel, req_id } = why;
    fields
        .put("code", &code.code())
        .put("name", code.name())
        .put("message", code.message())
        .put("retry", &code.retry())
        .put_some("channel", channel.as_ref())
        .put_some("reqID", *req_id);
}

fn history(req_id: i64, channel: &str, page: &Result<HistoryPage, ErrorCode>, fields: &mut Fields<'_>) {
    fields.put("reqID", &req_id);
    match page {
        Ok(page) => history_page(channel, page, fields),
        Err(_) => history_page(channel, &HistoryPage { messages: Vec::new(), more: false }, fields),
    }
    put_error(page.as_ref().err().copied(), fields);
}

fn history_page(channel: &str, page: &HistoryPage, fields: &mut Fields<'_>) {
    fields
        .put("channel", channel)
        .put_with("messages", |out| {
            list(&page.messages, out, |message, out| {
                object(out, |fields| channel_publish(fields, channel, message, false));
            });
        })
        .put("more", &page.more);
}

fn position(position: &Position, fields: &mut Fields<'_>) {
    fields
        .put("channel", &position.channel)
        .put("channelSerial", &position.serial.to_string())
        .put_some("recovered", position.recovered)
        .put_some("knownSerial", position.known.map(|serial| serial.to_string()));
}

fn presence_name(change: PresenceChange) -> &'static str {
    match change {
        PresenceChange::List => "Presence",
        PresenceChange::Join => "Join",
        PresenceChange::Leave => "Leave",
    }
}

fn member(member: &Member, out: &mut Vec<u8>) {
    let identity = member.identity.as_deref();
    object(out, |fields| {
        fields.put("sessionID", &member.session_id).put("userID", identity.map_or("", |identity| &identity.user_id));
        fields.put_with("extra", |out| match identity {
            Some(identity) => value(&identity.extra, out),
            None => out.extend_from_slice(b"{}"),
        });
        fields.put("since", &member.since_ms);
    });
}

fn close(code: CloseCode, fields: &mut Fields<'_>) {
    fields
        .put("code", &code.code())
        .put("name", code.name())
        .put("message", code.message())
        .put("reconnect", &code.reconnect());
}
