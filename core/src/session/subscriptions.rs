//! The channels that a session hears.

use crate::{
    access,
    channel::{self, ChannelName},
    code::ErrorCode,
    serial::{Epoch, Serial},
    session::{
        Context, Session,
        effect::Effect,
        event::{Event, Failure, Position, PresenceChange},
        request::{Recover, SubscribeInfo},
        requests::check_channel,
    },
    settings::hub::Hub,
    shard::request::{Ask, Start, Subscribe, Token},
};

/// One channel of a session.
#[derive(Clone, Debug)]
pub struct Subscription {
    pub channel: ChannelName,
    /// Tells the answers to two subscriptions to one channel apart, and is the attachment of the presence.
    pub number: u32,
    pub state: State,
    /// The node subscribed the session, the client did not ask.
    pub automatic: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The owner has not answered; the number is of the request that waits for it, if one does.
    Pending(Option<u32>),
    Active,
}

/// A Subscribe request that is not answered yet.
#[derive(Debug)]
pub struct PendingSubscribe {
    number: u32,
    req_id: Option<i64>,
    open: usize,
    channels: Vec<ChannelName>,
    errors: Vec<Failure>,
}

impl Session {
    /// Channels that the session hears, or is about to.
    pub fn channels(&self) -> impl Iterator<Item = &ChannelName> {
        self.subscriptions.iter().map(|subscription| &subscription.channel)
    }

    pub(super) fn subscribe(&mut self, req_id: Option<i64>, mut infos: Vec<SubscribeInfo>, cx: &mut Context<'_>) {
        if self.pending.len() >= cx.config.pending_max {
            let errors = infos.into_iter().map(|info| failure(ErrorCode::TooManyRequests, info.channel, req_id));
            return tell_subscribed(req_id, Vec::new(), errors.collect(), cx);
        }
        infos.sort_by(|a, b| a.channel.cmp(&b.channel));
        infos.dedup_by(|a, b| a.channel == b.channel);
        self.number += 1;
        let mut pending =
            PendingSubscribe { number: self.number, req_id, open: 0, channels: Vec::new(), errors: Vec::new() };
        for SubscribeInfo { channel, recover } in infos {
            match self.may_subscribe(&channel, recover, cx) {
                Err(code) => pending.errors.push(failure(code, channel, req_id)),
                Ok(()) if recover.is_none() && self.is_active(&channel) => pending.channels.push(channel),
                Ok(()) => {
                    pending.open += 1;
                    self.ask_subscribe(channel, recover, Some(pending.number), false, cx);
                }
            }
        }
        self.pending.push(pending);
        self.finish_pending(cx);
    }

    /// The owner's answer to a subscription.
    pub fn subscribed(
        &mut self,
        channel: &ChannelName,
        number: i64,
        outcome: Result<Box<Start>, ErrorCode>,
        cx: &mut Context<'_>,
    ) {
        let Ok(at) = self.find(channel) else { return };
        let subscription = &mut self.subscriptions[at];
        let State::Pending(request) = subscription.state else { return };
        if i64::from(subscription.number) != number {
            return;
        }
        let outcome = match outcome {
            Ok(start) => {
                subscription.state = State::Active;
                self.begin(channel, *start, cx);
                Ok(())
            }
            Err(code) => {
                self.subscriptions.remove(at);
                cx.effects.push(Effect::Changed);
                if request.is_none() {
                    // No request waits for the answer: it is the node that subscribed the session.
                    tell_ended(vec![channel.clone()], code, cx);
                }
                Err(code)
            }
        };
        self.resolve(request, channel, outcome, cx);
    }

    pub(super) fn unsubscribe(&mut self, req_id: Option<i64>, channels: Vec<ChannelName>, cx: &mut Context<'_>) {
        let (mut left, mut missing) = (Vec::new(), Vec::new());
        for channel in channels {
            if self.leave(&channel, ErrorCode::NotSubscribed, cx) {
                left.push(channel);
            } else {
                missing.push(channel);
            }
        }
        match req_id {
            Some(_) => {
                let error = (left.is_empty() && !missing.is_empty()).then_some(ErrorCode::NotSubscribed);
                cx.tell(Event::Unsubscribed { req_id, channels: left, error });
            }
            None => missing
                .into_iter()
                .for_each(|channel| cx.tell(Event::Error(failure(ErrorCode::NotSubscribed, channel, None)))),
        }
    }

    /// The session could not take something of a channel, and now it can again: what it lacks is asked for.
    pub fn catch_up(&mut self, channel: &ChannelName, reached: Serial, cx: &mut Context<'_>) {
        let Ok(at) = self.find(channel) else { return };
        let Subscription { state: State::Active, automatic, .. } = self.subscriptions[at] else { return };
        self.ask_subscribe(channel.clone(), Some(Recover::Serial(reached)), None, automatic, cx);
    }

    /// Ends all subscriptions, because the session ends.
    pub fn leave_all(&mut self, cx: &mut Context<'_>) {
        for subscription in std::mem::take(&mut self.subscriptions) {
            self.tell_owner_of_leave(&subscription, cx);
        }
    }

    /// Ends what this connection has subscribed to by itself, because it goes on as another session.
    pub(super) fn give_up_subscriptions(&mut self, cx: &mut Context<'_>) {
        let own = self.subscriptions.iter().filter(|s| s.state == State::Active && !s.automatic);
        let told = own.map(|subscription| subscription.channel.clone()).collect();
        for channel in self.channels().cloned().collect::<Vec<_>>() {
            self.leave(&channel, ErrorCode::TryAgain, cx);
        }
        tell_ended(told, ErrorCode::TryAgain, cx);
    }

    pub(super) fn join_user_channel(&mut self, cx: &mut Context<'_>) {
        let Some(identity) = self.identity.as_ref().filter(|_| self.hub.user_channel) else { return };
        let channel = channel::user_channel(&identity.user_id);
        if self.find(&channel).is_err() && channel::is_valid_name(&channel) {
            self.ask_subscribe(channel, None, None, true, cx);
        }
    }

    pub(super) fn leave_user_channel(&mut self, cx: &mut Context<'_>) {
        let automatic: Vec<_> = self.subscriptions.iter().filter(|s| s.automatic).map(|s| s.channel.clone()).collect();
        for channel in &automatic {
            self.leave(channel, ErrorCode::SubscriptionRevoked, cx);
        }
        tell_ended(automatic, ErrorCode::SubscriptionRevoked, cx);
    }

    /// Ends the subscriptions that the session is no longer allowed to hold.
    pub(super) fn revoke(&mut self, cx: &mut Context<'_>) {
        let (hub, identity) = (self.hub.clone(), self.identity.clone());
        let denied = |channel: &str| !access::decide(&hub, channel, identity.as_deref()).subscribe;
        let channels: Vec<_> =
            self.subscriptions.iter().map(|s| &s.channel).filter(|channel| denied(channel)).cloned().collect();
        for channel in &channels {
            self.leave(channel, ErrorCode::SubscriptionRevoked, cx);
        }
        tell_ended(channels, ErrorCode::SubscriptionRevoked, cx);
    }

    /// Tells the owners of channels that have presence now, and had none, that the session is there.
    pub(super) fn enter_presence(&mut self, before: &Hub, cx: &mut Context<'_>) {
        let began = |channel: &str| self.hub.rules(channel).presence && !before.rules(channel).presence;
        self.subscriptions.iter().filter(|s| began(&s.channel)).for_each(|s| self.enter(s, cx));
    }

    /// Tells all owners who the session is now.
    pub(super) fn renew_presence(&self, cx: &mut Context<'_>) {
        self.subscriptions.iter().for_each(|subscription| self.enter(subscription, cx));
    }

    pub(super) fn ask_subscribe(
        &mut self,
        channel: ChannelName,
        recover: Option<Recover>,
        request: Option<u32>,
        automatic: bool,
        cx: &mut Context<'_>,
    ) {
        self.number += 1;
        let token = Token { subscriber: self.subscriber, number: i64::from(self.number) };
        let ask = Subscribe { token, member: self.member(cx.now), attachment: self.number, recover };
        cx.effects.push(Effect::Ask { key: self.key(channel.clone()), ask: Ask::Subscribe(ask) });
        let subscription = Subscription { channel, number: self.number, state: State::Pending(request), automatic };
        match self.find(&subscription.channel) {
            Ok(at) => {
                // Subscribed again, to recover: the new subscription is in place before the old one goes.
                let old = std::mem::replace(&mut self.subscriptions[at], subscription);
                self.tell_owner_of_leave(&old, cx);
            }
            Err(at) => {
                self.subscriptions.insert(at, subscription);
                cx.effects.push(Effect::Changed);
            }
        }
    }

    fn may_subscribe(&self, channel: &str, recover: Option<Recover>, cx: &Context<'_>) -> Result<(), ErrorCode> {
        check_channel(channel)?;
        if recover == Some(Recover::BadSerial) {
            return Err(ErrorCode::BadSerial);
        }
        if !access::decide(&self.hub, channel, self.identity.as_deref()).subscribe {
            return Err(ErrorCode::ChannelDenied);
        }
        let most = self.hub.limits.channels_per_session.unwrap_or(cx.config.channels_max);
        match self.find(channel) {
            Ok(at) if self.subscriptions[at].state != State::Active => Err(ErrorCode::TryAgain),
            Err(_) if self.subscriptions.len() >= most as usize => Err(ErrorCode::TooManyChannels),
            _ => Ok(()),
        }
    }

    /// Ends one subscription, if there is one. A request that still waits for it gets the code.
    fn leave(&mut self, channel: &ChannelName, code: ErrorCode, cx: &mut Context<'_>) -> bool {
        let Ok(at) = self.find(channel) else { return false };
        let subscription = self.subscriptions.remove(at);
        cx.effects.push(Effect::Changed);
        self.tell_owner_of_leave(&subscription, cx);
        if let State::Pending(request) = subscription.state {
            self.resolve(request, channel, Err(code), cx);
        }
        true
    }

    fn tell_owner_of_leave(&self, subscription: &Subscription, cx: &mut Context<'_>) {
        let key = self.key(subscription.channel.clone());
        if subscription.state == State::Active {
            cx.effects.push(Effect::Detach { key: key.clone() });
        }
        let (session_id, attachment) = (self.id.clone(), subscription.number);
        let ask = Ask::Unsubscribe { session_id, attachment, moved: self.moved };
        cx.effects.push(Effect::Ask { key, ask });
    }

    fn enter(&self, subscription: &Subscription, cx: &mut Context<'_>) {
        let ask = Ask::Enter { member: self.member(cx.now), attachment: subscription.number };
        cx.effects.push(Effect::Ask { key: self.key(subscription.channel.clone()), ask });
    }

    /// What comes before the first live message: where the client stands, who is there, and what it missed.
    fn begin(&mut self, channel: &ChannelName, start: Start, cx: &mut Context<'_>) {
        let Start { position, recovered, known, missed, current, retained, members, occupancy } = start;
        cx.tell(Event::Position(Position { channel: channel.clone(), serial: position, recovered, known }));
        if let Some(members) = members {
            cx.tell(Event::Presence { channel: channel.clone(), change: PresenceChange::List, members });
        }
        if let Some(count) = occupancy {
            cx.tell(Event::Occupancy { channel: channel.clone(), count });
        }
        if let Some(message) = retained {
            cx.tell(Event::Message { channel: channel.clone(), message, retained: true });
        }
        let mut epoch = position.epoch;
        for message in missed {
            let before = Serial { sequence: message.serial.sequence - 1, ..message.serial };
            self.enter_epoch(channel, &mut epoch, before, cx);
            cx.tell(Event::Message { channel: channel.clone(), message, retained: false });
        }
        self.enter_epoch(channel, &mut epoch, current, cx);
        cx.effects.push(Effect::Attach { key: self.key(channel.clone()), position: current });
    }

    /// Names an epoch that goes on where the one before ended.
    fn enter_epoch(&self, channel: &ChannelName, epoch: &mut Epoch, serial: Serial, cx: &mut Context<'_>) {
        if std::mem::replace(epoch, serial.epoch) != serial.epoch {
            let channel = channel.clone();
            cx.tell(Event::Position(Position { channel, serial, recovered: Some(true), known: None }));
        }
    }

    /// One channel of a pending request is decided.
    fn resolve(
        &mut self,
        request: Option<u32>,
        channel: &ChannelName,
        outcome: Result<(), ErrorCode>,
        cx: &mut Context<'_>,
    ) {
        let pending = self.pending.iter_mut().find(|pending| Some(pending.number) == request);
        let Some(pending) = pending else { return };
        pending.open -= 1;
        match outcome {
            Ok(()) => pending.channels.push(channel.clone()),
            Err(code) => pending.errors.push(failure(code, channel.clone(), pending.req_id)),
        }
        self.finish_pending(cx);
    }

    /// Answers the requests of which every channel is decided.
    fn finish_pending(&mut self, cx: &mut Context<'_>) {
        let finished: Vec<_> = self.pending.extract_if(.., |pending| pending.open == 0).collect();
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        for PendingSubscribe { req_id, channels, errors, .. } in finished {
            tell_subscribed(req_id, channels, errors, cx);
        }
    }

    fn is_active(&self, channel: &str) -> bool {
        self.find(channel).is_ok_and(|at| self.subscriptions[at].state == State::Active)
    }

    pub(super) fn find(&self, channel: &str) -> Result<usize, usize> {
        self.subscriptions.binary_search_by(|subscription| (*subscription.channel).cmp(channel))
    }
}

/// Answers a Subscribe request, or tells its failures where there is no request id.
pub(super) fn tell_subscribed(
    req_id: Option<i64>,
    channels: Vec<ChannelName>,
    errors: Vec<Failure>,
    cx: &mut Context<'_>,
) {
    match req_id {
        Some(req_id) => cx.tell(Event::Subscribed { req_id, channels, errors }),
        None => errors.into_iter().for_each(|failure| cx.tell(Event::Error(failure))),
    }
}

/// Tells of subscriptions that ended without the client's asking.
fn tell_ended(channels: Vec<ChannelName>, code: ErrorCode, cx: &mut Context<'_>) {
    if !channels.is_empty() {
        cx.tell(Event::Unsubscribed { req_id: None, channels, error: Some(code) });
    }
}

fn failure(code: ErrorCode, channel: ChannelName, req_id: Option<i64>) -> Failure {
    Failure { code, channel: Some(channel), req_id }
}
