//! One or more of every request and every event, each with a name under which `golden.txt` has its two encodings.

use std::sync::Arc;

use appsockets_core::{
    code::{CloseCode, ErrorCode},
    identity::{ChannelAuthorization, Identity, RpcAuthorization},
    message::{Form, Message, Payload},
    serial::{Epoch, Serial},
    session::{
        event::{Authenticated, Event, Failure, HistoryPage, Member, Position, PresenceChange, Published, SessionInfo},
        request::{Credentials, HistoryBound, HistoryQuery, PublishInfo, Recover, Request, SubscribeInfo},
    },
};

/// The requests, with the payloads in the form in which JSON has them.
pub fn requests() -> Vec<(&'static str, Request)> {
    let plain = |channel: &str| SubscribeInfo { channel: channel.into(), recover: None };
    let history = |bound, limit| Request::History(HistoryQuery { req_id: 9, channel: "news".into(), bound, limit });
    vec![
        ("pong", Request::Pong),
        ("close", Request::Close),
        ("restore", Request::Restore { key: "r3st0re".into(), positions: Vec::new() }),
        ("restore_at", Request::Restore { key: "r3st0re".into(), positions: positions() }),
        ("auth_token", Request::Auth { req_id: Some(1), credentials: Credentials::Token("a.b.c".into()) }),
        ("auth_json", Request::Auth { req_id: None, credentials: opaque(r#"{"pin": 1234}"#, Form::Json) }),
        ("auth_text", Request::Auth { req_id: Some(-7), credentials: opaque("open sesame", Form::Text) }),
        ("auth_empty", Request::Auth { req_id: Some(3), credentials: opaque("", Form::Text) }),
        ("publish_plain", Request::Publish(vec![publish("chat:1", "", b"hi \xc3\xa4\n", Form::Text)])),
        ("publish_all", Request::Publish(publishes())),
        ("publish_empty", Request::Publish(Vec::new())),
        ("subscribe", Request::Subscribe { req_id: None, channels: vec![plain("news"), plain("chat:1")] }),
        ("subscribe_at", Request::Subscribe { req_id: Some(5), channels: positions() }),
        ("unsubscribe", Request::Unsubscribe { req_id: Some(6), channels: vec!["news".into()] }),
        ("history", history(HistoryBound::Newest, None)),
        ("history_before_ts", history(HistoryBound::BeforeTimestamp(1_700_000_000_000), Some(20))),
        ("history_after_ts", history(HistoryBound::AfterTimestamp(0), None)),
        ("history_before_serial", history(HistoryBound::BeforeSerial(serial(41)), None)),
        ("history_after_serial", history(HistoryBound::AfterSerial(serial(0)), None)),
        ("history_bad", history(HistoryBound::Bad, None)),
    ]
}

pub fn events() -> Vec<(&'static str, Event)> {
    let news: Arc<str> = "news".into();
    let failure = |code, channel: Option<&str>, req_id| Failure { code, channel: channel.map(Into::into), req_id };
    let message = |form, bytes: &'static [u8], retained| Event::Message {
        channel: news.clone(),
        message: Arc::new(message(form, bytes)),
        retained,
    };
    let presence =
        |change, members: Vec<Member>| Event::Presence { channel: news.clone(), change, members: members.into() };
    let page = |page| Event::History { req_id: 9, channel: news.clone(), page };
    vec![
        ("ping", Event::Ping),
        ("session_info", Event::SessionInfo(session_info())),
        ("restore_key", Event::RestoreKey("r3st0re".into())),
        ("restored", Event::Restored { session_id: "s1".into(), identity: Some(anna()), channels: vec![news.clone()] }),
        ("restored_anonymous", Event::Restored { session_id: "s1".into(), identity: None, channels: Vec::new() }),
        ("auth", Event::Auth { req_id: Some(1), outcome: Ok(Authenticated { identity: anna(), token: "t".into() }) }),
        ("auth_failed", Event::Auth { req_id: None, outcome: Err(ErrorCode::AuthFailed) }),
        ("ack", Event::Ack(published())),
        (
            "subscribed",
            Event::Subscribed {
                req_id: 5,
                channels: vec![news.clone()],
                errors: vec![failure(ErrorCode::ChannelDenied, Some("secret"), None)],
            },
        ),
        ("unsubscribed", Event::Unsubscribed { req_id: Some(6), channels: vec![news.clone()], error: None }),
        (
            "revoked",
            Event::Unsubscribed {
                req_id: None,
                channels: vec![news.clone()],
                error: Some(ErrorCode::SubscriptionRevoked),
            },
        ),
        ("history", page(Ok(HistoryPage { messages: messages(), more: true }))),
        ("history_failed", page(Err(ErrorCode::HistoryFailed))),
        ("position_fresh", position(None, None)),
        ("position_recovered", position(Some(true), None)),
        ("position_lost", position(Some(false), Some(serial(3)))),
        ("message_json", message(Form::Json, b"{\"price\": 1.50}", false)),
        ("message_text", message(Form::Text, b"\"quoted\"\n\x01", true)),
        ("message_binary", message(Form::Binary, b"\x00\xff", false)),
        ("message_detected_json", message(Form::Detect, b"[1]", false)),
        ("message_detected_text", message(Form::Detect, b"[1", false)),
        ("message_detected_binary", message(Form::Detect, b"\xff", false)),
        ("message_empty", message(Form::Detect, b"", false)),
        ("presence", presence(PresenceChange::List, vec![member(true), member(false)])),
        ("join", presence(PresenceChange::Join, vec![member(true)])),
        ("leave", presence(PresenceChange::Leave, vec![member(false)])),
        ("occupancy", Event::Occupancy { channel: news.clone(), count: 300 }),
        ("error", Event::Error(failure(ErrorCode::TryAgain, Some("news"), None))),
        ("error_of_request", Event::Error(failure(ErrorCode::RateLimited, None, Some(12)))),
        ("reconnect", Event::Reconnect { delay_ms: 1500 }),
        ("close_drained", Event::Close(CloseCode::Drained)),
        ("close_auth_refused", Event::Close(CloseCode::AuthRefused)),
    ]
}

pub fn serial(sequence: u64) -> Serial {
    Serial { epoch: Epoch { view: 1, node: 40, generation: 1_000_000, counter: 0 }, sequence }
}

fn positions() -> Vec<SubscribeInfo> {
    let at = |channel: &str, recover| SubscribeInfo { channel: channel.into(), recover: Some(recover) };
    vec![
        at("news", Recover::Serial(serial(41))),
        at("chat:1", Recover::Timestamp(1_700_000_000_000)),
        at("odd", Recover::BadSerial),
    ]
}

fn opaque(text: &'static str, form: Form) -> Credentials {
    Credentials::Opaque(payload(text.as_bytes(), form))
}

fn payload(bytes: &'static [u8], form: Form) -> Payload {
    Payload { bytes: bytes.into(), form }
}

fn publish(channel: &str, event: &str, bytes: &'static [u8], form: Form) -> PublishInfo {
    PublishInfo {
        req_id: None,
        channel: channel.into(),
        event: event.into(),
        payload: payload(bytes, form),
        store: false,
        push: false,
        retain: false,
        key: None,
    }
}

fn publishes() -> Vec<PublishInfo> {
    let full = PublishInfo {
        req_id: Some(7),
        store: true,
        push: true,
        retain: true,
        key: Some("0123456789abcdef".into()),
        ..publish("shop:9", "price", b"{\"eur\": [1.50, null]}", Form::Json)
    };
    let null = PublishInfo { req_id: Some(0), ..publish("news", "n", b"null", Form::Json) };
    vec![full, null, publish("news", "b", b"\x00\xff\x10", Form::Binary)]
}

fn session_info() -> SessionInfo {
    SessionInfo {
        hub: "shop".into(),
        session_id: "s1".into(),
        allow_anonymous: true,
        user_channel: false,
        default_public: true,
        authenticated: false,
        ping_interval_ms: 25_000,
        message_bytes_max: 65_536,
    }
}

fn anna() -> Arc<Identity> {
    let channel = ChannelAuthorization { channel: "chat:*".into(), publish: true, subscribe: false };
    Arc::new(Identity {
        user_id: "anna".into(),
        extra: [("role".to_owned(), "admin".to_owned()), ("name".to_owned(), "Anna \"A\"".to_owned())].into(),
        channels: vec![channel],
        rpcs: vec![RpcAuthorization { method: "math.#".into() }],
        expires_unix_ms: Some(1),
    })
}

fn member(known: bool) -> Member {
    Member { session_id: "s2".into(), identity: known.then(anna), since_ms: 1_700_000_000_000 }
}

fn published() -> Vec<Published> {
    let published = |req_id, outcome| Published { req_id, channel: "news".into(), outcome };
    vec![published(7, Ok(serial(42))), published(-8, Err(ErrorCode::RetainNotAllowed))]
}

fn message(form: Form, bytes: &'static [u8]) -> Message {
    Message { serial: serial(42), ts_ms: 1_700_000_000_000, event: "price".into(), payload: payload(bytes, form) }
}

fn messages() -> Vec<Message> {
    let first = Message { serial: serial(1), ts_ms: 0, event: "".into(), payload: payload(b"5", Form::Text) };
    vec![message(Form::Json, b"5"), first]
}

fn position(recovered: Option<bool>, known: Option<Serial>) -> Event {
    Event::Position(Position { channel: "news".into(), serial: serial(42), recovered, known })
}
