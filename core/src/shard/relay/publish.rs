//! Publishes on their way to the owner: in order, and each once, however often the owner changes.

use std::{collections::VecDeque, sync::Arc};

use super::Relay;
use crate::{
    channel::ChannelKey,
    code::ErrorCode,
    serial::Serial,
    session::record::Record,
    shard::{
        cx::Cx,
        peer::{Say, SentIn, SessionOp, Submission, ToOwner},
        request::{Effect, Listener, Publish, Reply, Token},
    },
};

/// The publishes of this node to one channel that are not answered.
#[derive(Debug, Default)]
pub struct Publishes(VecDeque<Pending>);

#[derive(Debug)]
pub struct Pending {
    counter: u64,
    from: Listener,
    token: Token,
    /// Whether success is answered; a refusal always is.
    ack: bool,
    what: Submission,
    /// What a `Take` has brought, before its outcome.
    taken: Option<Arc<Record>>,
    /// Where it was first sent.
    sent_in: Option<SentIn>,
    since_ms: u64,
}

impl Publishes {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// When the oldest of them came.
    pub fn oldest_ms(&self) -> Option<u64> {
        self.0.front().map(|pending| pending.since_ms)
    }

    /// Everything unanswered, to be sent in this view.
    pub fn again(&mut self, view: SentIn) -> Vec<(u64, ToOwner)> {
        let oldest = self.0.front().map_or(0, |pending| pending.counter);
        let mut after = 0;
        let says = self.0.iter_mut().map(|pending| {
            let before = std::mem::replace(&mut after, pending.counter);
            (pending.counter, pending.say(before, oldest, view))
        });
        says.collect()
    }

    /// Those that came up to this time.
    pub fn give_up(&mut self, until_ms: u64) -> VecDeque<Pending> {
        let kept = self.0.iter().position(|pending| pending.since_ms > until_ms).unwrap_or(self.0.len());
        let rest = self.0.split_off(kept);
        std::mem::replace(&mut self.0, rest)
    }
}

impl Pending {
    pub fn refuse(self, key: &ChannelKey, code: ErrorCode, cx: &mut Cx<'_>) {
        self.answer(key, Err(code), cx);
    }

    fn say(&mut self, after: u64, oldest: u64, view: SentIn) -> ToOwner {
        let repeated_since = self.sent_in;
        self.sent_in.get_or_insert(view);
        ToOwner::Publish { counter: self.counter, after, oldest, repeated_since, what: self.what.clone() }
    }

    /// A refusal is told even where nobody asked for an answer.
    fn answer(self, key: &ChannelKey, outcome: Result<Serial, ErrorCode>, cx: &mut Cx<'_>) {
        let reply = match (&self.what, outcome) {
            (Submission::Message(_), outcome) if self.ack || outcome.is_err() => Reply::Published(outcome),
            (Submission::Session(SessionOp::Take), outcome) => {
                Reply::Taken(outcome.and_then(|_| self.taken.ok_or(ErrorCode::RestoreFailed)))
            }
            (Submission::Message(_) | Submission::Session(SessionOp::Keep(_)), _) => return,
        };
        cx.effects.push(Effect::Answer { to: self.from, key: key.clone(), token: self.token, reply });
    }
}

impl Relay {
    pub(super) fn publish(&mut self, key: &ChannelKey, from: Listener, publish: Publish, cx: &mut Cx<'_>) {
        let (token, ack) = (publish.token, publish.ack);
        self.submit(key, from, token, ack, Submission::Message(Box::new(publish)), cx);
    }

    pub(super) fn submit(
        &mut self,
        key: &ChannelKey,
        from: Listener,
        token: Token,
        ack: bool,
        what: Submission,
        cx: &mut Cx<'_>,
    ) {
        let pending = &mut self.publishes.0;
        let (counter, after) = (cx.next_request(), pending.back().map_or(0, |last| last.counter));
        let since_ms = cx.now.mono_ms;
        let mut new = Pending { counter, from, token, ack, what, taken: None, sent_in: None, since_ms };
        if pending.len() >= cx.config.held_max {
            return new.refuse(key, ErrorCode::TryAgain, cx);
        }
        if let Some(owner) = cx.owner_to_tell(key) {
            let oldest = pending.front().map_or(counter, |first| first.counter);
            cx.say(owner, key, Say::Owner(new.say(after, oldest, cx.sent_in())));
        }
        self.publishes.0.push_back(new);
    }

    pub(super) fn taken(&mut self, counter: u64, record: Arc<Record>) {
        if let Some(pending) = self.publishes.0.iter_mut().find(|pending| pending.counter == counter) {
            pending.taken = Some(record);
        }
    }

    pub(super) fn published(
        &mut self,
        key: &ChannelKey,
        counter: u64,
        outcome: Result<Serial, ErrorCode>,
        cx: &mut Cx<'_>,
    ) {
        let Some(at) = self.publishes.0.iter().position(|pending| pending.counter == counter) else { return };
        if let Some(pending) = self.publishes.0.remove(at) {
            pending.answer(key, outcome, cx);
        }
    }

    /// Whoever waits for too long is told to try again, a publish with the same key. An owner that is there answers in
    /// its own time.
    pub fn give_up(&mut self, key: &ChannelKey, cx: &mut Cx<'_>) {
        let Some(until_ms) = cx.now.mono_ms.checked_sub(cx.config.hold_ms) else { return };
        self.publishes.give_up(until_ms).into_iter().for_each(|pending| pending.refuse(key, ErrorCode::TryAgain, cx));
        let late: Vec<_> = self.asks.extract_if(.., |asked| asked.since_ms <= until_ms).collect();
        late.into_iter().for_each(|asked| self.refuse_ask(key, asked, ErrorCode::TryAgain, cx));
    }

    /// When [`Relay::give_up`] is due.
    pub fn gives_up_ms(&self, cx: &Cx<'_>) -> Option<u64> {
        let oldest_ms = self.asks.first().map(|asked| asked.since_ms).into_iter().chain(self.publishes.oldest_ms());
        oldest_ms.min().map(|since_ms| since_ms + cx.config.hold_ms)
    }
}
