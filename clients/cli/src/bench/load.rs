//! The publishers, and what their messages carry.

use std::{collections::BTreeMap, time::Duration};

use appsockets_client::{Ack, Client, Error, Failure};
use bytes::Bytes;
use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::time::{Instant, sleep_until, timeout};

use super::{Options, histogram::Histogram};
use crate::{connection::Connection, fault::Fault};

/// What a payload begins with. Others may use the channel too, so each run knows its own messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub run_id: u64,
    pub publisher: u64,
    pub number: u64,
    /// Since the start.
    pub due_us: u64,
}

impl Stamp {
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let (fields, _) = payload.split_at_checked(32)?;
        let mut fields = fields.as_chunks::<8>().0.iter().map(|bytes| u64::from_le_bytes(*bytes));
        let mut next = || fields.next();
        Some(Stamp { run_id: next()?, publisher: next()?, number: next()?, due_us: next()? })
    }

    fn payload(self, size: usize) -> Bytes {
        let Stamp { run_id, publisher, number, due_us } = self;
        let mut bytes: Vec<u8> = [run_id, publisher, number, due_us].into_iter().flat_map(u64::to_le_bytes).collect();
        bytes.resize(size, b'.');
        bytes.into()
    }
}

/// One of those that publish.
pub struct Publisher {
    client: Client,
    channel: String,
    size: usize,
    run_id: u64,
    number: u64,
    /// Between two of its messages.
    interval: Duration,
    /// Its first message: the publishers take turns.
    first: Duration,
    messages: u64,
    /// For an answer.
    limit: Duration,
}

/// What became of one publisher's messages.
#[derive(Debug, Default)]
pub struct Sent {
    /// For each message whether it was.
    pub accepted: Vec<bool>,
    /// By name: how many, and the first.
    pub refused: BTreeMap<String, (u64, Option<Failure>)>,
    /// Without an answer.
    pub unknown: u64,
    /// From when a message was due to its acknowledgement.
    pub times: Histogram,
}

impl Publisher {
    pub fn new(number: u32, run_id: u64, options: &Options) -> Result<Publisher, Fault> {
        let mut own = options.connection.options();
        // A publish that is tried again may be overtaken, which then would be no fault of the server.
        own.attempts = 1;
        let interval = Duration::from_secs(1) * options.publishers / u32::try_from(options.rate).unwrap_or(u32::MAX);
        let (total, publishers) = (options.rate * options.seconds, u64::from(options.publishers));
        Ok(Publisher {
            client: Client::connect(own)?,
            channel: options.channel.clone(),
            size: options.size as usize,
            run_id,
            number: u64::from(number),
            interval,
            first: interval * number / options.publishers,
            messages: total / publishers + u64::from(u64::from(number) < total % publishers),
            limit: options.connection.limit(),
        })
    }

    /// Publishes something that does not count, so that it is connected and known to be let in.
    pub async fn warm_up(&self, connection: &Connection) -> Result<(), Fault> {
        let publish = self.client.publish(&*self.channel, "bench", "warm-up");
        connection.answer(&self.client, publish).await.map(drop)
    }

    /// Keeps to its times, also while answers are late.
    pub async fn publish(self, start: Instant) -> Sent {
        let mut sent = Sent { accepted: vec![false; self.messages as usize], ..Sent::default() };
        let mut waiting = FuturesUnordered::new();
        let mut next = 0;
        loop {
            let due = self.first + self.interval.saturating_mul(u32::try_from(next).unwrap_or(u32::MAX));
            tokio::select! {
                biased;
                () = sleep_until(start + due), if next < self.messages => {
                    waiting.push(self.one(next, due));
                    next += 1;
                }
                Some((number, due, outcome)) = waiting.next() => sent.answered(number, start + due, outcome),
                else => break,
            }
        }
        drop(waiting);
        self.client.close().await;
        sent
    }

    async fn one(&self, number: u64, due: Duration) -> (u64, Duration, Result<Ack, Error>) {
        let due_us = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        let stamp = Stamp { run_id: self.run_id, publisher: self.number, number, due_us };
        let publish = self.client.publish(&*self.channel, "bench", stamp.payload(self.size));
        (number, due, timeout(self.limit, publish).await.unwrap_or(Err(Error::Unknown)))
    }
}

impl Sent {
    fn answered(&mut self, number: u64, due: Instant, outcome: Result<Ack, Error>) {
        match outcome {
            Ok(_) => {
                self.accepted[number as usize] = true;
                self.times.add(u64::try_from(due.elapsed().as_micros()).unwrap_or(u64::MAX));
            }
            Err(Error::Refused(failure)) => {
                self.refused.entry(failure.name.clone()).or_insert((0, Some(failure))).0 += 1;
            }
            Err(Error::QueueFull) => self.refused.entry("queue_full".to_owned()).or_default().0 += 1,
            Err(_) => self.unknown += 1,
        }
    }
}
