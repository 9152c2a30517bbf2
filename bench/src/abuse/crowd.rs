//! Many connections that a generator holds until the node ends them.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream as StdStream,
    time::{Duration, Instant},
};

use anyhow::Result;
use mio::{Events, Interest, Poll, Token, net::TcpStream};

/// The connections, by the order in which they came.
pub struct Crowd {
    poll: Poll,
    members: Vec<Option<Member>>,
    open: usize,
    /// Those that the node has ended.
    pub ended: Vec<Ended>,
}

struct Member {
    tcp: TcpStream,
    since: Instant,
    input: Vec<u8>,
}

/// A connection that is over: when, and all that had come of it.
pub struct Ended {
    pub after: Duration,
    pub input: Vec<u8>,
}

impl Crowd {
    pub fn new() -> Result<Crowd> {
        Ok(Crowd { poll: Poll::new()?, members: Vec::new(), open: 0, ended: Vec::new() })
    }

    pub fn add(&mut self, tcp: StdStream) -> Result<()> {
        tcp.set_nonblocking(true)?;
        let mut tcp = TcpStream::from_std(tcp);
        self.poll.registry().register(&mut tcp, Token(self.members.len()), Interest::READABLE)?;
        self.members.push(Some(Member { tcp, since: Instant::now(), input: Vec::new() }));
        self.open += 1;
        Ok(())
    }

    /// Those that the node has not ended.
    pub fn open(&self) -> usize {
        self.open
    }

    /// Sends the same to all that are open. What a kernel does not take is left out.
    pub fn send(&mut self, bytes: &[u8]) {
        for member in self.members.iter_mut().flatten() {
            // That it is over is found out by reading.
            _ = member.tcp.write(bytes);
        }
    }

    /// Reads what comes, until then or until none is open.
    pub fn watch(&mut self, until: Instant) -> Result<()> {
        let mut events = Events::with_capacity(1024);
        while self.open > 0 && Instant::now() < until {
            self.poll.poll(&mut events, Some(until.saturating_duration_since(Instant::now())))?;
            for event in &events {
                self.read(event.token().0);
            }
        }
        Ok(())
    }

    fn read(&mut self, index: usize) {
        let Some(Some(member)) = self.members.get_mut(index) else { return };
        let mut chunk = [0; 4096];
        loop {
            match member.tcp.read(&mut chunk) {
                Ok(count) if count > 0 => member.input.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // Cut off or closed in order: over in any case.
                _ => break,
            }
        }
        if let Some(Member { since, input, .. }) = self.members[index].take() {
            self.open -= 1;
            self.ended.push(Ended { after: since.elapsed(), input });
        }
    }
}
