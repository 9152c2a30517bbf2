//! What other nodes say, and what this node says to itself.

use super::{Shard, relay::Relay};
use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    code::ErrorCode,
    shard::{
        cx::Cx,
        owner::Channel,
        peer::{Body, Confirm, PeerMessage, Say, SayAll, SessionOp, Submission, ToCopy, ToOwner, ToRelay},
        request::Effect,
        slot::{Role, Slot},
        streams::Voice,
        takeup::Standing,
    },
    time::Now,
};

impl Shard {
    /// Takes one message of another node's shard. One that is not of this session is dropped: what matters of it is said
    /// anew in this one.
    pub fn receive(&mut self, now: Now, from: NodeId, message: PeerMessage, effects: &mut Vec<Effect>) {
        if message.view != self.view_number() || !self.streams.is_on(from) {
            return;
        }
        match message.body {
            Body::Channel { key, say } => {
                if self.streams.takes(from, Some(&key), None) {
                    self.take(now, from, &key, say, effects);
                }
            }
            Body::All { from: part, say: SayAll::Begin { with } } => self.meet(now, from, part, &with, effects),
            Body::All { from: part, say } => {
                if self.streams.takes(from, None, Some(part)) {
                    self.take_all(now, from, part, say, effects);
                }
            }
        }
        self.hear_own(now, effects);
    }

    /// Takes what this node has said to itself, until nothing is left.
    pub(super) fn hear_own(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((from, key, say)) = self.own.pop_front() {
            self.take(now, from, &key, say, effects);
        }
    }

    fn take(&mut self, now: Now, from: NodeId, key: &ChannelKey, say: Say, effects: &mut Vec<Effect>) {
        let Some(owner) = self.view.as_ref().and_then(|view| view.owner(key.point())) else { return };
        match say {
            Say::Owner(ask) if owner == self.config.me() => self.asked(now, from, key, ask, effects),
            Say::Confirm(confirm) if owner == self.config.me() => self.confirmed(now, from, key, confirm, effects),
            Say::Move(say) => self.moved(now, from, key, say, effects),
            Say::Relay(ToRelay::LetGo) if from == owner => effects.push(Effect::LetGo { place: key.clone() }),
            Say::Relay(ToRelay::Confirm) if from == owner => effects.push(Effect::Confirm { place: key.clone() }),
            Say::Relay(ToRelay::Again) if from == owner => {
                self.with(now, key, effects, |slot, cx| slot.say_anew(key, from, cx));
            }
            Say::Relay(say) if from == owner => {
                self.quietly_if(now, key, effects, |relay, cx| relay.hear(key, say, cx))
            }
            Say::Copy(say) if from == owner => self.with(now, key, effects, |slot, cx| slot.follow(key, from, say, cx)),
            // The sender is not the owner, or this node is not: each says anew what matters when it knows the view.
            Say::Owner(_) | Say::Confirm(_) | Say::Relay(_) | Say::Copy(_) => {}
        }
    }

    fn quietly_if(
        &mut self,
        now: Now,
        key: &ChannelKey,
        effects: &mut Vec<Effect>,
        hear: impl FnOnce(&mut Relay, &mut Cx<'_>),
    ) {
        if self.slots.get(key).is_some_and(|slot| slot.relay.is_some()) {
            self.with(now, key, effects, |slot, cx| {
                if let Some(relay) = &mut slot.relay {
                    hear(relay, cx);
                }
            });
        }
    }

    fn asked(&mut self, now: Now, from: NodeId, key: &ChannelKey, ask: ToOwner, effects: &mut Vec<Effect>) {
        let role = self.slots.get(key).map(|slot| &slot.role);
        match role {
            Some(Role::Owner(_)) => {}
            Some(Role::Waiting(_)) => return self.hold(now, from, key, ask, effects),
            Some(Role::None | Role::Kept(_)) | None => match self.standing(key) {
                Standing::Certain if !opens(&ask) => return self.answer_unopened(now, from, key, ask, effects),
                Standing::Certain => {
                    if let Err(code) = self.open_fresh(now, key, effects) {
                        return self.refuse_unopened(now, from, key, &ask, code, effects);
                    }
                }
                Standing::Unknown | Standing::Uncovered => return self.hold(now, from, key, ask, effects),
            },
        }
        self.with(now, key, effects, |slot, cx| {
            if let Role::Owner(channel) = &mut slot.role {
                channel.hear(from, ask, cx);
            }
        });
    }

    fn confirmed(&mut self, now: Now, from: NodeId, key: &ChannelKey, say: Confirm, effects: &mut Vec<Effect>) {
        let closed = matches!(self.standing(key), Standing::Certain);
        self.with(now, key, effects, |slot, cx| match (&mut slot.role, say) {
            (Role::Owner(channel), say) => channel.confirmed(from, say, cx),
            (Role::None, Confirm::Idle(epoch)) if closed => {
                cx.say(from, key, Say::Copy(ToCopy::Drop { epoch }));
            }
            (Role::None | Role::Waiting(_) | Role::Kept(_), _) => {}
        });
    }

    /// Begins a channel of which nobody has anything.
    pub(super) fn open_fresh(
        &mut self,
        now: Now,
        key: &ChannelKey,
        effects: &mut Vec<Effect>,
    ) -> Result<(), ErrorCode> {
        if !self.hubs.contains_key(&key.hub) {
            return Err(ErrorCode::HubNotFound);
        }
        if self.slots.len() >= self.config.channels_max && !self.slots.contains_key(key) {
            return Err(ErrorCode::TryAgain);
        }
        let (rules, epoch, known_since) = (self.rules(key), self.next_epoch(), self.takeup.since);
        self.with(now, key, effects, |slot, cx| {
            slot.role = Role::Owner(Box::new(Channel::fresh(key.clone(), rules, epoch, known_since, cx)));
        });
        Ok(())
    }

    /// In a channel that is not open nobody is present, and at a place that is not open no session is kept.
    fn answer_unopened(&mut self, now: Now, from: NodeId, key: &ChannelKey, ask: ToOwner, effects: &mut Vec<Effect>) {
        let say = match ask {
            ToOwner::ReadPresence { number } => ToRelay::Presence { number, outcome: Ok([].into()) },
            ToOwner::Publish { counter, .. } => ToRelay::Published { counter, outcome: Err(ErrorCode::RestoreFailed) },
            _ => return,
        };
        self.with(now, key, effects, |_, cx| cx.say(from, key, Say::Relay(say)));
    }

    pub(super) fn refuse_unopened(
        &mut self,
        now: Now,
        from: NodeId,
        key: &ChannelKey,
        ask: &ToOwner,
        code: ErrorCode,
        effects: &mut Vec<Effect>,
    ) {
        let say = match ask {
            ToOwner::Publish { counter, .. } => ToRelay::Published { counter: *counter, outcome: Err(code) },
            ToOwner::Subscribe { number, .. } => {
                ToRelay::Subscribed { number: *number, outcome: Err(code), presence: 0 }
            }
            ToOwner::ReadPresence { number } => ToRelay::Presence { number: *number, outcome: Err(code) },
            // The next session asks for it: until then the hub may be there.
            ToOwner::Listen { .. } => return self.streams.note(from, key, Voice::Owner),
            ToOwner::Enter { .. } | ToOwner::Leave { .. } | ToOwner::Seen(_) => return,
        };
        self.with(now, key, effects, |_, cx| cx.say(from, key, Say::Relay(say)));
    }
}

/// Whether a channel is opened for it. Who listens to one that is gone is told so by the new one.
fn opens(ask: &ToOwner) -> bool {
    match ask {
        ToOwner::Publish { what: Submission::Session(SessionOp::Keep(None) | SessionOp::Take), .. } => false,
        ToOwner::Publish { .. } | ToOwner::Subscribe { .. } => true,
        ToOwner::Listen { subscribers, .. } => *subscribers > 0,
        ToOwner::Enter { .. } | ToOwner::Leave { .. } | ToOwner::ReadPresence { .. } | ToOwner::Seen(_) => false,
    }
}

impl Slot {
    pub fn next_wake_ms(&mut self, key: &ChannelKey, may_close: bool, cx: &Cx<'_>) -> Option<u64> {
        let owner_ms = match &mut self.role {
            Role::Owner(channel) => channel.next_wake_ms(may_close, cx),
            Role::Kept(kept) => Some(kept.idle_ms(cx)),
            Role::None | Role::Waiting(_) => None,
        };
        let waits = cx.owner(key) != Some(cx.me()) || !matches!(self.role, Role::Owner(_));
        let relay_ms = self.relay.as_ref().filter(|_| waits).and_then(|relay| relay.gives_up_ms(cx));
        [owner_ms, relay_ms].into_iter().flatten().min()
    }
}
