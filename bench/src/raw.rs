//! The reference: a server that does nothing but what a hub can't do without. It reads from publishers and writes to
//! subscribers, one thread, one poll. `GET /sub/N` hears channel N; a publisher's frame begins with its channel's number.

use std::{
    collections::HashMap,
    io::{ErrorKind, Read, Write},
};

use anyhow::Result;
use mio::{
    Events, Interest, Poll, Token,
    net::{TcpListener, TcpStream},
};

use crate::frames;

const LISTENER: Token = Token(usize::MAX);

struct Conn {
    tcp: TcpStream,
    input: Vec<u8>,
    upgraded: bool,
}

/// Serves until the process is ended. With `batch`, what one wake-up brought for a subscriber is one write.
pub fn serve(batch: bool) -> Result<()> {
    let mut listener = TcpListener::bind("127.0.0.1:0".parse()?)?;
    println!("listening on http://{}", listener.local_addr()?);
    let mut poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let mut server = Server { batch, conns: Vec::new(), subscribers: HashMap::new(), pending: HashMap::new() };
    let mut events = Events::with_capacity(1024);
    let mut scratch = vec![0; 64 << 10];
    loop {
        poll.poll(&mut events, None)?;
        for event in &events {
            match event.token() {
                LISTENER => server.accept(&listener, &poll)?,
                Token(slot) => server.read(slot, &mut scratch),
            }
        }
        server.flush();
    }
}

struct Server {
    batch: bool,
    conns: Vec<Option<Conn>>,
    subscribers: HashMap<u32, Vec<usize>>,
    /// What a wake-up brought, by channel.
    pending: HashMap<u32, Vec<u8>>,
}

impl Server {
    fn accept(&mut self, listener: &TcpListener, poll: &Poll) -> Result<()> {
        while let Ok((mut tcp, _)) = listener.accept() {
            tcp.set_nodelay(true)?;
            poll.registry().register(&mut tcp, Token(self.conns.len()), Interest::READABLE)?;
            self.conns.push(Some(Conn { tcp, input: Vec::new(), upgraded: false }));
        }
        Ok(())
    }

    fn read(&mut self, slot: usize, scratch: &mut [u8]) {
        loop {
            let Some(conn) = self.conns[slot].as_mut() else { return };
            match conn.tcp.read(scratch) {
                Ok(0) => return self.conns[slot] = None,
                Ok(count) => {
                    conn.input.extend_from_slice(&scratch[..count]);
                    self.take_in(slot);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(_) => return self.conns[slot] = None,
            }
        }
    }

    fn take_in(&mut self, slot: usize) {
        let Some(conn) = self.conns[slot].as_mut() else { return };
        let mut input = std::mem::take(&mut conn.input);
        if !conn.upgraded {
            if !input.ends_with(b"\r\n\r\n") {
                return conn.input = input;
            }
            conn.upgraded = true;
            // Its client knows that this is no WebSocket server and does not look at the key.
            _ = conn
                .tcp
                .write(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
            if let Some(channel) = subscribed(&input) {
                self.subscribers.entry(channel).or_default().push(slot);
            }
            return;
        }
        let mut at = 0;
        while let Some(frame) = frames::first(&input[at..]) {
            let payload = &mut input[at + frame.start..at + frame.end];
            frames::unmask(payload, frame.mask.unwrap_or_default());
            let channel = u32::from_le_bytes([payload[0], payload[1], payload[2], payload[3]]);
            let mut out = Vec::with_capacity(payload.len() + 10);
            frames::push(&payload[4..], &mut out);
            if self.batch {
                self.pending.entry(channel).or_default().extend_from_slice(&out);
            } else {
                self.write(channel, &out);
            }
            at += frame.end;
        }
        input.drain(..at);
        if let Some(conn) = self.conns[slot].as_mut()
            && !input.is_empty()
        {
            conn.input = input;
        }
    }

    fn flush(&mut self) {
        for (channel, bytes) in std::mem::take(&mut self.pending) {
            self.write(channel, &bytes);
        }
    }

    /// A client of the benchmark always reads in time, so what the kernel does not take at once ends the run.
    fn write(&mut self, channel: u32, bytes: &[u8]) {
        for slot in self.subscribers.get(&channel).into_iter().flatten() {
            if let Some(conn) = self.conns[*slot].as_mut() {
                let written = conn.tcp.write(bytes);
                assert!(written.is_ok_and(|count| count == bytes.len()), "the load does not keep up");
            }
        }
    }
}

fn subscribed(request: &[u8]) -> Option<u32> {
    let line = std::str::from_utf8(request).ok()?.lines().next()?;
    line.strip_prefix("GET /sub/")?.split(' ').next()?.parse().ok()
}
