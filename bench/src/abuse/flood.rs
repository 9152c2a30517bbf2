//! `flood`: clients that publish as fast as they can, far past their rate limit.

use std::{
    io::{ErrorKind, Read, Write},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use appsockets_proto::client::EventType;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::{
    ABUSED, Scenario,
    metrics::Metrics,
    verdict::{Check, Tally},
};
use crate::{
    client::{self, Target, push_publish},
    frames,
    server::Server,
};

pub const SCENARIO: Scenario = Scenario {
    name: "flood",
    // Of each client what was read at once, and answers up to the bound of its outbox and once beyond.
    growth_max: CLIENTS as u64 * (512 << 10) + (8 << 20),
    kept_max: 0,
    run,
    judge,
};

const CLIENTS: usize = 16;
const LENGTH: Duration = Duration::from_secs(6);
/// What one write offers.
const BATCH: usize = 500;
const PAYLOAD: [u8; 64] = [0x20; 64];
/// What the node allows a session: one second at once, and so many in each.
const PER_SECOND: u64 = 100;
const ALLOWED: u64 = CLIENTS as u64 * PER_SECOND * (LENGTH.as_secs() + 2);

struct Client {
    tcp: TcpStream,
    /// How much of the batch was written; it goes on from there.
    written: usize,
    input: Vec<u8>,
}

fn run(server: &Server) -> Result<Tally> {
    let mut batch = Vec::new();
    (0..BATCH).for_each(|_| push_publish(Target::AppSockets, 0, &PAYLOAD, &mut batch));
    let mut poll = Poll::new()?;
    let mut clients = (0..CLIENTS).map(|index| Client::connect(server, &poll, index)).collect::<Result<Vec<_>>>()?;
    let mut tally = Tally::default();
    let mut events = Events::with_capacity(CLIENTS);
    let end = Instant::now() + LENGTH;
    while Instant::now() < end {
        poll.poll(&mut events, Some(Duration::from_millis(100)))?;
        for event in &events {
            let client = &mut clients[event.token().0];
            client.read(&mut tally)?;
            client.write(&batch, &mut tally)?;
        }
    }
    Ok(tally)
}

impl Client {
    fn connect(server: &Server, poll: &Poll, index: usize) -> Result<Client> {
        let tcp = client::publisher(Target::AppSockets, server.address, ABUSED)?;
        tcp.set_nonblocking(true)?;
        let mut tcp = TcpStream::from_std(tcp);
        poll.registry().register(&mut tcp, Token(index), Interest::READABLE | Interest::WRITABLE)?;
        Ok(Client { tcp, written: 0, input: Vec::new() })
    }

    /// Writes batch after batch until the kernel takes no more.
    fn write(&mut self, batch: &[u8], tally: &mut Tally) -> Result<()> {
        loop {
            match self.tcp.write(&batch[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error.into()),
            }
            if self.written == batch.len() {
                self.written = 0;
                tally.add("published", BATCH as u64);
            }
        }
    }

    fn read(&mut self, tally: &mut Tally) -> Result<()> {
        let mut chunk = [0; 64 << 10];
        loop {
            match self.tcp.read(&mut chunk) {
                Ok(0) => bail!("the node has closed a flooding connection"),
                Ok(count) => self.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        let mut at = 0;
        while let Some(frame) = frames::first(&self.input[at..]) {
            if client::event(&self.input[at + frame.start..at + frame.end]) == Some(EventType::Error) {
                tally.add("refusals", 1);
            }
            at += frame.end;
        }
        self.input.drain(..at);
        Ok(())
    }
}

fn judge(tally: &Tally, metrics: &Metrics) -> Vec<Check> {
    let refused = metrics.get("publishes_refused_total{code=\"rate_limited\"}");
    // The steady clients publish as well, in each second as many as one session may.
    let steady = metrics.get("publishes_accepted_total");
    vec![
        Check::at_least("publishes refused by rate_limited", refused, ALLOWED),
        Check::at_least("refusals that the clients heard of", tally.get("refusals"), ALLOWED),
        Check::at_most("publishes accepted", steady, 2 * ALLOWED + 100 * 30),
    ]
}
