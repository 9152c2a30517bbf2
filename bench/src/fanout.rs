//! `fanout`: what a delivery costs the server's CPU.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use crate::{
    Options,
    client::{self, Target, push_publish},
    cpu::{self, CpuTime},
    frames,
    report::Measurement,
    server::{HUB, LOAD_CORE, Server},
};

/// One shape of the load.
#[derive(Clone, Copy)]
struct Shape {
    name: &'static str,
    channels: u32,
    subscribers: u32,
    /// Messages that were published and have not arrived everywhere.
    in_flight: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "1 x 1,000, one at a time", channels: 1, subscribers: 1_000, in_flight: 1 },
    Shape { name: "1 x 1,000, 64 in flight", channels: 1, subscribers: 1_000, in_flight: 64 },
    Shape { name: "2,000 x 5, 64 in flight", channels: 2_000, subscribers: 5, in_flight: 64 },
];

/// What ours is beside: a write for each delivery, and one for what a wake-up has brought.
const REFERENCES: [(&str, bool); 2] = [("raw", false), ("raw-batch", true)];

const PAYLOAD_BYTES: usize = 128;

pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    cpu::pin(LOAD_CORE)?;
    for shape in SHAPES {
        let (mut ours, mut references) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..options.rounds {
            for ((_, batch), costs) in REFERENCES.iter().zip(&mut references) {
                costs.push(measure(Target::Raw, Server::raw(*batch)?, shape, options.seconds)?);
            }
            ours.push(measure(Target::AppSockets, Server::node(&options.node)?, shape, options.seconds)?);
        }
        for ((reference, _), costs) in REFERENCES.iter().zip(&references) {
            report(shape, &ours, reference, costs, options.json);
        }
    }
    Ok(())
}

/// Of one delivery, in microseconds of CPU.
struct Cost {
    user_us: f64,
    system_us: f64,
}

fn report(shape: Shape, ours: &[Cost], reference: &str, costs: &[Cost], json: bool) {
    let figure = |name: &str, of: fn(&Cost) -> f64| Measurement {
        name: format!("fanout {}, {reference}: {name}", shape.name),
        unit: "us",
        values: ours.iter().map(of).collect(),
        reference: costs.iter().map(of).collect(),
    };
    figure("CPU per delivery", |cost| cost.user_us + cost.system_us).print(json);
    figure("of it user", |cost| cost.user_us).print(json);
    figure("of it system", |cost| cost.system_us).print(json);
}

fn measure(target: Target, server: Server, shape: Shape, seconds: u64) -> Result<Cost> {
    let mut load = Load::connect(target, &server, shape)?;
    load.run(Duration::from_millis(500))?;
    let (before, deliveries) = (CpuTime::of(server.pid())?, load.deliveries);
    load.run(Duration::from_secs(seconds))?;
    let spent = CpuTime::of(server.pid())?.since(before);
    let count = (load.deliveries - deliveries) as f64;
    ensure!(count > 0.0, "nothing was delivered");
    Ok(Cost { user_us: spent.user_us / count, system_us: spent.system_us / count })
}

struct Load {
    target: Target,
    shape: Shape,
    poll: Poll,
    publisher: TcpStream,
    subscribers: Vec<Subscriber>,
    /// Of each channel, the number of the message published last.
    published: Vec<u64>,
    /// How many subscribers a message still lacks.
    lacking: HashMap<(u32, u64), u32>,
    next_channel: u32,
    deliveries: u64,
}

struct Subscriber {
    tcp: TcpStream,
    channel: u32,
    last: u64,
    input: Vec<u8>,
}

impl Load {
    fn connect(target: Target, server: &Server, shape: Shape) -> Result<Load> {
        let poll = Poll::new()?;
        let mut subscribers = Vec::new();
        for index in 0..shape.channels * shape.subscribers {
            let channel = index % shape.channels;
            let connected = client::subscriber(target, server.address, HUB, channel)?;
            connected.tcp.set_nonblocking(true)?;
            let mut tcp = TcpStream::from_std(connected.tcp);
            poll.registry().register(&mut tcp, Token(subscribers.len()), Interest::READABLE)?;
            subscribers.push(Subscriber { tcp, channel, last: 0, input: connected.rest });
        }
        let publisher = client::publisher(target, server.address, HUB)?;
        publisher.set_nonblocking(true)?;
        Ok(Load {
            target,
            shape,
            poll,
            publisher: TcpStream::from_std(publisher),
            subscribers,
            published: vec![0; shape.channels as usize],
            lacking: HashMap::new(),
            next_channel: 0,
            deliveries: 0,
        })
    }

    /// Keeps as many messages in flight as the shape says, and then waits for the last ones.
    fn run(&mut self, length: Duration) -> Result<()> {
        let end = Instant::now() + length;
        let mut events = Events::with_capacity(1024);
        let mut scratch = vec![0; 64 << 10];
        loop {
            if Instant::now() < end {
                self.publish()?;
            } else if self.lacking.is_empty() {
                return Ok(());
            }
            self.poll.poll(&mut events, Some(Duration::from_secs(10)))?;
            ensure!(!events.is_empty(), "{} messages did not arrive", self.lacking.len());
            for event in &events {
                self.read(event.token().0, &mut scratch)?;
            }
        }
    }

    fn publish(&mut self) -> Result<()> {
        let mut frames = Vec::new();
        // What one server answers at once is published at once for the other too.
        if self.shape.in_flight > 1 && self.lacking.len() > self.shape.in_flight / 2 {
            return Ok(());
        }
        while self.lacking.len() < self.shape.in_flight {
            let channel = self.next_channel;
            self.next_channel = (channel + 1) % self.shape.channels;
            let number = &mut self.published[channel as usize];
            *number += 1;
            let mut payload = [0x20; PAYLOAD_BYTES];
            payload[..8].copy_from_slice(&number.to_le_bytes());
            push_publish(self.target, channel, &payload, &mut frames);
            self.lacking.insert((channel, *number), self.shape.subscribers);
        }
        let mut at = 0;
        while at < frames.len() {
            match self.publisher.write(&frames[at..]) {
                Ok(count) => at += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) => return Err(error).context("the publisher's connection broke"),
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize, scratch: &mut [u8]) -> Result<()> {
        let subscriber = &mut self.subscribers[index];
        loop {
            match subscriber.tcp.read(scratch) {
                Ok(0) => anyhow::bail!("the server has closed a subscriber's connection"),
                Ok(count) => subscriber.input.extend_from_slice(&scratch[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error).context("a subscriber's connection broke"),
            }
        }
        let mut at = 0;
        while let Some(frame) = frames::first(&subscriber.input[at..]) {
            let payload = &subscriber.input[at + frame.start..at + frame.end];
            at += frame.end;
            let Some(published) = client::published(self.target, payload) else { continue };
            let number = u64::from_le_bytes(published[..8].try_into()?);
            ensure!(number == subscriber.last + 1, "message {number} came after {}", subscriber.last);
            subscriber.last = number;
            self.deliveries += 1;
            let lacking = self.lacking.get_mut(&(subscriber.channel, number)).context("a message came twice")?;
            *lacking -= 1;
            if *lacking == 0 {
                self.lacking.remove(&(subscriber.channel, number));
            }
        }
        subscriber.input.drain(..at);
        Ok(())
    }
}
