//! A steady flow: one who publishes at fixed times, and subscribers that read all of it.
//!
//! Latency counts from the moment at which a message was due. Who counted from when it was sent would leave out what
//! those wait that could not be sent because the server was busy.

use std::{
    io::{ErrorKind, Read, Write},
    mem,
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use appsockets_proto::client::{EventType, Pong};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    client::{self, Target, push_publish},
    frames,
    latencies::Latencies,
};

const CHANNEL: u32 = 0;
const PAYLOAD_BYTES: usize = 128;
/// Silence after which what has not arrived counts as lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// One shape of the flow.
#[derive(Clone, Copy)]
pub struct Shape {
    pub hub: &'static str,
    pub subscribers: u32,
    pub per_second: u32,
    /// Never sleeps, so that its own waking up is not measured. For a load that has its core for itself.
    pub spins: bool,
}

/// Its connections, and what has come of it.
pub struct Flow {
    target: Target,
    shape: Shape,
    poll: Poll,
    publisher: TcpStream,
    /// What the kernel did not take.
    unsent: Vec<u8>,
    subscribers: Vec<Subscriber>,
    begin: Instant,
    /// The number of the message published last.
    published: u64,
    delivered: u64,
    arrived: Instant,
}

struct Subscriber {
    tcp: TcpStream,
    last: u64,
    input: Vec<u8>,
}

impl Flow {
    pub fn connect(target: Target, address: SocketAddr, shape: Shape) -> Result<Flow> {
        Flow::connect_to(target, &[address], shape)
    }

    /// The same with the subscribers spread over several nodes; the publisher is at the first.
    pub fn connect_to(target: Target, addresses: &[SocketAddr], shape: Shape) -> Result<Flow> {
        let poll = Poll::new()?;
        let mut subscribers = Vec::new();
        for index in 0..shape.subscribers as usize {
            let connected = client::subscriber(target, addresses[index % addresses.len()], shape.hub, CHANNEL)?;
            connected.tcp.set_nonblocking(true)?;
            let mut tcp = TcpStream::from_std(connected.tcp);
            poll.registry().register(&mut tcp, Token(index), Interest::READABLE)?;
            subscribers.push(Subscriber { tcp, last: 0, input: connected.rest });
        }
        let publisher = client::publisher(target, addresses[0], shape.hub)?;
        publisher.set_nonblocking(true)?;
        Ok(Flow {
            target,
            shape,
            poll,
            publisher: TcpStream::from_std(publisher),
            unsent: Vec::new(),
            subscribers,
            begin: Instant::now(),
            published: 0,
            delivered: 0,
            arrived: Instant::now(),
        })
    }

    /// Messages that reached a subscriber so far.
    pub fn delivered(&self) -> u64 {
        self.delivered
    }

    /// Publishes for this long.
    pub fn run(&mut self, length: Duration) -> Result<Latencies> {
        let end = Instant::now() + length;
        self.run_until(|| Instant::now() >= end)
    }

    /// Publishes until then, and waits for what is on its way. Fails if anything is lost, repeated or out of order.
    pub fn run_until(&mut self, mut ended: impl FnMut() -> bool) -> Result<Latencies> {
        let interval = Duration::from_secs(1) / self.shape.per_second;
        let mut due = Instant::now();
        let mut latencies = Latencies::default();
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 << 10];
        self.arrived = due;
        loop {
            if !ended() {
                while due <= Instant::now() {
                    self.publish(due);
                    due += interval;
                }
            } else if self.lacking() == 0 {
                return Ok(latencies);
            }
            self.send()?;
            self.poll.poll(&mut events, Some(self.pause(due)))?;
            for event in &events {
                self.read(event.token().0, &mut scratch, &mut latencies)?;
            }
            ensure!(self.lacking() == 0 || self.arrived.elapsed() < PATIENCE, "{} deliveries are lost", self.lacking());
        }
    }

    /// Deliveries that are due and have not come.
    fn lacking(&self) -> u64 {
        self.published * u64::from(self.shape.subscribers) - self.delivered
    }

    /// In whole milliseconds, as the poll counts; what remains is spent polling.
    fn pause(&self, due: Instant) -> Duration {
        let until = due.saturating_duration_since(Instant::now());
        if self.shape.spins { Duration::ZERO } else { Duration::from_millis(until.as_millis() as u64) }
    }

    fn publish(&mut self, due: Instant) {
        self.published += 1;
        let due_ns = due.saturating_duration_since(self.begin).as_nanos() as u64;
        let mut payload = [0x20; PAYLOAD_BYTES];
        payload[..8].copy_from_slice(&self.published.to_le_bytes());
        payload[8..16].copy_from_slice(&due_ns.to_le_bytes());
        if self.lacking() == u64::from(self.shape.subscribers) {
            // Nothing else was on its way, so the silence before this counts for nothing.
            self.arrived = Instant::now();
        }
        push_publish(self.target, CHANNEL, &payload, &mut self.unsent);
    }

    fn send(&mut self) -> Result<()> {
        while !self.unsent.is_empty() {
            match self.publisher.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("the publisher's connection broke"),
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, scratch: &mut [u8], latencies: &mut Latencies) -> Result<()> {
        let subscriber = &mut self.subscribers[index];
        loop {
            match subscriber.tcp.read(scratch) {
                Ok(0) => bail!("the server has closed a subscriber's connection"),
                Ok(count) => subscriber.input.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a subscriber's connection broke"),
            }
        }
        self.arrived = Instant::now();
        let since_ns = self.arrived.saturating_duration_since(self.begin).as_nanos() as u64;
        let (mut input, mut at) = (mem::take(&mut subscriber.input), 0);
        while let Some(frame) = frames::first(&input[at..]) {
            let payload = &input[at + frame.start..at + frame.end];
            at += frame.end;
            match client::published(self.target, payload) {
                Some(published) => {
                    latencies.add(since_ns.saturating_sub(subscriber.take(published)?));
                    self.delivered += 1;
                }
                None => subscriber.answer(payload)?,
            }
        }
        input.drain(..at);
        subscriber.input = input;
        Ok(())
    }
}

impl Subscriber {
    /// Checks that the message is the next one, and tells when it was due.
    fn take(&mut self, published: &[u8]) -> Result<u64> {
        let number = u64::from_le_bytes(published[..8].try_into()?);
        ensure!(number == self.last + 1, "message {number} came after {}", self.last);
        self.last = number;
        Ok(u64::from_le_bytes(published[8..16].try_into()?))
    }

    /// Gives the sign of life that the node asks for. It is so short that the kernel always takes it.
    fn answer(&mut self, frame: &[u8]) -> Result<()> {
        if client::event(frame) == Some(EventType::Ping) {
            let mut pong = Vec::new();
            frames::push_masked(&client::envelope(EventType::Pong, &Pong {}), &mut pong);
            self.tcp.write_all(&pong)?;
        }
        Ok(())
    }
}
