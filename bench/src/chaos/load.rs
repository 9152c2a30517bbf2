//! Publishers and subscribers, and what each of them went through.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use appsockets_client::{Client, Event, Options, Publish};
use bytes::Bytes;
use tokio::runtime::Runtime;

/// How much load there is.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    pub publishers: usize,
    /// They share the publishers' channels evenly.
    pub subscribers: usize,
    /// From one publish of a publisher to its next.
    pub rhythm: Duration,
}

/// A client tries for as long as an experiment lasts.
const ATTEMPTS: u32 = 100_000;

/// A load that runs.
pub struct Load {
    runtime: Runtime,
    pub size: Size,
    publishers: Vec<Arc<Publisher>>,
    subscribers: Vec<Arc<Mutex<Subscriber>>>,
    going: Arc<AtomicBool>,
    /// The subscribers', in their order.
    clients: Vec<Client>,
    /// How many connections each of them had made when it was asked last.
    connections: Vec<u64>,
    begin: Instant,
}

#[derive(Debug, Default)]
struct Publisher {
    /// Numbers that were given out, from 1.
    sent: AtomicU64,
    outcomes: Mutex<Outcomes>,
}

#[derive(Debug, Default)]
struct Outcomes {
    /// By number: when it was acknowledged, and how long that took, in microseconds of the experiment.
    acked: BTreeMap<u64, (u64, u64)>,
    refused: u64,
    unanswered: u64,
}

#[derive(Debug, Default)]
pub struct Subscriber {
    publisher: usize,
    seen: BTreeMap<u64, u32>,
    last: u64,
    epoch: String,
    last_us: u64,
    pub gap_us: u64,
    pub reordered: u64,
    pub epochs_ended: u64,
    pub told: u64,
    pub leaves: u64,
    pub joins: u64,
    pub ended: Option<String>,
    begun: bool,
    /// What it heard, to be told if something is missing.
    story: Vec<(u64, String)>,
}

/// What all went through together.
#[derive(Debug, Default)]
pub struct Outcome {
    pub acknowledged: u64,
    pub refused: u64,
    pub unanswered: u64,
    pub deliveries: u64,
    /// Acknowledged, and not delivered to a subscriber.
    pub lost: u64,
    /// The same to subscribers that were not told of a gap.
    pub lost_untold: u64,
    pub doubled: u64,
    pub reordered: u64,
    pub epochs_ended: u64,
    pub told: u64,
    pub leaves: u64,
    pub joins: u64,
    pub ended: u64,
    /// How often subscribers connected again.
    pub reconnects: u64,
    /// How many subscribers did so never, once, twice, and more often since it was asked last.
    pub moved: [u64; 4],
    /// For each subscriber the longest time without a message, beyond the rhythm, in milliseconds.
    pub gaps_ms: Vec<f64>,
    /// For each publish the time until its acknowledgement, in milliseconds.
    pub acks_ms: Vec<f64>,
}

impl Load {
    /// Connects everybody, spread over the nodes, and returns when all are subscribed.
    pub fn begin(size: Size, hub: &str, urls: &[String]) -> Result<Load> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _entered = runtime.enter();
        let begin = Instant::now();
        let going = Arc::new(AtomicBool::new(true));
        let mut load = Load {
            size,
            publishers: (0..size.publishers).map(|_| Arc::default()).collect(),
            subscribers: Vec::new(),
            going,
            clients: Vec::new(),
            connections: vec![1; size.subscribers],
            begin,
            runtime,
        };
        for index in 0..size.subscribers {
            let publisher = index % size.publishers;
            let subscriber = Arc::new(Mutex::new(Subscriber { publisher, ..Subscriber::default() }));
            load.subscribers.push(subscriber.clone());
            let client = Client::connect(options(hub, urls, index))?;
            load.clients.push(client.clone());
            load.runtime.spawn(hear(client, subscriber, begin));
        }
        load.until("all have subscribed", |load| load.subscribers.iter().all(|subscriber| lock(subscriber).begun))?;
        load.forget_presence();
        for (index, publisher) in load.publishers.iter().enumerate() {
            let client = Client::connect(Options { in_flight: 1, queue: 10_000, ..options(hub, urls, index) })?;
            let speaking = speak(client, index, publisher.clone(), load.going.clone(), size, begin);
            load.runtime.spawn(speaking);
        }
        Ok(load)
    }

    /// Those who subscribed early have seen the others come, which is no mistake.
    fn forget_presence(&self) {
        for subscriber in &self.subscribers {
            let mut subscriber = lock(subscriber);
            (subscriber.joins, subscriber.leaves) = (0, 0);
        }
    }

    /// Lets everybody go on for so long.
    pub fn go_on(&self, time: Duration) {
        std::thread::sleep(time);
    }

    /// Waits until each publisher has had an acknowledgement of something that it published from now on. Returns how long
    /// that took.
    pub fn all_acknowledged(&self) -> Result<Duration> {
        let begin = Instant::now();
        let sent: Vec<_> = self.publishers.iter().map(|publisher| publisher.sent.load(Ordering::Relaxed)).collect();
        self.until("every publisher is acknowledged again", |load| {
            load.publishers.iter().zip(&sent).all(|(publisher, sent)| {
                lock(&publisher.outcomes).acked.last_key_value().is_some_and(|(last, _)| last > sent)
            })
        })?;
        Ok(begin.elapsed())
    }

    /// Waits until publishers are acknowledged again and everybody has what was acknowledged before, and tells what has
    /// happened. Times without a message begin anew.
    pub fn settled(&mut self) -> Result<Outcome> {
        let until_us = micros(self.begin);
        self.all_acknowledged()?;
        self.arrive(until_us);
        let outcome = self.outcome(until_us);
        self.connections = self.clients.iter().map(Client::connections).collect();
        self.subscribers.iter().for_each(|subscriber| lock(subscriber).gap_us = 0);
        Ok(outcome)
    }

    /// How often subscribers have connected again.
    pub fn reconnects(&self) -> u64 {
        self.clients.iter().map(|client| client.connections().saturating_sub(1)).sum()
    }

    /// Publishers stop, what is under way arrives, and everybody goes home. Tells what happened.
    pub fn end(mut self) -> Result<Outcome> {
        self.going.store(false, Ordering::Relaxed);
        // Until the last of them has seen it.
        std::thread::sleep(self.size.rhythm);
        let answered = |publisher: &Arc<Publisher>| {
            let outcomes = lock(&publisher.outcomes);
            let answers = outcomes.acked.len() as u64 + outcomes.refused + outcomes.unanswered;
            answers == publisher.sent.load(Ordering::Relaxed)
        };
        self.until("all publishes are answered", |load| load.publishers.iter().all(answered))?;
        self.arrive(u64::MAX);
        let outcome = self.outcome(u64::MAX);
        self.tell_of_the_first_loss();
        self.clients.clear();
        self.runtime.shutdown_background();
        Ok(outcome)
    }

    fn until(&self, what: &str, holds: impl Fn(&Load) -> bool) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(self) {
            ensure!(Instant::now() < deadline, "it never came that {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Lets what was acknowledged until then come to everybody, for a while.
    fn arrive(&self, until_us: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while self.missing(until_us).0 > 0 && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Acknowledged until then and not delivered: in all, and to those who were not told.
    fn missing(&self, until_us: u64) -> (u64, u64) {
        let mut missing = (0, 0);
        for subscriber in &self.subscribers {
            let subscriber = lock(subscriber);
            let outcomes = lock(&self.publishers[subscriber.publisher].outcomes);
            let acked = outcomes.acked.iter().filter(|(_, (at_us, _))| *at_us <= until_us);
            let lost = acked.filter(|(number, _)| !subscriber.seen.contains_key(number)).count() as u64;
            missing.0 += lost;
            missing.1 += if subscriber.told == 0 { lost } else { 0 };
        }
        missing
    }

    /// What the first of those heard who lack something, from shortly before.
    fn tell_of_the_first_loss(&self) {
        for (index, subscriber) in self.subscribers.iter().enumerate() {
            let subscriber = lock(subscriber);
            let outcomes = lock(&self.publishers[subscriber.publisher].outcomes);
            let lost = outcomes.acked.iter().find(|(number, _)| !subscriber.seen.contains_key(number));
            let Some((number, (acked_us, took_us))) = lost else { continue };
            eprintln!(
                "subscriber {index} lacks {number}, published at {}, acknowledged at {acked_us}:",
                acked_us - took_us
            );
            let around = subscriber.story.iter().filter(|(at_us, _)| at_us.abs_diff(*acked_us) < 15_000_000);
            around.for_each(|(at_us, what)| eprintln!("  {at_us:>10} {what}"));
            return;
        }
    }

    /// What has happened; what was acknowledged until then and is under way counts as lost.
    fn outcome(&self, until_us: u64) -> Outcome {
        let (lost, lost_untold) = self.missing(until_us);
        let mut outcome = Outcome { lost, lost_untold, reconnects: self.reconnects(), ..Outcome::default() };
        for (client, before) in self.clients.iter().zip(&self.connections) {
            let moves = usize::try_from(client.connections().saturating_sub(*before)).unwrap_or(usize::MAX);
            outcome.moved[moves.min(outcome.moved.len() - 1)] += 1;
        }
        for publisher in &self.publishers {
            let outcomes = lock(&publisher.outcomes);
            outcome.acknowledged += outcomes.acked.len() as u64;
            outcome.refused += outcomes.refused;
            outcome.unanswered += outcomes.unanswered;
            outcome.acks_ms.extend(outcomes.acked.values().map(|(_, took_us)| *took_us as f64 / 1000.0));
        }
        for subscriber in &self.subscribers {
            let subscriber = lock(subscriber);
            outcome.deliveries += subscriber.seen.len() as u64;
            outcome.doubled += subscriber.seen.values().map(|times| u64::from(times - 1)).sum::<u64>();
            outcome.reordered += subscriber.reordered;
            outcome.epochs_ended += subscriber.epochs_ended;
            outcome.told += subscriber.told;
            outcome.leaves += subscriber.leaves;
            outcome.joins += subscriber.joins;
            outcome.ended += u64::from(subscriber.ended.is_some());
            let gap_ms = subscriber.gap_us as f64 / 1000.0 - self.size.rhythm.as_secs_f64() * 1000.0;
            outcome.gaps_ms.push(gap_ms.max(0.0));
        }
        outcome
    }

    /// When each publisher was acknowledged for the first time after that moment, at the latest.
    pub fn first_ack_after(&self, moment: Instant) -> Duration {
        let from_us = (moment - self.begin).as_micros() as u64;
        let firsts = self.publishers.iter().filter_map(|publisher| {
            let outcomes = lock(&publisher.outcomes);
            outcomes.acked.values().map(|(at_us, _)| *at_us).filter(|at_us| *at_us > from_us).min()
        });
        Duration::from_micros(firsts.max().unwrap_or(from_us) - from_us)
    }
}

pub fn channel(index: usize) -> String {
    format!("load-{index}")
}

/// Everybody knows all nodes and begins at another.
fn options(hub: &str, urls: &[String], index: usize) -> Options {
    let mut urls = urls.to_vec();
    let at = index % urls.len();
    urls.rotate_left(at);
    Options {
        other_urls: urls[1..].to_vec(),
        backoff_first: Duration::from_millis(100),
        backoff_max: Duration::from_secs(1),
        attempts: ATTEMPTS,
        ..Options::new(&urls[0], hub)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn micros(begin: Instant) -> u64 {
    begin.elapsed().as_micros() as u64
}

async fn speak(
    client: Client,
    index: usize,
    publisher: Arc<Publisher>,
    going: Arc<AtomicBool>,
    size: Size,
    begin: Instant,
) {
    // Not all at once.
    let offset = size.rhythm.mul_f64(index as f64 / size.publishers as f64);
    let mut ticks = tokio::time::interval_at((Instant::now() + offset).into(), size.rhythm);
    loop {
        ticks.tick().await;
        if !going.load(Ordering::Relaxed) {
            return;
        }
        let number = publisher.sent.fetch_add(1, Ordering::Relaxed) + 1;
        let payload = Bytes::copy_from_slice(&number.to_le_bytes());
        let publish = Publish { channel: channel(index), payload, ..Publish::default() };
        let (client, publisher, at_us) = (client.clone(), publisher.clone(), micros(begin));
        // Polled once before the next, so they go out in this order.
        let mut publishing = Box::pin(async move { client.publish_with(publish).await });
        let ready = futures_util::future::poll_immediate(&mut publishing).await;
        tokio::spawn(async move {
            let outcome = match ready {
                Some(outcome) => outcome,
                None => publishing.await,
            };
            let now_us = micros(begin);
            let mut outcomes = lock(&publisher.outcomes);
            match outcome {
                Ok(_) => drop(outcomes.acked.insert(number, (now_us, now_us - at_us))),
                Err(appsockets_client::Error::Unknown) => outcomes.unanswered += 1,
                Err(_) => outcomes.refused += 1,
            }
        });
    }
}

async fn hear(client: Client, subscriber: Arc<Mutex<Subscriber>>, begin: Instant) -> Result<()> {
    let name = channel(lock(&subscriber).publisher);
    let mut subscription = client.subscribe(name).await.context("the client has ended")?;
    while let Some(event) = subscription.next().await {
        lock(&subscriber).take(event, micros(begin));
    }
    Ok(())
}

/// An event in a word.
fn short(event: &Event) -> String {
    match event {
        Event::Message(message) => message.channel_serial.clone().unwrap_or_default(),
        Event::Position(position) => format!("position {} {:?}", position.channel_serial, position.recovered),
        Event::Presence(members) => format!("present {}", members.len()),
        Event::Join(members) => format!("join {}", members.len()),
        Event::Leave(members) => format!("leave {}", members.len()),
        Event::Occupancy(count) => format!("occupancy {count}"),
        Event::Ended(reason) => reason.to_string(),
    }
}

impl Subscriber {
    fn take(&mut self, event: Event, now_us: u64) {
        self.story.push((now_us, short(&event)));
        match event {
            Event::Position(position) => {
                self.in_epoch(&position.channel_serial);
                self.told += u64::from(position.recovered == Some(false));
                self.begun = true;
            }
            Event::Message(message) => {
                self.in_epoch(message.channel_serial.as_deref().unwrap_or_default());
                let payload = message.payload.first_chunk().copied().map(u64::from_le_bytes);
                let number = payload.unwrap_or_default();
                let times = self.seen.entry(number).or_default();
                *times += 1;
                self.reordered += u64::from(number < self.last && *times == 1);
                self.last = self.last.max(number);
                if self.last_us > 0 {
                    self.gap_us = self.gap_us.max(now_us - self.last_us);
                }
                self.last_us = now_us;
            }
            Event::Join(members) => self.joins += members.len() as u64,
            Event::Leave(members) => self.leaves += members.len() as u64,
            Event::Ended(reason) => self.ended = Some(reason.to_string()),
            Event::Presence(_) | Event::Occupancy(_) => {}
        }
    }

    fn in_epoch(&mut self, serial: &str) {
        let (epoch, _) = serial.split_once(':').unwrap_or_default();
        if self.epoch != epoch {
            self.epochs_ended += u64::from(!self.epoch.is_empty());
            epoch.clone_into(&mut self.epoch);
        }
    }
}

#[cfg(test)]
mod tests {
    use appsockets_client::{ChannelPublish, Event, Position};

    use super::Subscriber;

    fn message(serial: &str, number: u64) -> Event {
        Event::Message(ChannelPublish {
            channel_serial: Some(serial.to_owned()),
            payload: number.to_le_bytes().to_vec().into(),
            ..ChannelPublish::default()
        })
    }

    #[test]
    fn what_goes_wrong_is_counted() {
        let mut subscriber = Subscriber::default();
        for (at_us, (serial, number)) in (1..).zip([("a:1", 1), ("a:2", 2), ("a:3", 2), ("a:4", 5), ("b:5", 4)]) {
            subscriber.take(message(serial, number), at_us);
        }
        let doubled: u32 = subscriber.seen.values().map(|times| times - 1).sum();
        assert_eq!((doubled, subscriber.reordered, subscriber.epochs_ended), (1, 1, 1));
        assert!(!subscriber.seen.contains_key(&3));
        let position = Position { channel_serial: "b:7".to_owned(), recovered: Some(false), ..Position::default() };
        subscriber.take(Event::Position(position), 9);
        assert_eq!((subscriber.told, subscriber.epochs_ended), (1, 1));
    }
}
