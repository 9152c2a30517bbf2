//! Writing: one flush per turn, one write per socket, no waiting.

use std::{
    io::{self, ErrorKind, Write},
    mem,
    net::Shutdown,
};

use mio::net::TcpStream;

use super::{
    ConnId, Outboxes,
    conn::Link,
    outbox::Told,
    queue::{Pool, Queue},
};

/// How much is joined into one write.
const JOINED_BYTES_MAX: usize = 64 << 10;
/// From this length on an entry is written by itself: a further system call costs less than the copy.
const DIRECT_BYTES: usize = 16 << 10;

/// What became of a queue.
pub(super) struct Written {
    pub progress: bool,
    /// The kernel took less than it was offered.
    pub blocked: bool,
}

impl Outboxes {
    /// Writes to all connections for which something came up in this turn.
    pub(super) fn flush(&mut self) {
        let mut dirty = mem::take(&mut self.dirty);
        for slot in dirty.drain(..) {
            if let Some(conn) = self.conns.get_mut(slot as usize) {
                conn.flags.dirty = false;
                if !conn.flags.blocked {
                    self.write(slot);
                }
            }
        }
        self.dirty = dirty;
    }

    /// Writes what waits for a WebSocket, as far as the kernel takes it.
    pub(super) fn write(&mut self, slot: u32) {
        let Some(conn) = self.conns.get_mut(slot as usize) else { return };
        let id = ConnId { slot, generation: conn.generation };
        let (queue, pool, joined) = (&mut conn.queue, &mut self.pool, &mut self.joined);
        let written = match &mut conn.link {
            Link::Socket(socket) => write_queue(&mut socket.tcp, queue, pool, joined),
            Link::Secured(secured) => secured.write(queue, pool, joined, conn.flags.closing),
            Link::Stream(_) => return,
        };
        match written {
            Err(_) => self.broken(id),
            Ok(Written { progress, blocked: true }) => {
                conn.flags.blocked = true;
                self.wait_for_room(id, progress);
            }
            Ok(Written { blocked: false, .. }) => self.written(id),
        }
        self.resume(id);
    }

    /// The connection failed, or counts as failed.
    pub(super) fn broken(&mut self, id: ConnId) {
        if self.get(id).is_some_and(|conn| !conn.flags.closing) {
            self.told.push(Told::Broken(id));
        }
        self.remove(id);
    }

    /// Drops the connections whose deadline has passed. Those that got on have another, or none.
    pub(super) fn sweep(&mut self) {
        let mut waiting = mem::take(&mut self.waiting);
        waiting.retain(|id| {
            let waits = self.still_waits(*id);
            if let Some(conn) = self.get(*id) {
                conn.flags.waiting = waits;
            }
            waits
        });
        self.waiting = waiting;
    }

    fn still_waits(&mut self, id: ConnId) -> bool {
        let (now_ms, timeout_ms) = (self.now_ms, self.options.write_timeout_ms);
        let Some(conn) = self.get(id) else { return false };
        if !conn.flags.closing {
            let (waits, progress) = match &conn.link {
                Link::Socket(_) | Link::Secured(_) => (conn.flags.blocked, false),
                Link::Stream(stream) => {
                    let (queued, progress) = stream.progress();
                    (queued > 0, progress)
                }
            };
            if !waits {
                return false;
            }
            if progress {
                conn.deadline_ms = now_ms.saturating_add(timeout_ms);
            }
        }
        if now_ms < conn.deadline_ms {
            return true;
        }
        if let Link::Stream(stream) = &conn.link {
            stream.abort();
        }
        self.connections.count_stalled();
        self.broken(id);
        false
    }

    fn wait_for_room(&mut self, id: ConnId, progress: bool) {
        let timeout_ms = self.options.write_timeout_ms;
        match self.get(id) {
            Some(conn) if progress && !conn.flags.closing => self.set_deadline(id, timeout_ms),
            _ => self.watch(id, timeout_ms),
        }
    }

    /// Nothing waits any more.
    fn written(&mut self, id: ConnId) {
        let Some(conn) = self.get(id) else { return };
        if conn.flags.full {
            self.told.push(Told::Drained(id));
        } else if conn.flags.closing && conn.flags.ended {
            self.remove(id);
        } else if conn.flags.closing
            && !mem::replace(&mut conn.flags.shut, true)
            && let Some(socket) = conn.link.socket()
        {
            // Half-closed only, so that a client that still sends is not answered with a reset that eats our frames.
            // It fails only if the other end is gone already, which reading finds out.
            _ = socket.tcp.shutdown(Shutdown::Write);
        }
    }

    /// Goes on reading a connection that was not read because of what waited for it.
    fn resume(&mut self, id: ConnId) {
        let bound = self.options.outbox_bytes_max;
        if let Some(conn) = self.get(id)
            && conn.queue.bytes() <= bound
            && let Some(socket) = conn.link.socket()
            && (conn.flags.readable || socket.reader.has_kept())
        {
            self.list(id);
        }
    }
}

/// Offers the queue to the kernel until it is empty or the kernel takes no more.
fn write_queue(tcp: &mut TcpStream, queue: &mut Queue, pool: &mut Pool, joined: &mut Vec<u8>) -> io::Result<Written> {
    let mut progress = false;
    while !queue.is_empty() {
        let offer = offer(queue, pool, joined, JOINED_BYTES_MAX);
        let offered = offer.len();
        match tcp.write(offer) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(taken) => {
                progress = true;
                pool.advance(queue, taken);
                if taken < offered {
                    return Ok(Written { progress, blocked: true });
                }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Written { progress, blocked: true }),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(Written { progress, blocked: false })
}

/// What to write next: the head of the queue, or several small entries joined, at most so many bytes of them.
pub(super) fn offer<'a>(queue: &Queue, pool: &'a Pool, joined: &'a mut Vec<u8>, bytes_max: usize) -> &'a [u8] {
    let head = pool.head(queue);
    if queue.is_single() || head.len() >= DIRECT_BYTES {
        return head;
    }
    joined.clear();
    pool.gather(queue, bytes_max, joined);
    joined
}
