//! A WebSocket over TLS: the same as a plain one, with rustls between it and the kernel.
//!
//! What the kernel does not take waits in the queue, as plain text, but for one record that is encrypted already.

use std::{
    io::{self, ErrorKind, Read, Write},
    mem,
};

use rustls::ServerConnection;

use super::{
    conn::{Flags, Socket},
    flush::{Written, offer},
    queue::{Pool, Queue},
};

/// The most that goes into one record.
const RECORD_BYTES: usize = 16 << 10;

/// A socket with its state of TLS.
#[derive(Debug)]
pub(super) struct Secured {
    pub socket: Socket,
    session: ServerConnection,
    /// The client has been told that nothing follows.
    ended: bool,
}

impl Secured {
    /// After the handshake.
    pub fn new(socket: Socket, session: ServerConnection) -> Secured {
        Secured { socket, session, ended: false }
    }

    /// Whether something is encrypted and not yet written.
    pub fn wants_write(&self) -> bool {
        self.session.wants_write()
    }

    /// Encrypts and writes what waits until the kernel takes no more; if it is the last, also that it is.
    pub fn write(
        &mut self,
        queue: &mut Queue,
        pool: &mut Pool,
        joined: &mut Vec<u8>,
        last: bool,
    ) -> io::Result<Written> {
        let mut progress = false;
        loop {
            while self.session.wants_write() {
                match self.session.write_tls(&mut self.socket.tcp) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(_) => progress = true,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        return Ok(Written { progress, blocked: true });
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if !queue.is_empty() {
                let taken = self.session.writer().write(offer(queue, pool, joined, RECORD_BYTES))?;
                pool.advance(queue, taken);
            } else if last && !mem::replace(&mut self.ended, true) {
                self.session.send_close_notify();
            } else {
                return Ok(Written { progress, blocked: false });
            }
        }
    }

    /// As a read of a plain socket: 0 means that there is nothing, or the end if the flag for it is set.
    pub fn read(&mut self, scratch: &mut [u8], flags: &mut Flags) -> io::Result<usize> {
        let (mut count, mut taken) = (0, 0);
        flags.readable = true;
        // Records may be empty: the second condition is for a client that sends many of those.
        while count < scratch.len() && taken < scratch.len() {
            match self.session.reader().read(&mut scratch[count..]) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // Without a word of TLS that it is the end, the WebSocket tells whether something is missing.
                Ok(0) | Err(_) => {
                    flags.ended = count == 0;
                    flags.readable = count > 0;
                    break;
                }
                Ok(more) => {
                    count += more;
                    continue;
                }
            }
            match self.session.read_tls(&mut self.socket.tcp) {
                Ok(more) => taken += more,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    flags.readable = false;
                    break;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            }
            self.session.process_new_packets().map_err(|error| self.refuse(error))?;
        }
        Ok(count)
    }

    /// Tells the client what it did wrong, if the kernel takes that at once.
    fn refuse(&mut self, error: rustls::Error) -> io::Error {
        _ = self.session.write_tls(&mut self.socket.tcp);
        io::Error::new(ErrorKind::InvalidData, error)
    }
}
