//! The subscribers.

use std::{collections::BTreeMap, time::Duration};

use appsockets_client::{Client, Ended, Event, Subscription};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::{
    Options,
    histogram::Histogram,
    ledger::Ledger,
    load::{Sent, Stamp},
};
use crate::fault::Fault;

/// How long a subscriber waits for what it misses after the last publish was answered.
const PATIENCE: Duration = Duration::from_secs(5);

/// When a subscriber has heard everything, or need not wait any longer.
#[derive(Clone, Copy, Debug)]
pub struct Goal {
    messages: u64,
    deadline: Instant,
}

impl Goal {
    pub fn after(sent: &[Sent]) -> Goal {
        let messages = sent.iter().map(|sent| sent.accepted.iter().filter(|accepted| **accepted).count() as u64).sum();
        Goal { messages, deadline: Instant::now() + PATIENCE }
    }
}

/// One of those that listen.
pub struct Listener {
    client: Client,
    subscription: Subscription,
    run_id: u64,
}

/// What one subscriber has heard.
#[derive(Debug, Default)]
pub struct Heard {
    pub by_publisher: BTreeMap<u64, Ledger>,
    pub messages: u64,
    /// Positions that said that something may be missing.
    pub gaps: u64,
    /// From when a message was due.
    pub times: Histogram,
    /// Why it did not listen to the end.
    pub ended: Option<Ended>,
}

impl Listener {
    /// Subscribed when it returns.
    pub async fn open(options: &Options, run_id: u64) -> Result<Listener, Fault> {
        let client = options.connection.open()?;
        let mut subscription = options.connection.answer(&client, client.subscribe(&*options.channel)).await?;
        match options.connection.in_time(subscription.next()).await? {
            Some(Event::Ended(why)) => Err(why.into()),
            _ => Ok(Listener { client, subscription, run_id }),
        }
    }

    pub async fn listen(mut self, mut goal: watch::Receiver<Option<Goal>>, start: Instant) -> Heard {
        let mut heard = Heard::default();
        loop {
            let known = *goal.borrow_and_update();
            if known.is_some_and(|goal| heard.messages >= goal.messages) {
                break;
            }
            tokio::select! {
                event = self.subscription.next() => match event {
                    Some(Event::Ended(why)) => {
                        heard.ended = Some(why);
                        break;
                    }
                    Some(event) => heard.take(&event, self.run_id, start),
                    None => break,
                },
                _ = goal.changed(), if known.is_none() => {}
                () = sleep_until(known.map_or(start, |goal| goal.deadline)), if known.is_some() => break,
            }
        }
        self.client.close().await;
        heard
    }
}

impl Heard {
    fn take(&mut self, event: &Event, run_id: u64, start: Instant) {
        match event {
            Event::Position(position) if position.recovered == Some(false) => self.gaps += 1,
            Event::Message(message) => {
                let Some(stamp) = Stamp::read(&message.payload).filter(|stamp| stamp.run_id == run_id) else { return };
                self.by_publisher.entry(stamp.publisher).or_default().take(stamp.number);
                self.messages += 1;
                let now_us = u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX);
                self.times.add(now_us.saturating_sub(stamp.due_us));
            }
            _ => {}
        }
    }
}
