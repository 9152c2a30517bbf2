//! What the client asks: limits and rights first, then on to the channel's owner.

use std::sync::Arc;

use crate::{
    access,
    channel::{self, ChannelKey, Kind, NAME_BYTES_MAX},
    code::ErrorCode,
    identity::Identity,
    serial::Serial,
    session::{
        Context, Session,
        effect::Effect,
        event::{Event, Failure, Published},
        request::{HistoryBound, HistoryQuery, PublishInfo, Request},
    },
    settings::hub::Hub,
    shard::request::{Ask, Publish, Token},
};

/// Stands for "no request id" where a number travels anyway. A client that gives it gets no answer.
const NO_REQUEST: i64 = i64::MIN;

/// Publishes or channels in one message. Many tiny ones fit into the bytes that a message may have, and each of them
/// costs more than its bytes.
pub const ITEMS_MAX: usize = 1_000;

const KEY_BYTES: std::ops::RangeInclusive<usize> = 16..=64;

impl Session {
    pub fn request(&mut self, request: Request, cx: &mut Context<'_>) {
        self.heard(cx.now);
        self.unreadable = 0;
        if items(&request) > ITEMS_MAX {
            let failure = Failure { code: ErrorCode::MessageTooLarge, channel: None, req_id: None };
            return cx.tell(Event::Error(failure));
        }
        if let Err(code) = self.admit(&request, cx) {
            return refuse(request, code, cx);
        }
        match request {
            Request::Pong | Request::Close => {}
            Request::Restore { key, positions } => self.ask_restore(key, positions, cx),
            Request::Auth { req_id, credentials } => self.authenticate(req_id, credentials, cx),
            Request::Publish(publishes) => publishes.into_iter().for_each(|publish| self.publish(publish, cx)),
            Request::Subscribe { req_id, channels } => self.subscribe(req_id, channels, cx),
            Request::Unsubscribe { req_id, channels } => self.unsubscribe(req_id, channels, cx),
            Request::History(query) => self.history(query, cx),
        }
    }

    /// The outcome of a publish, from the channel's owner.
    pub fn published(
        &mut self,
        channel: Arc<str>,
        number: i64,
        outcome: Result<Serial, ErrorCode>,
        cx: &mut Context<'_>,
    ) {
        tell_published((number != NO_REQUEST).then_some(number), channel, outcome, cx);
    }

    /// Whether the request may be looked at at all.
    fn admit(&mut self, request: &Request, cx: &mut Context<'_>) -> Result<(), ErrorCode> {
        let cost = match request {
            Request::Pong | Request::Close => return Ok(()),
            Request::Publish(publishes) => u32::try_from(publishes.len().max(1)).unwrap_or(u32::MAX),
            _ => 1,
        };
        self.meter(cost, cx)?;
        let open_to_all = matches!(request, Request::Auth { .. } | Request::Restore { .. });
        if self.identity.is_none() && !self.hub.allow_anonymous && !open_to_all {
            return Err(ErrorCode::NotAuthenticated);
        }
        Ok(())
    }

    /// Whether so much more may come from this session and this hub now.
    pub(super) fn meter(&mut self, cost: u32, cx: &Context<'_>) -> Result<(), ErrorCode> {
        let limits = &self.hub.limits;
        let per_second = limits.session_messages_per_second.unwrap_or(cx.config.messages_per_second);
        if !self.bucket.take(cx.now.mono_ms, cost, per_second) {
            return Err(ErrorCode::RateLimited);
        }
        if limits.messages_per_second.is_some_and(|most| !cx.meter.take(cx.now.mono_ms, cost, most)) {
            return Err(ErrorCode::HubRateLimited);
        }
        Ok(())
    }

    fn publish(&mut self, info: PublishInfo, cx: &mut Context<'_>) {
        if let Err(code) = check_publish(&self.hub, self.identity.as_deref(), &info) {
            return tell_published(info.req_id, info.channel, Err(code), cx);
        }
        let PublishInfo { req_id, channel, event, payload, store, push, retain, key } = info;
        let token = Token { subscriber: self.subscriber, number: req_id.unwrap_or(NO_REQUEST) };
        let publish = Publish { token, ack: req_id.is_some(), event, payload, store, push, retain, key };
        cx.effects.push(Effect::Ask { key: self.key(channel), ask: Ask::Publish(publish) });
    }

    fn history(&mut self, query: HistoryQuery, cx: &mut Context<'_>) {
        let allowed = if query.req_id == 0 {
            Err(ErrorCode::BadRequestId)
        } else {
            check_history(&self.hub, self.identity.as_deref(), &query)
        };
        match allowed {
            Ok(()) => cx.effects.push(Effect::ReadHistory(query)),
            Err(code) => cx.tell(Event::History { req_id: query.req_id, channel: query.channel, page: Err(code) }),
        }
    }

    pub(super) fn key(&self, channel: Arc<str>) -> ChannelKey {
        ChannelKey::new(self.hub.id.clone(), channel)
    }
}

fn items(request: &Request) -> usize {
    match request {
        Request::Publish(publishes) => publishes.len(),
        Request::Subscribe { channels, .. } | Request::Restore { positions: channels, .. } => channels.len(),
        Request::Unsubscribe { channels, .. } => channels.len(),
        Request::Pong | Request::Close | Request::Auth { .. } | Request::History(_) => 1,
    }
}

/// Whether a channel can have this name, and is of a kind that there is.
pub fn check_channel(name: &str) -> Result<(), ErrorCode> {
    if !channel::is_valid_name(name) {
        return Err(ErrorCode::BadChannel);
    }
    match Kind::of(name) {
        Kind::Default => Ok(()),
        Kind::Document | Kind::Notification => Err(ErrorCode::Unsupported),
    }
}

/// Whether somebody may publish this, as far as the channel's owner does not decide it.
pub fn check_publish(hub: &Hub, identity: Option<&Identity>, info: &PublishInfo) -> Result<(), ErrorCode> {
    check_publish_form(info)?;
    let access = access::decide(hub, &info.channel, identity);
    if access.publish { Ok(()) } else { Err(ErrorCode::ChannelDenied) }
}

/// Whether this can be published at all: what an administrator is held to.
pub fn check_publish_form(info: &PublishInfo) -> Result<(), ErrorCode> {
    check_channel(&info.channel)?;
    if info.event.len() > NAME_BYTES_MAX {
        return Err(ErrorCode::BadEventName);
    }
    if info.key.as_ref().is_some_and(|key| !KEY_BYTES.contains(&key.len())) {
        return Err(ErrorCode::BadKey);
    }
    Ok(())
}

/// Whether somebody may read this page of a channel's stored messages: who may subscribe may.
pub fn check_history(hub: &Hub, identity: Option<&Identity>, query: &HistoryQuery) -> Result<(), ErrorCode> {
    check_channel(&query.channel)?;
    if query.bound == HistoryBound::Bad {
        return Err(ErrorCode::BadSerial);
    }
    let access = access::decide(hub, &query.channel, identity);
    if access.subscribe { Ok(()) } else { Err(ErrorCode::ChannelDenied) }
}

fn tell_published(req_id: Option<i64>, channel: Arc<str>, outcome: Result<Serial, ErrorCode>, cx: &mut Context<'_>) {
    match (req_id, outcome) {
        (Some(req_id), outcome) => cx.effects.push(Effect::Ack(Published { req_id, channel, outcome })),
        (None, Err(code)) => cx.effects.push(Effect::Refuse(Failure { code, channel: Some(channel), req_id: None })),
        (None, Ok(_)) => {}
    }
}

/// Answers a request that is not looked at, each in the way in which it would have been answered.
fn refuse(request: Request, code: ErrorCode, cx: &mut Context<'_>) {
    match request {
        Request::Pong | Request::Close => {}
        Request::Restore { .. } => cx.tell(Event::Error(Failure { code, channel: None, req_id: None })),
        Request::Auth { req_id, .. } => cx.tell(Event::Auth { req_id, outcome: Err(code) }),
        Request::Publish(publishes) => {
            publishes.into_iter().for_each(|info| tell_published(info.req_id, info.channel, Err(code), cx));
        }
        Request::Subscribe { req_id, channels } => {
            let errors =
                channels.into_iter().map(|info| Failure { code, channel: Some(info.channel), req_id }).collect();
            super::subscriptions::tell_subscribed(req_id, Vec::new(), errors, cx);
        }
        Request::Unsubscribe { req_id, .. } => {
            cx.tell(Event::Error(Failure { code, channel: None, req_id }));
        }
        Request::History(HistoryQuery { req_id, channel, .. }) => {
            cx.tell(Event::History { req_id, channel, page: Err(code) });
        }
    }
}
