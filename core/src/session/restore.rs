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
        request::{Recover, SubscribeInfo},
        subscriptions::Subscription,
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
        let Carried { session: old, positions: sent, from } = carried;
        let expired = old.expires_unix_ms().is_some_and(|unix_ms| unix_ms <= cx.now.unix_ms);
        if old.hub.id != self.hub.id || expired {
            release(&old, from, cx);
            return self.not_restored(cx);
        }
        self.give_up_subscriptions(cx);
        self.id = old.id.clone();
        self.identity = old.identity.clone();
        self.bucket = old.bucket;
        self.number = self.number.max(old.number);
        self.demand_authentication(cx);
        let channels: Vec<_> = old.subscriptions.iter().map(|subscription| subscription.channel.clone()).collect();
        let allowed: Vec<_> = channels.into_iter().filter(|channel| self.may_hear(channel)).collect();
        cx.tell(Event::Restored {
            session_id: self.id.clone(),
            identity: self.identity.clone(),
            channels: allowed.clone(),
        });
        for subscription in old.subscriptions.iter().filter(|s| allowed.contains(&s.channel)) {
            let recover = last_known(subscription, positions, &sent);
            self.ask_subscribe(subscription.channel.clone(), recover, None, subscription.automatic, cx);
        }
        release(&old, from, cx);
        self.join_user_channel(cx);
    }

    fn may_hear(&self, channel: &str) -> bool {
        crate::access::decide(&self.hub, channel, self.identity.as_deref()).subscribe
    }
}

/// What the client says that it has; else what the node had sent.
fn last_known(subscription: &Subscription, told: &[SubscribeInfo], sent: &[(ChannelName, Serial)]) -> Option<Recover> {
    let told = told.iter().find(|info| info.channel == subscription.channel).and_then(|info| info.recover);
    let sent = || sent.iter().find(|(channel, _)| *channel == subscription.channel);
    told.filter(|recover| *recover != Recover::BadSerial).or_else(|| sent().map(|(_, serial)| Recover::Serial(*serial)))
}

/// Ends what the old connection's worker held. The attachments are old by now, so nobody leaves who was taken over.
fn release(old: &Session, from: Listener, cx: &mut Context<'_>) {
    for subscription in &old.subscriptions {
        let ask = Ask::Unsubscribe { session_id: old.id.clone(), attachment: subscription.number };
        cx.effects.push(Effect::AskFor { listener: from, key: old.key(subscription.channel.clone()), ask });
    }
}
