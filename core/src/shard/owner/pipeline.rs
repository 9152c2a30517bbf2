//! Publishes that must be durable before they are delivered, and what has to wait behind them.

use std::collections::VecDeque;

use super::Channel;
use crate::{
    code::ErrorCode,
    shard::{
        cx::Cx,
        keys::Repeat,
        peer::Entry,
        request::{Effect, Publish},
    },
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
    from: Repeat,
    publish: Publish,
}

#[derive(Debug)]
struct Storing {
    ticket: u64,
    batch: Vec<(Queued, Entry)>,
}

impl Pipeline {
    pub fn len(&self) -> usize {
        self.queue.len()
    }
}

impl Channel {
    pub(super) fn queue(&mut self, from: Repeat, publish: Publish) {
        self.pipeline.get_or_insert_default().queue.push_back(Queued { from, publish });
    }

    /// Begins the next batch, if the one before is settled.
    pub(super) fn advance_pipeline(&mut self, cx: &mut Cx<'_>) {
        let Some(mut pipeline) = self.pipeline.take_if(|pipeline| pipeline.storing.is_none()) else { return };
        let mut sequence = self.last_number();
        let batch: Vec<_> = std::mem::take(&mut pipeline.queue)
            .into_iter()
            .map(|queued| {
                sequence += 1;
                let entry = self.number(queued.from, sequence, &queued.publish, cx);
                (queued, entry)
            })
            .collect();
        let durable = batch.iter().filter(|(queued, _)| queued.publish.store);
        let messages: Vec<_> = durable.map(|(_, entry)| entry.message.clone()).collect();
        if messages.is_empty() {
            return batch.into_iter().for_each(|(_, entry)| self.accept(entry, cx));
        }
        cx.counters.tickets += 1;
        let ticket = cx.counters.tickets;
        pipeline.storing = Some(Storing { ticket, batch });
        self.pipeline = Some(pipeline);
        cx.effects.push(Effect::Store { key: self.key.clone(), ticket, messages });
    }

    /// The batch is durable, or none of it is. In that case what did not ask for it goes on without the others, under
    /// numbers that nobody has seen.
    pub fn stored(&mut self, ticket: u64, ok: bool, cx: &mut Cx<'_>) {
        let Some(pipeline) = &mut self.pipeline else { return };
        let Some(storing) = pipeline.storing.take_if(|storing| storing.ticket == ticket) else { return };
        for (Queued { from, publish }, entry) in storing.batch {
            if ok {
                self.accept(entry, cx);
            } else if publish.store {
                self.fail(from, &publish, ErrorCode::StoreFailed, cx);
            } else {
                let entry = self.number(from, self.last_number() + 1, &publish, cx);
                self.accept(entry, cx);
            }
        }
    }

    /// The channel goes: what waits for the store is refused. What is with the store may be stored all the same.
    pub(super) fn abandon_pipeline(&mut self, code: ErrorCode, cx: &mut Cx<'_>) {
        let Some(pipeline) = self.pipeline.take() else { return };
        let storing = pipeline.storing.into_iter().flat_map(|storing| storing.batch).map(|(queued, _)| queued);
        for Queued { from, publish } in storing.chain(pipeline.queue) {
            self.fail(from, &publish, code, cx);
        }
    }
}
