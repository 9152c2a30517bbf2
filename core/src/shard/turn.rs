//! The end of a turn, and what is done when its time comes.

use super::Shard;
use crate::{
    channel::ChannelKey,
    shard::{request::Effect, slot::Role, takeup::TakeUp},
    time::Now,
};

/// Channels that one tick looks at. What a million of them have to say when they close together would keep a worker from
/// everything else, and all of it would wait in memory.
const TICK_CHANNELS_MAX: usize = 1_000;
/// Room that may stay, whatever is in it.
const SPARE_MIN: usize = 1_024;

impl Shard {
    /// Sends out what the turn brought.
    pub fn end_turn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.note_changed(now, effects);
        while !self.touched.is_empty() {
            for key in std::mem::take(&mut self.touched) {
                self.end_turn_of(now, &key, effects);
            }
            self.note_changed(now, effects);
        }
        self.tell_served(effects);
    }

    /// When [`Shard::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&mut self) -> Option<u64> {
        self.wakeups.next()
    }

    /// Does what is due: occupancy counts, the end of what waits too long, and the closing of channels that nobody uses.
    /// It looks at so many channels at once; the others stay due.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for _ in 0..TICK_CHANNELS_MAX {
            let Some(key) = self.wakeups.pop_due(now.mono_ms) else { break };
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
            self.wakeups.set(key, slot.point, &mut slot.wake_ms, wake_ms);
        }
    }

    /// Forgets a channel altogether.
    pub(super) fn remove(&mut self, key: &ChannelKey) {
        if let Some(slot) = self.slots.remove(key) {
            self.wakeups.remove(key, slot.point, slot.wake_ms);
        }
        self.takeup.waiting.remove(key);
        self.takeup.uncopied.remove(key);
        self.takeup.unsaid.remove(key);
        self.give_back();
    }

    /// Lets go of room that many channels have left behind. Each time at most half of it stays, so that what it costs to
    /// move those that are there is little for each of those that went.
    fn give_back(&mut self) {
        let is_sparse = |len: usize, capacity: usize| capacity > SPARE_MIN && len < capacity / 4;
        if is_sparse(self.slots.len(), self.slots.capacity()) {
            self.slots.shrink_to(2 * self.slots.len());
        }
        let TakeUp { waiting, uncopied, unsaid, .. } = &mut self.takeup;
        for keys in [waiting, uncopied, unsaid] {
            if is_sparse(keys.len(), keys.capacity()) {
                keys.shrink_to(2 * keys.len());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SPARE_MIN, Shard};
    use crate::{
        channel::ChannelKey,
        shard::{Config, history::HistoryBounds, slot::Slot},
        time::Now,
    };

    const NOW: Now = Now { mono_ms: 0, unix_ms: 0 };
    const CONFIG: Config = Config {
        node: 0,
        generation: 1,
        index: 0,
        count: 1,
        seed: 1,
        history: HistoryBounds { messages_max: 0, bytes_max: 0, unseen_max: 0 },
        retain_ms: 0,
        close_ms: 0,
        occupancy_ms: 0,
        hold_ms: 0,
        restore_ms: 0,
        waiting_max: 0,
        held_max: 0,
        channels_max: 0,
    };

    #[test]
    fn room_goes_with_the_channels_and_is_seldom_made_anew() {
        let mut shard = Shard::alone(NOW, CONFIG);
        let keys: Vec<_> = (0..100_000).map(|number| ChannelKey::new("shop", number.to_string())).collect();
        for key in &keys {
            shard.slots.insert(key.clone(), Slot::new(key));
            shard.takeup.uncopied.insert(key.clone());
        }
        let (most, mut moved) = (shard.slots.capacity(), 0);
        for key in &keys {
            let before = shard.slots.capacity();
            shard.remove(key);
            // A place may be lost with a channel until the next move; a move makes it half at most.
            moved += usize::from(shard.slots.capacity() < before / 2 + 1) * shard.slots.len();
        }
        assert!(moved <= most, "{moved} were moved for {most}");
        assert!(shard.slots.capacity() <= 2 * SPARE_MIN && shard.takeup.uncopied.capacity() <= 2 * SPARE_MIN);
    }
}
