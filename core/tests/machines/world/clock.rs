//! Time, and what becomes due with it.

use appsockets_core::{session::Session, time::Now};

use super::{At, Held, World};

/// What a tick brought up may be due at once, but not for ever.
const TICKS_MAX: u32 = 5;

impl World {
    /// Lets time pass; what becomes due on the way is done then.
    pub fn pass(&mut self, ms: u64) {
        let until_ms = self.now.mono_ms + ms;
        let mut ticks = 0;
        while let Some(due_ms) = self.due_ms().filter(|due_ms| *due_ms <= until_ms) {
            ticks = if due_ms <= self.now.mono_ms { ticks + 1 } else { 0 };
            if ticks > TICKS_MAX {
                return self.mistakes.push(format!("what is due at {due_ms} is due again and again"));
            }
            self.advance(due_ms);
            self.tick();
        }
        self.advance(until_ms);
    }

    /// The clock that people see is set back.
    pub fn set_back(&mut self, ms: u64) {
        self.now.unix_ms -= ms;
    }

    pub(super) fn due_ms(&mut self) -> Option<u64> {
        let (now, config) = (self.now, &self.config);
        let due = |held: &Held| match &held.parked {
            Some(parked) => parked.until_ms,
            None => held.session.due_ms(now, config),
        };
        let sessions = self.workers.iter().flat_map(|worker| worker.held.values()).map(due).min();
        sessions.into_iter().chain(self.shard.next_tick_ms()).min()
    }

    pub(super) fn advance(&mut self, until_ms: u64) {
        let ms = until_ms.saturating_sub(self.now.mono_ms);
        self.now = Now { mono_ms: self.now.mono_ms + ms, unix_ms: self.now.unix_ms + ms };
    }

    pub(super) fn tick(&mut self) {
        let mut effects = Vec::new();
        self.shard.tick(self.now, &mut effects);
        self.route(effects);
        self.turn();
        for worker in 0..self.workers.len() {
            for subscriber in self.subscribers(worker) {
                let at = At { worker, subscriber };
                match self.workers[worker].held.get(&subscriber).map(|held| &held.parked) {
                    Some(Some(parked)) if parked.until_ms <= self.now.mono_ms => self.leave(at),
                    Some(None) => self.step(at, Session::tick),
                    _ => {}
                }
            }
        }
    }
}
