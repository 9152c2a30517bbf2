//! Publishing: what is refused, what was there already, what waits for the store, and the number.

use std::{collections::VecDeque, sync::Arc};

use crate::{
    code::ErrorCode,
    message::Message,
    serial::Serial,
    shard::{
        channel::{Channel, Retained},
        keys::{Repeat, Seen},
        request::{Effect, Listener, Publish, Reply, Token},
    },
    time::Now,
};

/// Publishes of a channel that wait because one of them must be durable first. One batch is with the store at a time;
/// what comes meanwhile is the next batch, so the order is kept and a slow store makes larger batches.
#[derive(Debug, Default)]
pub struct Pipeline {
    queue: VecDeque<Queued>,
    storing: Option<Storing>,
}

#[derive(Debug)]
struct Queued {
    from: Listener,
    publish: Publish,
}

#[derive(Debug)]
struct Storing {
    ticket: u64,
    batch: Vec<(Queued, Arc<Message>)>,
}

impl Channel {
    pub fn publish(&mut self, now: Now, from: Listener, publish: Publish, effects: &mut Vec<Effect>) {
        match self.check(now, from, &publish) {
            Verdict::New if publish.store || self.pipeline.is_some() => {
                self.pipeline.get_or_insert_default().queue.push_back(Queued { from, publish });
            }
            Verdict::New => {
                let message = self.number(now, self.sequence + 1, &publish);
                self.accept(now, from, &publish, message, effects);
            }
            Verdict::Waits => {}
            Verdict::Answer(outcome) => self.answer(from, publish.token, publish.ack, outcome, effects),
        }
    }

    /// Begins the next batch, if the one before is settled.
    pub(super) fn advance_pipeline(&mut self, now: Now, tickets: &mut u64, effects: &mut Vec<Effect>) {
        let Some(mut pipeline) = self.pipeline.take_if(|pipeline| pipeline.storing.is_none()) else { return };
        let mut sequence = self.sequence;
        let batch: Vec<_> = std::mem::take(&mut pipeline.queue)
            .into_iter()
            .map(|queued| {
                sequence += 1;
                let message = self.number(now, sequence, &queued.publish);
                (queued, message)
            })
            .collect();
        let messages: Vec<_> =
            batch.iter().filter(|(queued, _)| queued.publish.store).map(|(_, message)| message.clone()).collect();
        if messages.is_empty() {
            return batch
                .into_iter()
                .for_each(|(queued, message)| self.accept(now, queued.from, &queued.publish, message, effects));
        }
        *tickets += 1;
        pipeline.storing = Some(Storing { ticket: *tickets, batch });
        self.pipeline = Some(pipeline);
        effects.push(Effect::Store { key: self.key.clone(), ticket: *tickets, messages });
    }

    /// The batch is durable, or none of it is. In that case what did not ask for it goes on without the others, under
    /// numbers that nobody has seen.
    pub fn stored(&mut self, now: Now, ticket: u64, ok: bool, effects: &mut Vec<Effect>) {
        let Some(pipeline) = &mut self.pipeline else { return };
        let Some(storing) = pipeline.storing.take_if(|storing| storing.ticket == ticket) else { return };
        for (Queued { from, publish }, message) in storing.batch {
            if ok {
                self.accept(now, from, &publish, message, effects);
            } else if publish.store {
                self.fail(from, &publish, ErrorCode::StoreFailed, effects);
            } else {
                let message = self.number(now, self.sequence + 1, &publish);
                self.accept(now, from, &publish, message, effects);
            }
        }
    }

    /// The channel goes: what waits for the store is refused. What is with the store may be stored all the same.
    pub(super) fn abandon_pipeline(&mut self, code: ErrorCode, effects: &mut Vec<Effect>) {
        let Some(pipeline) = self.pipeline.take() else { return };
        let storing = pipeline.storing.into_iter().flat_map(|storing| storing.batch).map(|(queued, _)| queued);
        for Queued { from, publish } in storing.chain(pipeline.queue) {
            self.fail(from, &publish, code, effects);
        }
    }

    fn check(&mut self, now: Now, from: Listener, publish: &Publish) -> Verdict {
        let rules = &self.rules;
        let refusal = match publish {
            Publish { store: true, .. } if !rules.store => Some(ErrorCode::StoreNotAllowed),
            Publish { retain: true, .. } if !rules.retain => Some(ErrorCode::RetainNotAllowed),
            Publish { push: true, .. } if !rules.push => Some(ErrorCode::PushNotAllowed),
            // No push service is connected yet, and a message that silently goes to nobody is worse than a refusal.
            Publish { push: true, .. } => Some(ErrorCode::Unsupported),
            _ => None,
        };
        if let Some(code) = refusal {
            return Verdict::Answer(Err(code));
        }
        if self.pipeline.as_ref().is_some_and(|pipeline| pipeline.queue.len() >= self.bounds.waiting_max) {
            return Verdict::Answer(Err(ErrorCode::TryAgain));
        }
        match &publish.key {
            None => Verdict::New,
            Some(key) => self.keys.get_or_insert_default().check(key, publish, from, now.mono_ms).into(),
        }
    }

    fn number(&mut self, now: Now, sequence: u64, publish: &Publish) -> Arc<Message> {
        self.ts_ms = self.ts_ms.max(now.unix_ms);
        Arc::new(Message {
            serial: Serial { epoch: self.epoch, sequence },
            ts_ms: self.ts_ms,
            event: publish.event.clone(),
            payload: publish.payload.clone(),
        })
    }

    /// The message is the channel's next.
    fn accept(
        &mut self,
        now: Now,
        from: Listener,
        publish: &Publish,
        message: Arc<Message>,
        effects: &mut Vec<Effect>,
    ) {
        debug_assert_eq!(message.serial.sequence, self.sequence + 1);
        self.sequence = message.serial.sequence;
        if publish.retain && self.rules.retain {
            let until_ms = now.mono_ms + self.bounds.retain_ms;
            self.retained = Some(Retained { message: message.clone(), until_ms });
        }
        self.answer(from, publish.token, publish.ack, Ok(message.serial), effects);
        if let (Some(keys), Some(key)) = (&mut self.keys, &publish.key) {
            let waiting = keys.done(key, message.serial, now.mono_ms);
            self.answer_waiting(waiting, Ok(message.serial), effects);
        }
        self.history.push(message.clone(), self.bounds.history);
        self.accepted.push(message);
    }

    fn fail(&mut self, from: Listener, publish: &Publish, code: ErrorCode, effects: &mut Vec<Effect>) {
        self.answer(from, publish.token, publish.ack, Err(code), effects);
        if let (Some(keys), Some(key)) = (&mut self.keys, &publish.key) {
            let waiting = keys.failed(key);
            self.answer_waiting(waiting, Err(code), effects);
        }
    }

    /// A refusal is told even where nobody asked for an answer.
    fn answer(
        &self,
        to: Listener,
        token: Token,
        ack: bool,
        outcome: Result<Serial, ErrorCode>,
        effects: &mut Vec<Effect>,
    ) {
        if ack || outcome.is_err() {
            effects.push(Effect::Answer { to, key: self.key.clone(), token, reply: Reply::Published(outcome) });
        }
    }

    fn answer_waiting(&self, waiting: Vec<Repeat>, outcome: Result<Serial, ErrorCode>, effects: &mut Vec<Effect>) {
        waiting.into_iter().for_each(|Repeat { from, token, ack }| self.answer(from, token, ack, outcome, effects));
    }
}

/// What a publish comes to before it is numbered.
enum Verdict {
    New,
    Waits,
    Answer(Result<Serial, ErrorCode>),
}

impl From<Seen> for Verdict {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::New => Verdict::New,
            Seen::Waits => Verdict::Waits,
            Seen::Done(serial) => Verdict::Answer(Ok(serial)),
            Seen::Conflict => Verdict::Answer(Err(ErrorCode::KeyConflict)),
            Seen::Full => Verdict::Answer(Err(ErrorCode::TryAgain)),
        }
    }
}
