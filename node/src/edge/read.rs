//! Reading: the sockets that are ready, one after the other, through one scratch buffer.

use std::{
    io::{self, ErrorKind, Read},
    mem,
};

use appsockets_core::time::Now;
use bytes::Bytes;

use super::{
    Closed, ConnId, Handler,
    conn::{Conn, Link},
    turn::Driver,
    ws::{self, Item, Opcode, Reader, Violation},
};

/// A client sent a kind of message that the subprotocol does not have.
const UNSUPPORTED_DATA: u16 = 1003;

/// Whether there may be more to read.
enum Next {
    Go,
    /// Not before the outbox has emptied.
    Pause,
    /// Never: it ends.
    Stop,
}

impl<H: Handler> Driver<H> {
    /// Reads one connection, at most one scratch buffer full of it.
    pub(super) fn read(&mut self, id: ConnId, now: Now) {
        let bound = self.out.options.outbox_bytes_max;
        let Some(conn) = self.out.get(id) else { return };
        conn.flags.listed = false;
        let paused = !conn.flags.closing && conn.queue.bytes() > bound;
        let secured = matches!(conn.link, Link::Secured(_));
        let Some(socket) = conn.link.socket_mut() else { return };
        if paused {
            return;
        }
        if let Some(mut kept) = socket.reader.take_kept()
            && !conn.flags.closing
        {
            self.take_in(id, &mut kept, now);
            // The socket's turn comes next: what was kept came before.
            self.out.list(id);
            return;
        }
        let mut scratch = mem::take(&mut self.scratch);
        match receive(conn, &mut scratch) {
            Ok(0) if conn.flags.ended => self.ended(id, now),
            Ok(0) => self.read_on(id),
            Ok(_) if conn.flags.closing => self.read_on(id),
            Ok(count) => {
                self.take_in(id, &mut scratch[..count], now);
                self.read_on(id);
            }
            Err(_) => self.broken(id, now),
        }
        self.scratch = scratch;
        if secured {
            self.out.answer(id);
        }
    }

    /// Lists it again if the kernel may have more and its outbox allows it.
    fn read_on(&mut self, id: ConnId) {
        let bound = self.out.options.outbox_bytes_max;
        if self.out.get(id).is_some_and(|conn| conn.flags.readable && conn.queue.bytes() <= bound) {
            self.out.list(id);
        }
    }

    /// Hands over what the bytes say.
    fn take_in(&mut self, id: ConnId, mut input: &mut [u8], now: Now) {
        let max = self.out.options.message_bytes_max;
        let Some(socket) = self.out.get(id).and_then(|conn| conn.link.socket_mut()) else { return };
        let mut reader = mem::replace(&mut socket.reader, Reader::new(max));
        let mut items = 0;
        let next = loop {
            match reader.next(&mut input) {
                Ok(Some(item)) => self.item(id, item, now),
                Ok(None) => break Next::Go,
                Err(violation) => {
                    self.violated(id, violation, now);
                    break Next::Stop;
                }
            }
            items += 1;
            match self.next(id) {
                Next::Go => {}
                next => break next,
            }
        };
        if matches!(next, Next::Stop) {
            return;
        }
        reader.keep(input);
        if let Some(socket) = self.out.get(id).and_then(|conn| conn.link.socket_mut()) {
            socket.reader = reader;
        }
        if items == 0 {
            self.handler.heard(id, now);
        }
    }

    fn next(&mut self, id: ConnId) -> Next {
        let bound = self.out.options.outbox_bytes_max;
        match self.out.get(id) {
            Some(conn) if conn.flags.closing => Next::Stop,
            Some(conn) if conn.queue.bytes() > bound => Next::Pause,
            Some(_) => Next::Go,
            None => Next::Stop,
        }
    }

    fn item(&mut self, id: ConnId, item: Item<'_>, now: Now) {
        match item {
            Item::Message(kind, message) => match self.kind(id) {
                None => self.handler.received_any(id, kind, message, now, &mut self.out),
                Some(only) if only == kind => self.handler.received(id, message, now, &mut self.out),
                Some(_) => self.refuse(id, UNSUPPORTED_DATA, "the subprotocol has no messages of this kind", now),
            },
            Item::Ping(payload) => {
                self.out.reply(id, pong(payload));
                self.handler.heard(id, now);
            }
            Item::Pong => self.handler.heard(id, now),
            Item::Close(code) => {
                self.out.end(id, || ws::close_answer(code));
                self.handler.closed(id, Closed::Clean, now, &mut self.out);
            }
        }
    }

    fn kind(&mut self, id: ConnId) -> Option<ws::Kind> {
        self.out.get(id)?.link.socket()?.kind
    }

    fn violated(&mut self, id: ConnId, violation: Violation, now: Now) {
        if violation == Violation::TooLarge {
            self.handler.too_large(id, &mut self.out);
        }
        self.refuse(id, violation.close_code(), &violation.to_string(), now);
    }

    fn refuse(&mut self, id: ConnId, code: u16, reason: &str, now: Now) {
        self.out.connections.count_violated();
        self.out.close(id, code, reason);
        self.handler.closed(id, Closed::Broken, now, &mut self.out);
    }

    /// The client sends nothing any more.
    fn ended(&mut self, id: ConnId, now: Now) {
        let Some(conn) = self.out.get(id) else { return };
        if !conn.flags.closing {
            self.broken(id, now);
        } else if !conn.has_unwritten() {
            self.out.remove(id);
        }
    }

    fn broken(&mut self, id: ConnId, now: Now) {
        let open = self.out.get(id).is_some_and(|conn| !conn.flags.closing);
        self.out.remove(id);
        if open {
            self.handler.closed(id, Closed::Broken, now, &mut self.out);
        }
    }
}

/// One read. 0 means that there is nothing, or the end if the flag for it is set.
fn receive(conn: &mut Conn, scratch: &mut [u8]) -> io::Result<usize> {
    let socket = match &mut conn.link {
        Link::Socket(socket) => socket,
        Link::Secured(secured) => return secured.read(scratch, &mut conn.flags),
        Link::Stream(_) => return Ok(0),
    };
    match socket.tcp.read(scratch) {
        Ok(0) => {
            conn.flags.readable = false;
            conn.flags.ended = true;
            Ok(0)
        }
        Ok(count) => {
            // A read that could have been longer has emptied the socket; of more the kernel tells again.
            conn.flags.readable = count == scratch.len() || conn.flags.hung_up;
            Ok(count)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => {
            conn.flags.readable = false;
            Ok(0)
        }
        Err(error) if error.kind() == ErrorKind::Interrupted => Ok(0),
        Err(error) => Err(error),
    }
}

fn pong(payload: &[u8]) -> Bytes {
    const EMPTY: &[u8] = &[0x8a, 0];
    if payload.is_empty() {
        return Bytes::from_static(EMPTY);
    }
    let mut frame = Vec::with_capacity(payload.len() + ws::HEADER_BYTES_MAX);
    ws::write_frame(Opcode::Pong, payload, &mut frame);
    frame.into()
}
