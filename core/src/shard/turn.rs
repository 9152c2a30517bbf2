//! The end of a turn, and what is done when its time comes.

use super::Shard;
use crate::{
    channel::ChannelKey,
    shard::{request::Effect, slot::Role},
    time::Now,
};

impl Shard {
    /// Sends out what the turn brought.
    pub fn end_turn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while !self.touched.is_empty() {
            for key in std::mem::take(&mut self.touched) {
                self.end_turn_of(now, &key, effects);
            }
        }
        self.tell_served(effects);
    }

    /// When [`Shard::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&mut self) -> Option<u64> {
        self.wakeups.next()
    }

    /// Does what is due: occupancy counts, the end of what waits too long, and the closing of channels that nobody uses.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        while let Some(key) = self.wakeups.pop_due(now.mono_ms) {
            if let Some(slot) = self.slots.get_mut(&key) {
                slot.wake_ms = None;
                self.tick_one(now, &key, effects);
            }
        }
        self.hear_own(now, effects);
    }

    fn tick_one(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        let may_close = self.is_complete();
        self.with(now, key, effects, |slot, cx| {
            if let Role::Owner(channel) = &mut slot.role
                && may_close
                && channel.is_idle(cx)
                && let Role::Owner(channel) = std::mem::take(&mut slot.role)
            {
                channel.close(cx);
            }
            if let Role::Owner(channel) = &mut slot.role {
                channel.check_session(cx);
            }
            let owner = cx.owner(key);
            let waits = owner != Some(cx.me()) || !matches!(slot.role, Role::Owner(_));
            if let Some(relay) = slot.relay.as_mut().filter(|_| waits) {
                relay.give_up(key, cx);
            }
            if let Role::Kept(kept) = &mut slot.role {
                kept.ask_when_idle(key, owner, cx);
            }
        });
    }

    fn end_turn_of(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        slot.touched = false;
        let accepted = self.quietly(now, key, effects, |slot, cx| match &mut slot.role {
            Role::Owner(channel) => channel.end_turn(cx),
            Role::None | Role::Waiting(_) | Role::Kept(_) => 0,
        });
        self.accepted += accepted.unwrap_or_default();
        self.hear_own(now, effects);
        self.quietly(now, key, effects, |slot, cx| {
            if let Some(relay) = &mut slot.relay {
                relay.end_turn(key, cx);
            }
        });
        self.look_again(now, key, effects);
    }

    /// Forgets a channel that nothing is left of, and else sees to it that it is looked at in time.
    fn look_again(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        let copied = self.slots.get(key).map(|slot| match &slot.role {
            Role::Owner(channel) => channel.is_copied(),
            Role::None | Role::Waiting(_) | Role::Kept(_) => true,
        });
        match copied {
            Some(true) if self.takeup.uncopied.is_empty() => {}
            Some(true) => drop(self.takeup.uncopied.remove(key)),
            Some(false) => drop(self.takeup.uncopied.insert(key.clone())),
            None => return,
        }
        if self.slots.get(key).is_some_and(|slot| slot.is_empty()) {
            return self.remove(key);
        }
        let may_close = self.is_complete();
        let wake_ms = self.quietly(now, key, effects, |slot, cx| slot.next_wake_ms(key, may_close, cx)).flatten();
        if let Some(slot) = self.slots.get_mut(key) {
            self.wakeups.set(key, &mut slot.wake_ms, wake_ms);
        }
    }

    /// Forgets a channel altogether.
    pub(super) fn remove(&mut self, key: &ChannelKey) {
        if let Some(slot) = self.slots.remove(key) {
            self.wakeups.remove(key, slot.wake_ms);
        }
        self.takeup.waiting.remove(key);
        self.takeup.uncopied.remove(key);
    }
}
