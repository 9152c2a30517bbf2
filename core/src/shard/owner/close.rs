//! When a channel wants to be looked at, when nobody needs it any more, and what is left when it goes to another.

use super::Channel;
use crate::shard::{cx::Cx, state::State};

impl Channel {
    /// When the next of those leaves who are present, or whose session is kept here, if nothing is heard of them. None: nobody is in
    /// doubt.
    pub fn leaves_ms(&mut self) -> Option<u64> {
        let present_ms = self.state.members.as_mut().and_then(|members| members.expire(0));
        let kept_ms = self.state.session.as_ref().and_then(|session| session.leaves_ms);
        [present_ms, kept_ms].into_iter().flatten().min()
    }

    /// When the channel wants to be looked at without anything happening.
    pub fn next_wake_ms(&mut self, leaves_ms: Option<u64>, may_close: bool, cx: &Cx<'_>) -> Option<u64> {
        let occupancy_ms = self.occupancy_is_due().then(|| self.occupancy_due_ms(cx));
        let soonest_ms = if may_close { 0 } else { cx.now.mono_ms + cx.config.close_ms };
        let close_ms = self.unused().then(|| self.close_at_ms(cx).max(soonest_ms));
        let check_ms = self.session_check_ms(cx);
        [leaves_ms, check_ms, occupancy_ms, close_ms].into_iter().flatten().min()
    }

    pub fn is_idle(&mut self, cx: &Cx<'_>) -> bool {
        self.unused() && self.close_at_ms(cx) <= cx.now.mono_ms
    }

    /// The channel is closed: nobody needs it, and its copies may forget it too.
    pub fn close(self, cx: &mut Cx<'_>) {
        self.drop_copies(cx);
    }

    /// The state, with all that was numbered: another owner sees to it that the copies have it before it counts.
    pub fn into_state(mut self, cx: &mut Cx<'_>) -> Box<State> {
        let keeping = self.keeping(cx);
        for entry in std::mem::take(&mut self.unconfirmed) {
            let waiting = self.state.apply(cx.now, entry, keeping);
            let outcome = Ok(self.state.current());
            waiting.into_iter().for_each(|repeat| self.state.senders.done(repeat.sender, repeat.counter, outcome));
        }
        Box::new(self.state)
    }

    fn unused(&self) -> bool {
        let present = self.state.members.as_ref().is_some_and(|members| !members.is_empty());
        let kept = self.state.session.as_ref().is_some_and(|session| session.record.is_some());
        let waits = self.waiting.is_empty() && self.resuming.is_empty() && self.unconfirmed.is_empty();
        self.listeners.is_empty() && self.pipeline.is_none() && waits && !present && !kept && self.is_copied()
    }

    /// Not before what clients may still ask for is gone: a retained message, and keys that must be known again; nor
    /// before another node may still repeat what it has published.
    fn close_at_ms(&mut self, cx: &Cx<'_>) -> u64 {
        let retained_ms = self.state.retained.as_ref().map_or(0, |retained| retained.until_ms);
        let keys_ms = self.state.keys.as_mut().and_then(|keys| keys.expire(cx.now.mono_ms)).unwrap_or(0);
        let repeats_ms =
            if self.state.senders.is_only(cx.me()) && self.state.session.is_none() { 0 } else { 2 * cx.config.hold_ms };
        (self.used_ms + cx.config.close_ms.max(repeats_ms)).max(retained_ms).max(keys_ms)
    }
}
