//! Taking over a session whose connection broke.

use std::sync::Arc;

use crate::{
    channel::ChannelName,
    code::ErrorCode,
    serial::Serial,
    session::{
        Context, Session,
        effect::Effect,
        event::{Event, Failure},
        record::{Kept, NUMBERS_UNTOLD, Record},
        request::{Recover, SubscribeInfo},
    },
    shard::request::{Ask, Listener},
};

/// A session on its way from one connection to another.
#[derive(Debug)]
pub struct Carried {
    pub session: Session,
    /// What the node had sent of each channel.
    pub positions: Vec<(ChannelName, Serial)>,
    /// The worker that held it, which the owners still count as listening.
    pub from: Listener,
}

impl Carried {
    /// Nobody takes the session over after all.
    pub fn drop_session(self, cx: &mut Context<'_>) {
        release(&self.session, self.from, cx);
    }
}

impl Session {
    pub(super) fn ask_restore(&mut self, restore_key: Arc<str>, positions: Vec<SubscribeInfo>, cx: &mut Context<'_>) {
        // What this connection has subscribed to already would be there twice.
        let client_subscribed = self.subscriptions.iter().any(|subscription| !subscription.automatic);
        if client_subscribed || self.one_way {
            return self.not_restored(cx);
        }
        cx.effects.push(Effect::Restore { restore_key, positions });
    }

    /// There is nothing to restore: the session goes on as a new one.
    pub fn not_restored(&mut self, cx: &mut Context<'_>) {
        cx.tell(Event::Error(Failure { code: ErrorCode::RestoreFailed, channel: None, req_id: None }));
    }

    /// Goes on as the session that was found under the restore key. This connection's own key is the next one.
    pub fn restored(&mut self, carried: Carried, positions: &[SubscribeInfo], cx: &mut Context<'_>) {
        if !self.take_over(carried, positions, cx) {
            self.not_restored(cx);
        }
    }

    /// The same for a client that can only connect: it goes on as the session that was found, if one was, and in any
    /// case hears the channels that it connected with.
    pub fn resumed(&mut self, carried: Option<Carried>, channels: Vec<SubscribeInfo>, cx: &mut Context<'_>) {
        if let Some(carried) = carried {
            self.take_over(carried, &channels, cx);
        }
        self.subscribe_lacking(channels, cx);
    }

    fn subscribe_lacking(&mut self, channels: Vec<SubscribeInfo>, cx: &mut Context<'_>) {
        let lacking: Vec<_> = channels.into_iter().filter(|info| self.find(&info.channel).is_err()).collect();
        if !lacking.is_empty() {
            self.subscribe(None, lacking, cx);
        }
    }

    /// Goes on as a session of another node, of which the cluster has kept this. The node that held it lets it go.
    pub fn restored_elsewhere(&mut self, record: &Record, positions: Vec<SubscribeInfo>, cx: &mut Context<'_>) {
        let goes_on = self.go_on_as(record, &positions, &[], cx);
        match (self.one_way, goes_on) {
            (true, _) => self.subscribe_lacking(positions, cx),
            (false, false) => self.not_restored(cx),
            (false, true) => {}
        }
    }

    fn take_over(&mut self, carried: Carried, positions: &[SubscribeInfo], cx: &mut Context<'_>) -> bool {
        let Carried { session: old, positions: sent, from } = carried;
        let goes_on = self.go_on_as(&old.record(), positions, &sent, cx);
        if goes_on {
            self.bucket = old.bucket;
        }
        release(&old, from, cx);
        goes_on
    }

    /// Its subscriptions are asked for anew, under numbers that are higher than any that it had.
    fn go_on_as(
        &mut self,
        record: &Record,
        positions: &[SubscribeInfo],
        sent: &[(ChannelName, Serial)],
        cx: &mut Context<'_>,
    ) -> bool {
        let expires = record.identity.as_ref().and_then(|identity| identity.expires_unix_ms);
        if record.hub != self.hub.id || expires.is_some_and(|unix_ms| unix_ms <= cx.now.unix_ms) {
            return false;
        }
        self.give_up_subscriptions(cx);
        self.id = record.id.clone();
        self.identity = record.identity.clone();
        self.number = self.number.max(record.number.saturating_add(NUMBERS_UNTOLD));
        self.demand_authentication(cx);
        let allowed: Vec<_> = record.subscriptions.iter().filter(|kept| self.may_hear(&kept.channel)).collect();
        cx.tell(Event::Restored {
            session_id: self.id.clone(),
            identity: self.identity.clone(),
            channels: allowed.iter().map(|kept| kept.channel.clone()).collect(),
        });
        cx.effects.push(Effect::Changed);
        for Kept { channel, automatic } in allowed {
            let recover = last_known(channel, positions, sent);
            self.ask_subscribe(channel.clone(), recover, None, *automatic, cx);
        }
        self.join_user_channel(cx);
        true
    }

    fn may_hear(&self, channel: &str) -> bool {
        crate::access::decide(&self.hub, channel, self.identity.as_deref()).subscribe
    }
}

/// What the client says that it has; else what the node had sent. Where neither is known (the connection broke while an
/// answer of the owner was under way) something may be missing, which must not look like a fresh subscription.
fn last_known(channel: &str, told: &[SubscribeInfo], sent: &[(ChannelName, Serial)]) -> Option<Recover> {
    let told = told.iter().find(|info| &*info.channel == channel).and_then(|info| info.recover);
    let sent = sent.iter().find(|(other, _)| &**other == channel).map(|(_, serial)| Recover::Serial(*serial));
    match told {
        Some(Recover::Serial(_) | Recover::Timestamp(_)) => told,
        Some(Recover::BadSerial | Recover::Unknown) | None => sent.or(told).or(Some(Recover::Unknown)),
    }
}

/// Ends what the old connection's worker held. The attachments are old by now, so nobody leaves who was taken over.
fn release(old: &Session, from: Listener, cx: &mut Context<'_>) {
    for subscription in &old.subscriptions {
        let ask = Ask::Unsubscribe { session_id: old.id.clone(), attachment: subscription.number, moved: false };
        cx.effects.push(Effect::AskFor { listener: from, key: old.key(subscription.channel.clone()), ask });
    }
}
