//! What other nodes say, and what this node says to itself.

use super::Shard;
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
        slots::At,
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
                    self.take_from_peer(now, from, &key, say, effects);
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
        self.end_some(now, effects);
    }

    /// Takes what this node has said to itself, until nothing is left.
    pub(super) fn hear_own(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some((from, at, say)) = self.own.pop_front() {
            self.take(now, from, at, say, effects);
        }
    }

    fn take_from_peer(&mut self, now: Now, from: NodeId, key: &ChannelKey, say: Say, effects: &mut Vec<Effect>) {
        let at = match (self.slots.find(key), &say) {
            (Some(at), _) => at,
            // What is not heard here any more needs no place.
            (None, Say::Relay(say)) if !matches!(say, ToRelay::LetGo | ToRelay::Confirm | ToRelay::Again) => return,
            (None, _) => self.enter(key),
        };
        self.take(now, from, at, say, effects);
    }

    fn take(&mut self, now: Now, from: NodeId, at: At, say: Say, effects: &mut Vec<Effect>) {
        let Some(key) = self.slots.key(at) else { return };
        let Some(owner) = self.view.as_ref().and_then(|view| view.owner(key.point())) else { return };
        let mine = owner == self.config.me();
        match say {
            Say::Owner(ask) if mine => self.asked(now, from, at, ask, effects),
            Say::Confirm(confirm) if mine => self.confirmed(now, from, at, confirm, effects),
            Say::Move(say) => self.moved(now, from, at, mine, say, effects),
            Say::Relay(ToRelay::LetGo) if from == owner => effects.push(Effect::LetGo { place: key.clone() }),
            Say::Relay(ToRelay::Confirm) if from == owner => effects.push(Effect::Confirm { place: key.clone() }),
            Say::Relay(ToRelay::Again) if from == owner => {
                self.with(now, at, effects, |key, slot, cx| slot.say_anew(key, from, cx));
            }
            Say::Relay(say) if from == owner => {
                self.with(now, at, effects, |key, slot, cx| {
                    if let Some(relay) = &mut slot.relay {
                        relay.hear(key, say, cx);
                    }
                });
            }
            Say::Copy(say) if from == owner => {
                self.with(now, at, effects, |key, slot, cx| slot.follow(key, from, say, cx));
            }
            // The sender is not the owner, or this node is not: each says anew what matters when it knows the view.
            Say::Owner(_) | Say::Confirm(_) | Say::Relay(_) | Say::Copy(_) => {}
        }
    }

    fn asked(&mut self, now: Now, from: NodeId, at: At, ask: ToOwner, effects: &mut Vec<Effect>) {
        match self.slots.get(at).map(|slot| &slot.role) {
            Some(Role::Owner(_)) => {}
            Some(Role::Waiting(_)) => return self.hold(now, from, at, ask, effects),
            Some(Role::None | Role::Kept(_)) | None => match self.standing(at) {
                Standing::Certain if !opens(&ask) => return self.answer_unopened(now, from, at, ask, effects),
                Standing::Certain => {
                    if let Err(code) = self.open_fresh(now, at, effects) {
                        return self.refuse_unopened(now, from, at, &ask, code, effects);
                    }
                }
                Standing::Unknown | Standing::Uncovered => return self.hold(now, from, at, ask, effects),
            },
        }
        self.with(now, at, effects, |_, slot, cx| {
            if let Role::Owner(channel) = &mut slot.role {
                channel.hear(from, ask, cx);
            }
        });
    }

    fn confirmed(&mut self, now: Now, from: NodeId, at: At, say: Confirm, effects: &mut Vec<Effect>) {
        let closed = matches!(say, Confirm::Idle(_)) && self.standing(at) == Standing::Certain;
        self.with(now, at, effects, |key, slot, cx| match (&mut slot.role, say) {
            (Role::Owner(channel), say) => channel.confirmed(from, say, cx),
            (Role::None, Confirm::Idle(epoch)) if closed => {
                cx.say(from, key, Say::Copy(ToCopy::Drop { epoch }));
            }
            (Role::None | Role::Waiting(_) | Role::Kept(_), _) => {}
        });
    }

    /// Begins a channel of which nobody has anything.
    pub(super) fn open_fresh(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) -> Result<(), ErrorCode> {
        let Some(key) = self.slots.key(at).filter(|key| self.hubs.contains_key(&key.hub)) else {
            return Err(ErrorCode::HubNotFound);
        };
        let begins = self.slots.get(at).is_some_and(Slot::is_empty);
        if begins && self.slots.len() > self.config.channels_max {
            return Err(ErrorCode::TryAgain);
        }
        let (rules, known_since) = (self.rules(key), self.takeup.since);
        let epoch = self.next_epoch();
        self.with(now, at, effects, |key, slot, cx| {
            slot.role = Role::Owner(Box::new(Channel::fresh(key.clone(), rules, epoch, known_since, cx)));
        });
        Ok(())
    }

    /// In a channel that is not open nobody is present, and at a place that is not open no session is kept.
    fn answer_unopened(&mut self, now: Now, from: NodeId, at: At, ask: ToOwner, effects: &mut Vec<Effect>) {
        let say = match ask {
            ToOwner::ReadPresence { number } => ToRelay::Presence { number, outcome: Ok([].into()) },
            ToOwner::Publish { counter, .. } => ToRelay::Published { counter, outcome: Err(ErrorCode::RestoreFailed) },
            _ => return,
        };
        self.with(now, at, effects, |key, _, cx| cx.say(from, key, Say::Relay(say)));
    }

    pub(super) fn refuse_unopened(
        &mut self,
        now: Now,
        from: NodeId,
        at: At,
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
            ToOwner::Listen { .. } => {
                self.with(now, at, effects, |key, _, cx| cx.streams.note(from, key, Voice::Owner));
                return;
            }
            ToOwner::Enter { .. } | ToOwner::Leave { .. } | ToOwner::Seen(_) => return,
        };
        self.with(now, at, effects, |key, _, cx| cx.say(from, key, Say::Relay(say)));
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
    pub fn next_wake_ms(
        &mut self,
        key: &ChannelKey,
        leaves_ms: Option<u64>,
        may_close: bool,
        cx: &Cx<'_>,
    ) -> Option<u64> {
        let owner_ms = match &mut self.role {
            Role::Owner(channel) => channel.next_wake_ms(leaves_ms, may_close, cx),
            Role::Kept(kept) => Some(kept.idle_ms(cx)),
            Role::None | Role::Waiting(_) => None,
        };
        let waits = cx.owner(key) != Some(cx.me()) || !matches!(self.role, Role::Owner(_));
        let relay_ms = self.relay.as_ref().filter(|_| waits).and_then(|relay| relay.gives_up_ms(cx));
        [owner_ms, relay_ms].into_iter().flatten().min()
    }
}
