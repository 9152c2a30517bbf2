//! Channels on their way from owner to owner.

use super::Shard;
use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    shard::{
        cx::Cx,
        peer::{Move, Part, Say, SayAll, ToOwner, ToRelay},
        request::Effect,
        slot::{Have, Kept, Role, Sealed, Slot, Waiting},
        slots::At,
        state::State,
        takeup::{Group, Standing},
    },
    time::Now,
};

impl Shard {
    pub(super) fn moved(&mut self, now: Now, from: NodeId, at: At, mine: bool, say: Move, effects: &mut Vec<Effect>) {
        match say {
            Move::Seal(state) if mine => self.take_seal(now, from, at, state, effects),
            Move::Have { serial, sealed } if mine => {
                self.note_have(now, at, Have { node: from, serial, sealed }, effects);
            }
            Move::Fetched { state, sealed_for } if mine => self.take_fetched(now, from, at, state, sealed_for, effects),
            Move::Fetch => self.give(now, from, at, effects),
            Move::Seal(_) | Move::Have { .. } | Move::Fetched { .. } => {}
        }
    }

    /// What waits for a channel's state. It is bounded: a node that asks for more is told to ask anew.
    pub(super) fn hold(&mut self, now: Now, from: NodeId, at: At, ask: ToOwner, effects: &mut Vec<Effect>) {
        self.begin_waiting(now, at, effects);
        let uncovered = self.standing(at) == Standing::Uncovered;
        let held_max = self.config.held_max;
        self.with(now, at, effects, |key, slot, cx| {
            let Role::Waiting(waiting) = &mut slot.role else { return };
            if waiting.dropped.contains(&from) {
                return;
            }
            if waiting.held.iter().filter(|(node, _)| *node == from).count() >= held_max {
                waiting.held.retain(|(node, _)| *node != from);
                waiting.dropped.insert(from);
                return;
            }
            waiting.held.push((from, ask));
            if uncovered {
                waiting.tell_uncertain(from, key, cx);
            }
        });
    }

    pub(super) fn begin_waiting(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        let group = self.group_of(at);
        let mut begins = true;
        self.with(now, at, effects, |_, slot, _| {
            let waiting = |own| Role::Waiting(Box::new(Waiting { group, own, ..Default::default() }));
            slot.role = match std::mem::take(&mut slot.role) {
                Role::None => waiting(None),
                Role::Kept(kept) => waiting(Some(kept)),
                role @ (Role::Waiting(_) | Role::Owner(_)) => {
                    begins = false;
                    role
                }
            };
        });
        if begins {
            self.takeup.waiting.entry(group).or_default().insert(at);
        }
    }

    /// To all shards of another node.
    pub(super) fn say_all(&mut self, to: NodeId, say: SayAll, effects: &mut Vec<Effect>) {
        self.streams.say_all(self.view_number(), to, self.config.part(), say, effects);
    }

    /// Everything that this node kept of the channels of a group that the asker owns now.
    pub(super) fn tell_haves(&mut self, asker: NodeId, part: Part, before: NodeId, effects: &mut Vec<Effect>) {
        let (Some(view), Some(last)) = (&self.view, self.open.last()) else { return };
        for (_, key, slot) in self.slots.iter() {
            let Some(kept) = slot.kept() else { continue };
            let point = key.point();
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
        for at in self.takeup.sealed.get(&to).into_iter().flatten().copied() {
            let sealed = |kept: &&Kept| kept.sealed == Some(Sealed { to, word_in: Some(view.number) });
            let kept = self.slots.get(at).and_then(Slot::kept).filter(sealed);
            if let Some((key, kept)) = self.slots.key(at).zip(kept) {
                let say = Say::Move(Move::Seal(kept.state.for_another(now)));
                self.streams.say(view.number, to, key, say, effects);
            }
        }
        self.say_all(to, SayAll::End { known_since: self.takeup.word }, effects);
    }

    /// Taken only while it is not known to be all: a late repeat would bring back what has gone on since.
    fn take_seal(&mut self, now: Now, from: NodeId, at: At, state: Box<State>, effects: &mut Vec<Effect>) {
        let expected = self.group_of(at) == Some(from) && self.standing(at) != Standing::Certain;
        if expected && !self.owns(at) {
            self.moves.taken_over += 1;
            self.take_up(now, at, Some(state.taken_in(now)), Some(from), effects);
        }
    }

    fn note_have(&mut self, now: Now, at: At, have: Have, effects: &mut Vec<Effect>) {
        let lost = self.group_of(at).and_then(|before| self.takeup.groups.get(&before));
        if !matches!(lost, Some(Group::Lost(_))) {
            return;
        }
        if self.owns(at) {
            return;
        }
        self.begin_waiting(now, at, effects);
        if let Some(Role::Waiting(waiting)) = self.slots.get_mut(at).map(|(_, slot)| &mut slot.role) {
            waiting.haves.retain(|other| other.node != have.node);
            waiting.haves.push(have);
        }
    }

    pub(super) fn owns(&self, at: At) -> bool {
        self.slots.get(at).is_some_and(|slot| matches!(slot.role, Role::Owner(_)))
    }

    fn give(&mut self, now: Now, to: NodeId, at: At, effects: &mut Vec<Effect>) {
        self.quietly(now, at, effects, |key, slot, cx| {
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
        at: At,
        state: Box<State>,
        sealed_for: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(at).map(|(_, slot)| &mut slot.role) else { return };
        if waiting.fetching.take_if(|node| *node == from).is_none() {
            return;
        }
        let sealed = sealed_for.map(|to| Sealed { to, word_in: None });
        waiting.own = Some(Box::new(Kept { state: state.taken_in(now), sealed, used_ms: now.mono_ms }));
        self.try_take_up(now, at, self.standing(at), effects);
    }
}

impl Waiting {
    /// Tells a node that what it asked waits. So it is to be told how it goes on, even if nothing is new.
    pub(super) fn tell_uncertain(&mut self, node: NodeId, key: &ChannelKey, cx: &mut Cx<'_>) {
        for (_, ask) in self.held.iter_mut().filter(|(from, _)| *from == node) {
            if let ToOwner::Listen { uncertain, .. } = ask {
                *uncertain = true;
            }
        }
        cx.say(node, key, Say::Relay(ToRelay::Uncertain));
    }

    /// A node says anew what it wants.
    pub(super) fn forget(&mut self, node: NodeId) {
        self.held.retain(|(from, _)| *from != node);
        self.dropped.remove(&node);
    }
}
