//! Keeping a session and giving it away, once.

use std::sync::Arc;

use super::Channel;
use crate::{
    cluster::view::NodeId,
    code::ErrorCode,
    message::{Form, Message, Payload},
    serial::Serial,
    session::record::Record,
    shard::{
        cx::Cx,
        keys::Repeat,
        peer::{Entry, Say, SessionOp, ToRelay},
    },
};

impl Channel {
    pub(super) fn submit_session(&mut self, from: Repeat, op: SessionOp, cx: &mut Cx<'_>) {
        let (kept, taken) = self.session_as_numbered();
        let refusal = match &op {
            SessionOp::Take if !kept => Some(ErrorCode::RestoreFailed),
            SessionOp::Keep(_) if taken => {
                // While the copies may lack it, whoever takes it is not told either: the two are told together.
                if self.state.session.as_ref().is_some_and(|session| session.taken.is_some()) {
                    self.let_go(Some(from.sender), cx);
                }
                Some(ErrorCode::RestoreFailed)
            }
            SessionOp::Keep(record) if self.is_kept(from, record) => {
                return self.decide(from, Ok(self.state.current()), cx);
            }
            _ if self.is_crowded(cx) => Some(ErrorCode::TryAgain),
            SessionOp::Take | SessionOp::Keep(_) => None,
        };
        if let Some(code) = refusal {
            return self.decide(from, Err(code), cx);
        }
        let serial = Serial { epoch: self.state.epoch, sequence: self.last_number() + 1 };
        let payload = Payload { bytes: bytes::Bytes::new(), form: Form::Binary };
        let message = Message { serial, ts_ms: self.state.ts_ms, event: "".into(), payload };
        let Repeat { sender, counter } = from;
        let entry = Entry { message: message.into(), retain: false, key: None, session: Some(op), sender, counter };
        self.accept(entry, cx);
    }

    /// Asks the session's node now and then whether it still has it: the word of its end may be lost.
    pub fn check_session(&mut self, cx: &mut Cx<'_>) {
        let Some(check_ms) = self.session_check_ms(cx).filter(|check_ms| *check_ms <= cx.now.mono_ms) else { return };
        self.checked_ms = check_ms.max(cx.now.mono_ms);
        if let Some(node) = self.state.session.as_ref().and_then(|session| session.node) {
            cx.say(node, &self.key, Say::Relay(ToRelay::Confirm));
        }
    }

    pub(super) fn session_check_ms(&self, cx: &Cx<'_>) -> Option<u64> {
        let session = self.state.session.as_ref().filter(|session| session.record.is_some());
        session.map(|_| self.checked_ms + 2 * cx.config.close_ms.max(cx.config.hold_ms))
    }

    /// What a `Take` has brought, told right before its outcome: a link that breaks between them would lose it alone.
    pub(super) fn tell_taken(&self, to: Repeat, cx: &mut Cx<'_>) {
        let taken = self.state.session.as_ref().and_then(|session| session.taken.as_ref());
        if let Some(taken) = taken.filter(|taken| (taken.by, taken.counter) == (to.sender, to.counter)) {
            let say = ToRelay::Taken { counter: to.counter, record: taken.record.clone() };
            cx.say(to.sender, &self.key, Say::Relay(say));
        }
    }

    /// The node that had the session ends it; the one that took it has it now.
    pub(super) fn let_go(&self, before: Option<NodeId>, cx: &mut Cx<'_>) {
        if let Some(node) = before {
            cx.say(node, &self.key, Say::Relay(ToRelay::LetGo));
        }
    }

    /// Whether it is kept like that already.
    fn is_kept(&self, from: Repeat, record: &Option<Arc<Record>>) -> bool {
        let kept = self.state.session.as_ref().filter(|session| session.node == Some(from.sender));
        self.unconfirmed.is_empty() && kept.is_some_and(|session| session.record == *record)
    }

    /// Whether a session is kept, and whether one was taken, once all that has a number counts.
    fn session_as_numbered(&self) -> (bool, bool) {
        let state = self.state.session.as_ref();
        let now = state.map_or((false, false), |session| (session.record.is_some(), session.taken.is_some()));
        self.unconfirmed.iter().fold(now, |(kept, taken), entry| match &entry.session {
            Some(SessionOp::Keep(record)) => (record.is_some(), taken),
            Some(SessionOp::Take) => (false, taken || kept),
            None => (kept, taken),
        })
    }
}
