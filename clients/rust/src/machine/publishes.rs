//! Publishes that have no answer yet.

use std::collections::BTreeMap;

use appsockets_proto::client::{ChannelPubExtras, ChannelPubRequest, EventType, PubRequestInfo, Response};
use prost::Message;

use super::{Answer, Bounds, Step, size};
use crate::event::{Ack, Error, Publish};

/// How long after a publish was sent it may be sent again: less than the two minutes for which the node remembers keys.
pub const REPEAT_MAX_MS: u64 = 100_000;

/// By request id, which is the order in which the application has published.
#[derive(Debug, Default)]
pub struct Publishes {
    waiting: BTreeMap<i64, Pending>,
    sent: BTreeMap<i64, Pending>,
    /// Nothing is sent before, since the node has refused one for the moment.
    hold_ms: u64,
}

#[derive(Debug)]
struct Pending {
    token: u64,
    request: ChannelPubRequest,
    /// When the node may first have seen it.
    sent_ms: Option<u64>,
    attempts: u32,
}

impl Publishes {
    pub fn add(
        &mut self,
        req_id: i64,
        token: u64,
        publish: Publish,
        key: String,
        bounds: &Bounds,
        step: &mut Step<'_>,
    ) {
        if self.waiting.len() + self.sent.len() >= bounds.queue {
            return step.answer(token, Err(Error::QueueFull));
        }
        let request = ChannelPubRequest { publishes: vec![item(req_id, publish, key)] };
        self.waiting.insert(req_id, Pending { token, request, sent_ms: None, attempts: 0 });
    }

    /// Sends what may be sent, the oldest first.
    pub fn send(&mut self, bounds: &Bounds, bytes_max: usize, step: &mut Step<'_>) {
        if step.now_ms < self.hold_ms {
            return;
        }
        self.hold_ms = 0;
        while self.sent.len() < bounds.in_flight.max(1) {
            let Some((req_id, mut pending)) = self.waiting.pop_first() else { return };
            if !size::fits(pending.request.encoded_len(), bytes_max) {
                step.answer(pending.token, Err(Error::TooLarge));
            } else if pending.sent_ms.is_some_and(|sent_ms| sent_ms + REPEAT_MAX_MS < step.now_ms) {
                step.answer(pending.token, Err(Error::Unknown));
            } else {
                pending.sent_ms.get_or_insert(step.now_ms);
                step.send(EventType::Publish, &pending.request);
                self.sent.insert(req_id, pending);
            }
        }
    }

    pub fn due_ms(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.hold_ms)
    }

    /// What has no answer is to be sent again.
    pub fn disconnected(&mut self) {
        self.waiting.append(&mut self.sent);
    }

    pub fn answered(&mut self, response: Response, bounds: &Bounds, step: &mut Step<'_>) {
        let Some(mut pending) = self.sent.remove(&response.req_id) else { return };
        match response.error {
            None => {
                let serial = response.channel_serial.or(response.msg_id).unwrap_or_default();
                step.answer(pending.token, Ok(Answer::Ack(Ack { serial })));
            }
            Some(error) if error.retry && pending.attempts + 1 < bounds.attempts => {
                pending.attempts += 1;
                self.hold_ms = step.now_ms + bounds.backoff.wait_ms(pending.attempts, step.random);
                self.waiting.insert(response.req_id, pending);
            }
            Some(error) => step.answer(pending.token, Err(Error::Refused(error.into()))),
        }
    }

    pub fn end(&mut self, step: &mut Step<'_>) {
        self.disconnected();
        for pending in std::mem::take(&mut self.waiting).into_values() {
            let outcome = if pending.sent_ms.is_some() { Error::Unknown } else { Error::Closed };
            step.answer(pending.token, Err(outcome));
        }
    }
}

fn item(req_id: i64, publish: Publish, key: String) -> PubRequestInfo {
    let Publish { channel, event, payload, store, push, retain, key: _ } = publish;
    let extra = (store || push || retain).then_some(ChannelPubExtras { store, push, retain });
    PubRequestInfo { channel, event, payload, extra, req_id: Some(req_id), key: Some(key) }
}
