//! The end of a turn, and what is done when its time comes.

use super::Shard;
use crate::{
    shard::{request::Effect, slot::Role, slots::At, takeup::TakeUp},
    time::Now,
};

/// Channels that one tick looks at. What a million of them have to say when they close together would keep a worker from
/// everything else, and all of it would wait in memory.
const TICK_CHANNELS_MAX: usize = 1_000;
/// Channels that take a step before what it brought is sent.
const TOUCHED_MAX: usize = 64;
/// Room that may stay, whatever is in it.
const SPARE_MIN: usize = 1_024;

impl Shard {
    /// Sends out what the turn brought.
    pub fn end_turn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.end_all_touched(now, effects);
        self.tell_resumed(effects);
        self.send_behind(now, effects);
        self.end_all_touched(now, effects);
        self.tell_served(effects);
        self.give_back();
    }

    fn end_all_touched(&mut self, now: Now, effects: &mut Vec<Effect>) {
        self.note_changed(now, effects);
        while !self.touched.is_empty() {
            self.end_touched(now, effects);
            self.note_changed(now, effects);
        }
    }

    /// Ends the turn of the channels that were touched, once they are many. A channel is cheap to look at while the processor still
    /// has it at hand.
    pub(super) fn end_some(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.touched.len() >= TOUCHED_MAX {
            self.hear_own(now, effects);
            self.end_touched(now, effects);
        }
    }

    fn end_touched(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for at in std::mem::take(&mut self.touched) {
            self.end_turn_of(now, at, effects);
        }
    }

    /// When [`Shard::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&mut self) -> Option<u64> {
        [self.wakeups.next(), self.copies_due_ms()].into_iter().flatten().min()
    }

    /// Does what is due: occupancy counts, the end of what waits too long, and the closing of channels that nobody uses.
    /// It looks at so many channels at once; the others stay due.
    pub fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for _ in 0..TICK_CHANNELS_MAX {
            let Some(at) = self.wakeups.pop_due(now.mono_ms) else { break };
            if let Some((_, slot)) = self.slots.get_mut(at) {
                slot.wake_ms = None;
                self.tick_one(now, at, effects);
            }
        }
        self.hear_own(now, effects);
    }

    fn tick_one(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        let may_close = self.is_complete();
        self.with(now, at, effects, |key, slot, cx| {
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

    fn end_turn_of(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        let accepted = self.quietly(now, at, effects, |_, slot, cx| {
            slot.touched = false;
            match &mut slot.role {
                Role::Owner(channel) => channel.end_turn(cx),
                Role::None | Role::Waiting(_) | Role::Kept(_) => 0,
            }
        });
        self.accepted += accepted.unwrap_or_default();
        self.hear_own(now, effects);
        self.look_again(now, at, effects);
    }

    /// Forgets a channel that nothing is left of, and else sees to it that it is looked at in time.
    fn look_again(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        // Not sure before, and it is asked for each channel of each turn.
        let may_close = self.takeup.told_served;
        let looked_at = self.quietly(now, at, effects, |key, slot, cx| {
            if let Some(relay) = &mut slot.relay {
                relay.end_turn(key, cx);
            }
            slot.waits = slot.relay_waits();
            (slot.copied, slot.holders, slot.waited) = (false, 0, false);
            let (mut behind, mut resuming, mut leaves_ms) = (false, false, None);
            if let Role::Owner(channel) = &mut slot.role {
                (slot.copied, slot.holders, slot.waited) =
                    (channel.is_copied(), channel.holders(), channel.is_waited_for());
                (resuming, leaves_ms) = (channel.is_resuming(), channel.leaves_ms());
                behind = !slot.copied && !slot.behind && channel.is_behind();
            }
            slot.behind |= behind;
            let uncopied = matches!(slot.role, Role::Owner(_)) && !slot.copied;
            let wake_ms = (!slot.is_empty()).then(|| slot.next_wake_ms(key, leaves_ms, may_close, cx));
            (uncopied, resuming, leaves_ms.is_some(), behind, wake_ms)
        });
        let Some((is_uncopied, is_resuming, is_doubtful, behind, wake_ms)) = looked_at else { return };
        let TakeUp { uncopied, unanswered, .. } = &mut self.takeup;
        let sets = [(uncopied, is_uncopied), (unanswered, is_resuming), (&mut self.doubtful, is_doubtful)];
        for (places, is_in) in sets {
            match is_in {
                true => drop(places.insert(at)),
                false if places.is_empty() => {}
                false => drop(places.remove(&at)),
            }
        }
        if behind {
            self.takeup.behind.push_back(at);
        }
        match (wake_ms, self.slots.get_mut(at)) {
            (Some(wake_ms), Some((_, slot))) => self.wakeups.set(at, &mut slot.wake_ms, wake_ms),
            _ => self.remove(at),
        }
    }

    /// Forgets a channel altogether.
    pub(super) fn remove(&mut self, at: At) {
        debug_assert!(self.own.is_empty(), "what is said of a channel is heard before the channel goes");
        if let Some(slot) = self.slots.remove(at) {
            self.wakeups.remove(at, slot.wake_ms);
            if let Role::Waiting(waiting) = slot.role {
                self.takeup.waits_no_more(at, waiting.group);
            }
        }
        self.takeup.uncopied.remove(&at);
        self.takeup.unsaid.remove(&at);
        self.takeup.unanswered.remove(&at);
        self.doubtful.remove(&at);
    }

    /// Lets go of room that many channels have left behind. Each time at most half of it stays, so that what it costs to
    /// move those that are there is little for each of those that went.
    fn give_back(&mut self) {
        let is_sparse = |len: usize, capacity: usize| capacity > SPARE_MIN && len < capacity / 4;
        let Shard { slots, takeup, doubtful, wakeups, .. } = self;
        let has_notes = takeup.has_notes();
        let TakeUp { waiting, uncopied, unsaid, unanswered, .. } = takeup;
        if !has_notes && is_sparse(slots.len(), slots.capacity()) {
            slots.shrink(|from, to, slot| {
                wakeups.moved(from, to, slot.wake_ms);
                let others = [&mut *uncopied, &mut *unsaid, &mut *unanswered, &mut *doubtful];
                for set in waiting.values_mut().chain(others) {
                    if set.remove(&from) {
                        set.insert(to);
                    }
                }
            });
        }
        let sets = waiting.values_mut().chain([uncopied, unsaid, unanswered, doubtful]);
        for set in sets.filter(|set| is_sparse(set.len(), set.capacity())) {
            set.shrink_to(2 * set.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{SPARE_MIN, Shard};
    use crate::{
        channel::ChannelKey,
        shard::{Config, history::HistoryBounds},
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
        copying_max: 0,
    };

    #[test]
    fn room_goes_with_the_channels_and_is_seldom_made_anew() {
        let mut shard = Shard::alone(NOW, CONFIG);
        let keys: Vec<_> = (0..100_000).map(|number| ChannelKey::new("shop", number.to_string())).collect();
        for key in &keys {
            let at = shard.enter(key);
            shard.takeup.uncopied.insert(at);
        }
        let (most, mut moved) = (shard.slots.capacity(), 0);
        for key in &keys {
            let before = shard.slots.capacity();
            shard.remove(shard.slots.find(key).expect("it is there, wherever it was moved"));
            shard.give_back();
            // A place may be lost with a channel until the next move; a move makes it half at most.
            moved += usize::from(shard.slots.capacity() < before / 2 + 1) * shard.slots.len();
        }
        assert!(moved <= most, "{moved} were moved for {most}");
        assert!(shard.slots.capacity() <= 2 * SPARE_MIN && shard.takeup.uncopied.capacity() <= 2 * SPARE_MIN);
    }
}
