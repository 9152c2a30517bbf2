//! Mail from this worker to others, gathered over a turn so that each gets one piece.

use appsockets_core::{
    shard::request::{Effect, Request},
    time::Now,
};

use super::{Engine, Mail};
use crate::edge::MailError;

/// What waits for the other workers.
pub struct Posting {
    outgoing: Vec<Outgoing>,
}

#[derive(Default)]
struct Outgoing {
    requests: Vec<Request>,
    effects: Vec<Effect>,
    other: Vec<Mail>,
}

/// How soon a full mailbox is tried again, in milliseconds.
const RETRY_MS: u64 = 2;

/// What may wait for one worker whose mailbox is full. It takes its mail each turn, so one that lets this much pile up
/// behind a full mailbox does not run. What a single turn gathers is no sign of that: clients choose how much it is.
const OUTGOING_MAX: usize = 1 << 20;

impl Posting {
    pub fn new(workers: usize) -> Self {
        Posting { outgoing: (0..workers).map(|_| Outgoing::default()).collect() }
    }

    pub fn ask(&mut self, worker: u16, request: Request) {
        if let Some(outgoing) = self.outgoing.get_mut(usize::from(worker)) {
            outgoing.requests.push(request);
        }
    }

    pub fn effect(&mut self, worker: u16, effect: Effect) {
        if let Some(outgoing) = self.outgoing.get_mut(usize::from(worker)) {
            outgoing.effects.push(effect);
        }
    }

    pub fn push(&mut self, worker: u16, mail: Mail) {
        if let Some(outgoing) = self.outgoing.get_mut(usize::from(worker)) {
            outgoing.other.push(mail);
        }
    }

    /// When to try again what a full mailbox did not take.
    pub fn retry_ms(&self, now: Now) -> Option<u64> {
        self.outgoing.iter().any(|outgoing| outgoing.len() > 0).then_some(now.mono_ms + RETRY_MS)
    }
}

impl Outgoing {
    fn len(&self) -> usize {
        self.requests.len() + self.effects.len() + self.other.len()
    }

    /// A worker that no longer runs while others do is a mistake that only a new process mends.
    fn check(&self) {
        assert!(self.len() < OUTGOING_MAX, "another worker of this node takes no mail any more");
    }

    fn next_run(&mut self) -> Option<Mail> {
        if !self.requests.is_empty() {
            return Some(Mail::Ask(std::mem::take(&mut self.requests)));
        }
        (!self.effects.is_empty()).then(|| Mail::Effects(std::mem::take(&mut self.effects)))
    }

    fn put_back(&mut self, mail: Mail) {
        match mail {
            Mail::Ask(requests) => self.requests = requests,
            Mail::Effects(effects) => self.effects = effects,
            other => self.other.insert(0, other),
        }
        self.check();
    }
}

impl Engine {
    /// Sends what the turn gathered. What a full mailbox does not take stays, in order, for the next turn. A session
    /// goes to another worker only after all that it has asked so far is on its way.
    pub(super) fn post(&mut self) {
        let runs_sent = self.send_all(Outgoing::next_run);
        if runs_sent {
            self.send_all(|outgoing| (!outgoing.other.is_empty()).then(|| outgoing.other.remove(0)));
        }
    }

    fn send_all(&mut self, next: impl Fn(&mut Outgoing) -> Option<Mail>) -> bool {
        let mut all = true;
        for (worker, outgoing) in self.posting.outgoing.iter_mut().enumerate() {
            while let Some(mail) = next(outgoing) {
                match self.shared.mail(worker as u16, mail) {
                    Ok(()) => {}
                    Err(MailError::Full(mail)) => {
                        outgoing.put_back(mail);
                        all = false;
                        break;
                    }
                    // The process is about to end, and with it everything that waited.
                    Err(MailError::Gone(_)) => {}
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::{Mail, OUTGOING_MAX, Posting};

    #[test]
    fn what_one_turn_gathers_ends_no_process() {
        let mut posting = Posting::new(1);
        (0..=OUTGOING_MAX).for_each(|_| posting.push(0, Mail::End));
        assert_eq!(posting.outgoing[0].len(), OUTGOING_MAX + 1);
    }
}
