//! One connected client, whatever carries it: who it is, what it may, what it hears, and when it must go.

mod auth;
pub mod effect;
pub mod event;
pub mod record;
pub mod request;
mod requests;
mod restore;
mod subscriptions;

use std::sync::Arc;

pub use requests::{ITEMS_MAX, check_channel, check_history, check_publish, check_publish_form};
pub use restore::Carried;

use crate::{
    bucket::{Bucket, SharedBucket},
    code::{CloseCode, ErrorCode},
    fanout::Subscriber,
    identity::Identity,
    session::{
        effect::Effect,
        event::{Event, Failure, Member, SessionInfo},
        request::SubscribeInfo,
        subscriptions::{PendingSubscribe, Subscription},
    },
    settings::hub::Hub,
    time::Now,
};

/// How long a session that was told to reconnect stays after its delay, in milliseconds.
pub const DRAIN_GRACE_MS: u64 = 10_000;

/// What is the same for all sessions of a node.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Silence of the client after which it is pinged, in milliseconds.
    pub ping_interval_ms: u64,
    /// Silence after a ping that ends the session, in milliseconds.
    pub pong_timeout_ms: u64,
    /// How long a session may stay unauthenticated where anonymous ones are not allowed, in milliseconds.
    pub auth_timeout_ms: u64,
    /// Unless the hub's limits say otherwise.
    pub messages_per_second: u32,
    /// Unless the hub's limits say otherwise.
    pub channels_max: u32,
    /// Subscribe requests of one session that wait for an answer.
    pub pending_max: usize,
    /// Only to be told to the client; the edge enforces it. In bytes.
    pub message_bytes_max: u32,
    /// Messages in a row that can't be read, after which the session ends.
    pub unreadable_max: u8,
}

/// What a session needs for each of its steps.
pub struct Context<'a> {
    pub now: Now,
    pub config: &'a Config,
    /// What the hub's sessions of this node may send together.
    pub meter: &'a SharedBucket,
    pub effects: &'a mut Vec<Effect>,
}

/// With what a session begins.
#[derive(Debug)]
pub struct Opening {
    /// How the shell names it; answers come back under this.
    pub subscriber: Subscriber,
    /// Unique and unguessable, from chance outside.
    pub id: Arc<str>,
    pub restore_key: Arc<str>,
    pub hub: Arc<Hub>,
    pub identity: Option<Arc<Identity>>,
    /// The client can send nothing, so it is told no restore key and owes no heartbeat.
    pub one_way: bool,
    /// Channels given while connecting.
    pub channels: Vec<SubscribeInfo>,
}

/// One connected client.
#[derive(Debug)]
pub struct Session {
    subscriber: Subscriber,
    id: Arc<str>,
    hub: Arc<Hub>,
    identity: Option<Arc<Identity>>,
    one_way: bool,
    bucket: Bucket,
    unreadable: u8,
    heard_ms: u64,
    pinged_ms: Option<u64>,
    /// When the session must have authenticated.
    auth_until_ms: Option<u64>,
    /// An authentication that is under way, with its request id.
    authenticating: Option<Option<i64>>,
    /// When the session ends because the node stops.
    ends_ms: Option<u64>,
    /// By channel, sorted.
    subscriptions: Vec<Subscription>,
    pending: Vec<PendingSubscribe>,
    /// Of the last subscription; also its attachment, so it grows across restores.
    number: u32,
    /// It goes on at another node.
    moved: bool,
}

impl Session {
    pub fn open(opening: Opening, cx: &mut Context<'_>) -> Session {
        let Opening { subscriber, id, restore_key, hub, identity, one_way, channels } = opening;
        let mut session = Session {
            subscriber,
            id,
            hub,
            identity,
            one_way,
            bucket: Bucket::default(),
            unreadable: 0,
            heard_ms: cx.now.mono_ms,
            pinged_ms: None,
            auth_until_ms: None,
            authenticating: None,
            ends_ms: None,
            subscriptions: Vec::new(),
            pending: Vec::new(),
            number: 0,
            moved: false,
        };
        cx.tell(Event::SessionInfo(session.info(cx.config)));
        if !one_way {
            cx.tell(Event::RestoreKey(restore_key));
        }
        session.demand_authentication(cx);
        // First what was asked for: it may say from where the user's channel goes on.
        if !channels.is_empty() {
            session.subscribe(None, channels, cx);
        }
        session.join_user_channel(cx);
        session
    }

    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    pub fn hub(&self) -> &Arc<Hub> {
        &self.hub
    }

    pub fn identity(&self) -> Option<&Arc<Identity>> {
        self.identity.as_ref()
    }

    /// It goes on at another node: whoever hears of its end here is not to take it for a leave.
    pub fn let_go(&mut self) {
        self.moved = true;
    }

    /// Something came from the client.
    pub fn heard(&mut self, now: Now) {
        self.heard_ms = now.mono_ms;
        self.pinged_ms = None;
    }

    /// A message came that could not be decoded.
    pub fn unreadable(&mut self, code: ErrorCode, req_id: Option<i64>, cx: &mut Context<'_>) {
        self.heard(cx.now);
        self.unreadable = self.unreadable.saturating_add(1);
        if self.unreadable > cx.config.unreadable_max {
            return cx.end(CloseCode::ProtocolViolation);
        }
        let admitted = self.meter(1, cx);
        cx.tell(Event::Error(Failure { code: admitted.err().unwrap_or(code), channel: None, req_id }));
    }

    /// The node is about to stop: the client is to connect again, elsewhere, after the delay. One that can't hear it as
    /// an order is disconnected then; any other has a while longer.
    pub fn drain(&mut self, delay_ms: u32, cx: &mut Context<'_>) {
        let grace_ms = if self.one_way { 0 } else { DRAIN_GRACE_MS };
        self.ends_ms = Some(cx.now.mono_ms + u64::from(delay_ms) + grace_ms);
        cx.tell(Event::Reconnect { delay_ms });
    }

    /// Whether the client was told to connect elsewhere.
    pub fn is_draining(&self) -> bool {
        self.ends_ms.is_some()
    }

    /// Does what is due. To be called at [`Session::due_ms`] at the latest.
    pub fn tick(&mut self, cx: &mut Context<'_>) {
        let now_ms = cx.now.mono_ms;
        if self.ends_ms.is_some_and(|ends_ms| ends_ms <= now_ms) {
            return cx.end(CloseCode::Drained);
        }
        if self.auth_until_ms.is_some_and(|until_ms| until_ms <= now_ms) {
            return cx.end(CloseCode::AuthTimeout);
        }
        if self.expires_unix_ms().is_some_and(|unix_ms| unix_ms <= cx.now.unix_ms) {
            return cx.end(CloseCode::TokenExpired);
        }
        match self.pinged_ms {
            Some(pinged_ms) if pinged_ms + cx.config.pong_timeout_ms <= now_ms => cx.end(CloseCode::HeartbeatMissed),
            None if self.heard_ms + cx.config.ping_interval_ms <= now_ms => {
                cx.tell(Event::Ping);
                // Who can't answer owes no answer: the ping only keeps the connection in use.
                if self.one_way {
                    self.heard_ms = now_ms;
                } else {
                    self.pinged_ms = Some(now_ms);
                }
            }
            _ => {}
        }
    }

    /// When [`Session::tick`] is due, in `Now::mono_ms`.
    pub fn due_ms(&self, now: Now, config: &Config) -> u64 {
        let heartbeat_ms = match self.pinged_ms {
            Some(pinged_ms) => pinged_ms + config.pong_timeout_ms,
            None => self.heard_ms + config.ping_interval_ms,
        };
        let expires_in_ms = self.expires_unix_ms().map(|unix_ms| unix_ms.saturating_sub(now.unix_ms));
        let expiry_ms = expires_in_ms.map(|ms| now.mono_ms.saturating_add(ms));
        [self.auth_until_ms, expiry_ms, self.ends_ms].into_iter().flatten().fold(heartbeat_ms, u64::min)
    }

    /// The hub's settings changed; `None` if the hub was removed.
    pub fn hub_changed(&mut self, hub: Option<Arc<Hub>>, cx: &mut Context<'_>) {
        let Some(hub) = hub else { return cx.end(CloseCode::HubClosed) };
        let before = std::mem::replace(&mut self.hub, hub);
        if self.one_way && self.identity.is_none() && !self.hub.allow_anonymous {
            return cx.end(CloseCode::AnonymousRefused);
        }
        self.demand_authentication(cx);
        if before.user_channel && !self.hub.user_channel {
            self.leave_user_channel(cx);
        }
        self.revoke(cx);
        self.enter_presence(&before, cx);
        self.join_user_channel(cx);
    }

    fn info(&self, config: &Config) -> SessionInfo {
        SessionInfo {
            hub: self.hub.id.clone(),
            session_id: self.id.clone(),
            allow_anonymous: self.hub.allow_anonymous,
            user_channel: self.hub.user_channel,
            default_public: self.hub.default_public,
            authenticated: self.identity.is_some(),
            ping_interval_ms: u32::try_from(config.ping_interval_ms).unwrap_or(u32::MAX),
            message_bytes_max: config.message_bytes_max,
        }
    }

    fn member(&self, now: Now) -> Member {
        Member { session_id: self.id.clone(), identity: self.identity.clone(), since_ms: now.unix_ms }
    }

    fn expires_unix_ms(&self) -> Option<u64> {
        self.identity.as_ref().and_then(|identity| identity.expires_unix_ms)
    }
}

impl Context<'_> {
    fn tell(&mut self, event: Event) {
        self.effects.push(Effect::Tell(event));
    }

    fn end(&mut self, code: CloseCode) {
        self.effects.push(Effect::End(code));
    }
}
