//! Channels on their way from owner to owner.

use super::Shard;
use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    shard::{
        peer::{Move, Part, Say, SayAll, ToOwner, ToRelay},
        request::Effect,
        slot::{Have, Kept, Role, Sealed, Slot, Waiting},
        state::State,
        takeup::{Group, Standing},
    },
    time::Now,
};

impl Shard {
    pub(super) fn moved(&mut self, now: Now, from: NodeId, key: &ChannelKey, say: Move, effects: &mut Vec<Effect>) {
        let mine = self.view.as_ref().and_then(|view| view.owner(key.point())) == Some(self.config.me());
        match say {
            Move::Seal(state) if mine => self.take_seal(now, from, key, state, effects),
            Move::Have { serial, sealed } if mine => {
                self.note_have(now, key, Have { node: from, serial, sealed }, effects);
            }
            Move::Fetched { state, sealed_for } if mine => {
                self.take_fetched(now, from, key, state, sealed_for, effects)
            }
            Move::Fetch => self.give(now, from, key, effects),
            Move::Seal(_) | Move::Have { .. } | Move::Fetched { .. } => {}
        }
    }

    /// What waits for a channel's state. It is bounded: a node that asks for more is told to ask anew.
    pub(super) fn hold(&mut self, now: Now, from: NodeId, key: &ChannelKey, ask: ToOwner, effects: &mut Vec<Effect>) {
        self.begin_waiting(now, key, effects);
        let uncovered = self.standing(key) == Standing::Uncovered;
        let held_max = self.config.held_max;
        self.with(now, key, effects, |slot, cx| {
            let Role::Waiting(waiting) = &mut slot.role else { return };
            if waiting.dropped.contains(&from) {
                return;
            }
            if waiting.held.iter().filter(|(node, _)| *node == from).count() >= held_max {
                waiting.held.retain(|(node, _)| *node != from);
                waiting.dropped.insert(from);
                return;
            }
            waiting.held.push_back((from, ask));
            if uncovered {
                cx.say(from, key, Say::Relay(ToRelay::Uncertain));
            }
        });
    }

    pub(super) fn begin_waiting(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        self.with(now, key, effects, |slot, _| {
            slot.role = match std::mem::take(&mut slot.role) {
                Role::None => Role::Waiting(Box::default()),
                Role::Kept(kept) => Role::Waiting(Box::new(Waiting { own: Some(kept), ..Default::default() })),
                role @ (Role::Waiting(_) | Role::Owner(_)) => role,
            };
        });
        self.takeup.waiting.insert(key.clone());
    }

    /// To all shards of another node.
    pub(super) fn say_all(&mut self, to: NodeId, say: SayAll, effects: &mut Vec<Effect>) {
        self.streams.say_all(self.view_number(), to, self.config.part(), say, effects);
    }

    /// Everything that this node kept of the channels of a group that the asker owns now.
    pub(super) fn tell_haves(&mut self, asker: NodeId, part: Part, before: NodeId, effects: &mut Vec<Effect>) {
        let (Some(view), Some(last)) = (&self.view, self.open.last()) else { return };
        for (key, slot) in &self.slots {
            let Some(kept) = slot.kept() else { continue };
            let point = slot.point;
            let asked = point % part.count.max(1) == part.index && view.owner(point) == Some(asker);
            if asked && last.owner(point) == Some(before) {
                let say = Move::Have { serial: kept.state.current(), sealed: kept.sealed.is_some() };
                self.streams.say(view.number, asker, key, Say::Move(say), effects);
            }
        }
        self.say_all(asker, SayAll::Answered { before, asker: part.index }, effects);
    }

    /// Sends a node all that it is to own now, with the word that it is all.
    pub(super) fn send_seals(&mut self, now: Now, to: NodeId, effects: &mut Vec<Effect>) {
        let Some(view) = &self.view else { return };
        for key in self.takeup.sealed.get(&to).into_iter().flatten() {
            let sealed = self
                .slots
                .get(key)
                .and_then(Slot::kept)
                .filter(|kept| kept.sealed == Some(Sealed { to, word_in: Some(view.number) }));
            if let Some(kept) = sealed {
                let say = Say::Move(Move::Seal(kept.state.for_another(now)));
                self.streams.say(view.number, to, key, say, effects);
            }
        }
        self.say_all(to, SayAll::End { known_since: self.takeup.word }, effects);
    }

    /// Taken only while it is not known to be all: a late repeat would bring back what has gone on since.
    fn take_seal(&mut self, now: Now, from: NodeId, key: &ChannelKey, state: Box<State>, effects: &mut Vec<Effect>) {
        let expected = self.group_of(key) == Some(from) && self.standing(key) != Standing::Certain;
        let owned = self.slots.get(key).is_some_and(|slot| matches!(slot.role, Role::Owner(_)));
        if expected && !owned {
            self.moves.taken_over += 1;
            self.begin_waiting(now, key, effects);
            self.take_up(now, key, Some(state.taken_in(now)), Some(from), effects);
        }
    }

    fn note_have(&mut self, now: Now, key: &ChannelKey, have: Have, effects: &mut Vec<Effect>) {
        let lost = self.group_of(key).and_then(|before| self.takeup.groups.get(&before));
        if !matches!(lost, Some(Group::Lost(_))) {
            return;
        }
        if self.slots.get(key).is_some_and(|slot| matches!(slot.role, Role::Owner(_))) {
            return;
        }
        self.begin_waiting(now, key, effects);
        if let Some(Role::Waiting(waiting)) = self.slots.get_mut(key).map(|slot| &mut slot.role) {
            waiting.haves.retain(|other| other.node != have.node);
            waiting.haves.push(have);
        }
    }

    fn give(&mut self, now: Now, to: NodeId, key: &ChannelKey, effects: &mut Vec<Effect>) {
        self.quietly(now, key, effects, |slot, cx| {
            if let Some(kept) = slot.kept() {
                let (state, sealed_for) = (kept.state.for_another(cx.now), kept.sealed.map(|sealed| sealed.to));
                cx.say(to, key, Say::Move(Move::Fetched { state, sealed_for }));
            }
        });
    }

    fn take_fetched(
        &mut self,
        now: Now,
        from: NodeId,
        key: &ChannelKey,
        state: Box<State>,
        sealed_for: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(key).map(|slot| &mut slot.role) else { return };
        if waiting.fetching.take_if(|node| *node == from).is_none() {
            return;
        }
        let sealed = sealed_for.map(|to| Sealed { to, word_in: None });
        waiting.own = Some(Box::new(Kept { state: state.taken_in(now), sealed, used_ms: now.mono_ms }));
        self.try_take_up(now, key, effects);
    }
}
