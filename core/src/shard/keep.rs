//! The part of a node that keeps a channel for another: it follows the owner, and says what it has.

use super::Shard;
use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    serial::Epoch,
    shard::{
        cx::{Cx, Settled},
        peer::{Confirm, Say, ToCopy},
        slot::{Kept, Role, Slot},
        state::{Keeping, State},
    },
};

impl Kept {
    /// Asks whether the channel is still open, if nothing was heard of it for long: the word of its end may be lost.
    pub fn ask_when_idle(&mut self, key: &ChannelKey, owner: Option<NodeId>, cx: &mut Cx<'_>) {
        if self.idle_ms(cx) > cx.now.mono_ms {
            return;
        }
        self.used_ms = cx.now.mono_ms;
        if let Some(owner) = owner {
            cx.say(owner, key, Say::Confirm(Confirm::Idle(self.state.epoch)));
        }
    }

    /// Whether it is a copy of the owner's state. What this node has sealed for the owner is one from then on: within an
    /// epoch all states are one line.
    fn is_for(&mut self, owner: NodeId) -> bool {
        if self.sealed.take_if(|sealed| sealed.to == owner).is_some() {
            self.state.forget_pending();
        }
        self.sealed.is_none()
    }

    pub fn idle_ms(&self, cx: &Cx<'_>) -> u64 {
        self.used_ms + 2 * cx.config.close_ms.max(cx.config.hold_ms)
    }
}

impl Slot {
    /// What the channel's owner says to a copy.
    pub fn follow(&mut self, key: &ChannelKey, owner: NodeId, say: ToCopy, cx: &mut Cx<'_>) {
        if !matches!(self.role, Role::None | Role::Kept(_)) {
            return;
        }
        let confirm = match say {
            ToCopy::State(state) => self.keep(state, cx),
            ToCopy::Entries { epoch, entries, seen, mark } => match self.kept_in(epoch, owner) {
                Some(kept) => {
                    let (history, retain_ms) = (cx.config.history, cx.config.retain_ms);
                    let keeping = Keeping { history, retain_ms, seen };
                    kept.used_ms = cx.now.mono_ms;
                    let next = |state: &State| state.sequence + 1;
                    let mut follows = true;
                    for entry in entries {
                        let sequence = entry.message.serial.sequence;
                        follows &= sequence <= next(&kept.state);
                        if sequence == next(&kept.state) {
                            kept.state.apply(cx.now, entry, keeping);
                        }
                    }
                    let serial = kept.state.current();
                    if follows { Confirm::Copied { serial, mark } } else { Confirm::Lacks }
                }
                None => Confirm::Lacks,
            },
            ToCopy::Members { epoch, version, whole, changes } => {
                if let Some(kept) = self.kept_in(epoch, owner) {
                    kept.state.presence_version = version;
                    kept.state.members.get_or_insert_default().follow(whole, changes);
                }
                return;
            }
            ToCopy::Drop { epoch } => {
                if self.kept_in(epoch, owner).is_some() {
                    self.role = Role::None;
                }
                return;
            }
        };
        cx.say(owner, key, Say::Confirm(confirm));
    }

    /// What the owner has is what counts, also where this node has gone on in an epoch that no copy had. In the owner's own epoch
    /// a later number is kept, since it may have been confirmed.
    fn keep(&mut self, state: Box<State>, cx: &Cx<'_>) -> Confirm {
        let mut state = state.taken_in(cx.now);
        if let Role::Kept(kept) = &mut self.role
            && kept.state.epoch == state.epoch
            && kept.state.sequence > state.sequence
        {
            std::mem::swap(&mut kept.state, &mut state);
            state.forget_pending();
        }
        let serial = state.current();
        self.role = Role::Kept(Box::new(Kept { state, sealed: None, used_ms: cx.now.mono_ms }));
        Confirm::Copied { serial, mark: 0 }
    }

    fn kept_in(&mut self, epoch: Epoch, owner: NodeId) -> Option<&mut Kept> {
        match &mut self.role {
            Role::Kept(kept) if kept.state.epoch == epoch => kept.is_for(owner).then_some(kept),
            Role::None | Role::Waiting(_) | Role::Owner(_) | Role::Kept(_) => None,
        }
    }
}

impl Shard {
    /// Every channel is in its place by this view: what is kept beyond that is kept for nothing.
    pub fn settled(&mut self, number: u64) {
        if number == self.view_number() {
            let follows = self.open.last().is_some_and(|before| before.number == self.settled.last);
            let first = if follows { self.settled.first } else { number };
            self.settled = Settled { first, last: number };
        }
        self.open.retain(|view| view.number >= number);
        let Some(view) = self.view.clone().filter(|view| view.number == number) else { return };
        let me = self.config.me();
        let mut needless = Vec::new();
        for (at, key, slot) in self.slots.iter_mut() {
            let Role::Kept(kept) = &mut slot.role else { continue };
            let mut holders = view.nearest(key.point()).take(1 + usize::from(kept.state.redundancy));
            let owner = holders.next();
            if !holders.any(|node| node == me) || !owner.is_some_and(|owner| kept.is_for(owner)) {
                needless.push(at);
            }
        }
        for at in needless {
            let Some((_, slot)) = self.slots.get_mut(at) else { continue };
            slot.role = Role::None;
            if slot.is_empty() {
                self.remove(at);
            }
        }
        self.takeup.sealed.clear();
    }
}
