//! Publishing: what is refused, what was there already, what waits for the store or the copies, and the number.

use std::sync::Arc;

use super::Channel;
use crate::{
    code::ErrorCode,
    message::Message,
    serial::Serial,
    shard::{
        cx::Cx,
        keys::{KeyEntry, Repeat, Seen},
        peer::{Entry, Say, SessionOp, Submission, ToRelay},
        request::Publish,
        senders::{Place, Turn},
    },
};

impl Channel {
    /// `uncertain`: it was sent before, and whoever got it then may have accepted it and is not here to tell.
    pub fn publish(&mut self, place: Place, uncertain: bool, what: Submission, cx: &mut Cx<'_>) {
        match self.state.senders.take(place, uncertain) {
            Turn::Pending if self.lacks_nodes() => self.answer_now(place.into(), Err(ErrorCode::TooFewNodes), cx),
            Turn::Pending | Turn::TooEarly => {}
            Turn::Answered(outcome) => self.answer(place.into(), outcome, cx),
            Turn::Stranger => self.answer(place.into(), Err(ErrorCode::TryAgain), cx),
            Turn::Next => match what {
                Submission::Message(publish) => self.take_next(place.into(), *publish, cx),
                Submission::Session(op) => self.submit_session(place.into(), op, cx),
            },
        }
    }

    fn take_next(&mut self, from: Repeat, publish: Publish, cx: &mut Cx<'_>) {
        match self.check(from, &publish, cx) {
            Verdict::New if publish.store || self.pipeline.is_some() => self.queue(from, publish),
            Verdict::New => {
                let entry = self.number(from, self.last_number() + 1, &publish, cx);
                self.accept(entry, cx);
            }
            Verdict::Waits => {}
            Verdict::Decided(outcome) => self.decide(from, outcome, cx),
        }
    }

    /// The entry is the channel's next.
    pub(super) fn accept(&mut self, entry: Entry, cx: &mut Cx<'_>) {
        debug_assert_eq!(entry.message.serial.sequence, self.last_number() + 1);
        if self.copies.is_empty() {
            self.apply_confirmed(cx);
            // A queue that is never used takes no room, which counts where channels are many.
            if self.unconfirmed.is_empty() && !self.lacks_nodes() {
                return self.apply(entry, cx);
            }
        }
        self.unconfirmed.push_back(entry);
    }

    /// The entry counts: it is answered, and goes out when the turn ends.
    pub(super) fn apply(&mut self, entry: Entry, cx: &mut Cx<'_>) {
        let (message, from) = (entry.message.clone(), Repeat { sender: entry.sender, counter: entry.counter });
        let entry = Entry { retain: entry.retain && self.rules.retain, ..entry };
        let is_message = entry.session.is_none();
        if !is_message {
            cx.came_of(from.sender);
        }
        let before = self.state.session.as_ref().filter(|session| session.record.is_some()).and_then(|s| s.node);
        let takes = entry.session == Some(SessionOp::Take);
        let waiting = self.state.apply(cx.now, entry, self.keeping(cx));
        if takes {
            self.let_go(before.filter(|node| *node != from.sender), cx);
        }
        self.answer(from, Ok(message.serial), cx);
        waiting.into_iter().for_each(|repeat| self.decide(repeat, Ok(message.serial), cx));
        if is_message {
            cx.counters.uncopied += u64::from(self.copies.len() < usize::from(self.rules.redundancy));
            self.accepted.push(message);
        }
    }

    pub(super) fn fail(&mut self, from: Repeat, publish: &Publish, code: ErrorCode, cx: &mut Cx<'_>) {
        self.decide(from, Err(code), cx);
        let keys = self.state.keys.as_mut().zip(publish.key.as_ref());
        let waiting = keys.map(|(keys, key)| keys.failed(key)).unwrap_or_default();
        waiting.into_iter().for_each(|repeat| self.decide(repeat, Err(code), cx));
    }

    pub(super) fn number(&mut self, from: Repeat, sequence: u64, publish: &Publish, cx: &Cx<'_>) -> Entry {
        self.state.ts_ms = self.state.ts_ms.max(cx.now.unix_ms);
        let message = Message {
            serial: Serial { epoch: self.state.epoch, sequence },
            ts_ms: self.state.ts_ms,
            event: publish.event.clone(),
            payload: publish.payload.clone(),
        };
        Entry {
            message: Arc::new(message),
            retain: publish.retain,
            key: KeyEntry::of(publish),
            session: None,
            sender: from.sender,
            counter: from.counter,
        }
    }

    pub(super) fn last_number(&self) -> u64 {
        self.state.sequence + self.unconfirmed.len() as u64
    }

    fn check(&mut self, from: Repeat, publish: &Publish, cx: &Cx<'_>) -> Verdict {
        let rules = &self.rules;
        let alone = cx.aside_of.is_none() && cx.view.is_some_and(|view| view.members.len() == 1);
        let refusal = match publish {
            Publish { store: true, .. } if !rules.store => Some(ErrorCode::StoreNotAllowed),
            // Each node has a database of its own, and a page read at another node would lack the message.
            Publish { store: true, .. } if !alone => Some(ErrorCode::StoreUnavailable),
            Publish { retain: true, .. } if !rules.retain => Some(ErrorCode::RetainNotAllowed),
            Publish { push: true, .. } if !rules.push => Some(ErrorCode::PushNotAllowed),
            // No push service is connected yet, and a message that silently goes to nobody is worse than a refusal.
            Publish { push: true, .. } => Some(ErrorCode::Unsupported),
            _ if self.lacks_nodes() => Some(ErrorCode::TooFewNodes),
            _ if self.is_crowded(cx) => Some(ErrorCode::TryAgain),
            _ => None,
        };
        match (refusal, KeyEntry::of(publish)) {
            (Some(code), _) => Verdict::Decided(Err(code)),
            (None, None) => Verdict::New,
            (None, Some(entry)) => self.state.keys.get_or_insert_default().check(&entry, from, cx.now.mono_ms).into(),
        }
    }

    /// Whether as many publishes wait as may.
    pub(super) fn is_crowded(&self, cx: &Cx<'_>) -> bool {
        let queued = self.pipeline.as_ref().map_or(0, |pipeline| pipeline.len());
        queued.max(self.unconfirmed.len()) >= cx.config.waiting_max
    }

    pub(super) fn decide(&mut self, from: Repeat, outcome: Result<Serial, ErrorCode>, cx: &mut Cx<'_>) {
        self.state.senders.done(from.sender, from.counter, outcome);
        self.answer(from, outcome, cx);
    }

    /// Success waits until every copy has the state: this node may be the only one that is left of those that had it.
    pub(super) fn answer(&mut self, from: Repeat, outcome: Result<Serial, ErrorCode>, cx: &mut Cx<'_>) {
        match outcome {
            Ok(_) if self.lacks_nodes() => self.answer_now(from, Err(ErrorCode::TooFewNodes), cx),
            Ok(serial) if !self.is_copied() => self.untold.push((from, serial)),
            outcome => {
                self.tell_taken(from, cx);
                self.answer_now(from, outcome, cx);
            }
        }
    }

    pub(super) fn answer_now(&self, from: Repeat, outcome: Result<Serial, ErrorCode>, cx: &mut Cx<'_>) {
        let say = ToRelay::Published { counter: from.counter, outcome };
        cx.say(from.sender, &self.key, Say::Relay(say));
    }
}

impl From<Place> for Repeat {
    fn from(place: Place) -> Repeat {
        Repeat { sender: place.sender, counter: place.counter }
    }
}

/// What a publish comes to before it is numbered.
enum Verdict {
    New,
    Waits,
    Decided(Result<Serial, ErrorCode>),
}

impl From<Seen> for Verdict {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::New => Verdict::New,
            Seen::Waits => Verdict::Waits,
            Seen::Done(serial) => Verdict::Decided(Ok(serial)),
            Seen::Conflict => Verdict::Decided(Err(ErrorCode::KeyConflict)),
            Seen::Full => Verdict::Decided(Err(ErrorCode::TryAgain)),
        }
    }
}
