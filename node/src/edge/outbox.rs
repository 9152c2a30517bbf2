//! What waits to be written, for each connection of a worker.

use std::{collections::VecDeque, mem, sync::Arc};

use bytes::Bytes;
use slab::Slab;

use super::{
    ConnId, Connections, Options,
    conn::{Conn, Flags, Link},
    queue::{Pool, Queue},
    ws,
};

/// Whether a delivery was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    Queued,
    /// The outbox would hold more than its bound: the frame was not taken. [`super::Handler::drained`] follows, and
    /// until then no other frame is taken either.
    Full,
}

/// The connections of a worker, and their outboxes.
///
/// An id that means nothing any more is no error anywhere here: bytes for it are dropped as if they had been written.
#[derive(Debug)]
pub struct Outboxes {
    pub(super) conns: Slab<Conn>,
    pub(super) pool: Pool,
    /// Where small frames of one connection are joined.
    pub(super) joined: Vec<u8>,
    /// Slots with something that has not been tried to be written.
    pub(super) dirty: Vec<u32>,
    /// Those that the kernel may have bytes of.
    pub(super) ready: VecDeque<ConnId>,
    /// Those with a deadline; some may be gone.
    pub(super) waiting: Vec<ConnId>,
    /// What the handler is to be told after the flush.
    pub(super) told: Vec<Told>,
    pub(super) options: Options,
    pub(super) connections: Arc<Connections>,
    /// The time of this turn.
    pub(super) now_ms: u64,
    generation: u32,
}

/// Something about a connection that came up while writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Drained(ConnId),
    Broken(ConnId),
}

impl Outboxes {
    pub(super) fn new(options: Options, connections: Arc<Connections>) -> Outboxes {
        Outboxes {
            conns: Slab::new(),
            pool: Pool::default(),
            joined: Vec::new(),
            dirty: Vec::new(),
            ready: VecDeque::new(),
            waiting: Vec::new(),
            told: Vec::new(),
            options,
            connections,
            now_ms: 0,
            generation: 0,
        }
    }

    /// Queues bytes that are ready to be written (one or more whole WebSocket frames, or SSE blocks) and shared with
    /// others. Into an empty outbox they go however many they are.
    pub fn deliver(&mut self, id: ConnId, bytes: &Bytes) -> Delivered {
        let Some(conn) = find_open(&mut self.conns, id) else { return Delivered::Queued };
        if let Link::Stream(stream) = &conn.link {
            let taken = stream.push(bytes.clone(), Some(self.options.sse_outbox_bytes_max));
            self.watch(id, self.options.write_timeout_ms);
            return if taken { Delivered::Queued } else { Delivered::Full };
        }
        let full = conn.flags.full || !fits(conn, bytes.len(), self.options.outbox_bytes_max);
        if full && !self.make_room(id, bytes.len()) {
            return Delivered::Full;
        }
        self.push(id, bytes.clone());
        Delivered::Queued
    }

    /// Queues the answer to a request, whatever waits already: while more waits than the bound, nothing more is read
    /// from the connection, so a client bounds its answers by its own requests.
    pub fn reply(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = find_open(&mut self.conns, id) else { return };
        if let Link::Stream(stream) = &conn.link {
            stream.push(bytes, None);
            self.watch(id, self.options.write_timeout_ms);
        } else {
            self.push(id, bytes);
        }
    }

    /// Whether more waits for a WebSocket than the bound. [`super::Handler::drained`] follows, and nothing is delivered until
    /// then.
    pub fn is_full(&mut self, id: ConnId) -> bool {
        let bound = self.options.outbox_bytes_max;
        let Some(conn) = find_open(&mut self.conns, id) else { return false };
        if matches!(conn.link, Link::Stream(_)) {
            return false;
        }
        conn.flags.full |= conn.queue.bytes() > bound;
        conn.flags.full
    }

    /// Ends the connection after what is queued: for a WebSocket with a close frame of this code and reason (cut to 123
    /// bytes). The id means nothing from now on.
    pub fn close(&mut self, id: ConnId, code: u16, reason: &str) {
        self.end(id, || ws::close_frame(code, reason));
    }

    /// How many bytes wait for the connection.
    pub fn queued_bytes(&self, id: ConnId) -> usize {
        match self.conns.get(id.slot as usize) {
            Some(conn) if conn.generation == id.generation => match &conn.link {
                Link::Socket(_) | Link::Secured(_) => conn.queue.bytes(),
                Link::Stream(stream) => stream.queued_bytes(),
            },
            _ => 0,
        }
    }

    /// A new connection.
    pub(super) fn insert(&mut self, link: Link) -> ConnId {
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let conn = Conn { generation, link, queue: Queue::new(), deadline_ms: 0, flags: Flags::default() };
        ConnId { slot: self.conns.insert(conn) as u32, generation }
    }

    pub(super) fn get(&mut self, id: ConnId) -> Option<&mut Conn> {
        self.conns.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation)
    }

    /// Like [`Outboxes::close`], with any last frame.
    pub(super) fn end(&mut self, id: ConnId, last: impl FnOnce() -> Bytes) {
        let Some(conn) = find_open(&mut self.conns, id) else {
            // It failed in this very turn, which the handler need not hear of any more.
            return self.told.retain(|told| *told != Told::Broken(id));
        };
        match &conn.link {
            Link::Socket(_) | Link::Secured(_) => self.push(id, last()),
            Link::Stream(stream) => stream.end(),
        }
        if let Some(conn) = self.get(id) {
            conn.flags.closing = true;
            conn.flags.full = false;
        }
        // The deadline of its end takes the place of one for its writes.
        self.set_deadline(id, self.options.close_timeout_ms);
        // Its end is read even if it was not read because of what it had queued.
        self.list(id);
    }

    /// Closes the socket and forgets the connection.
    pub(super) fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            let mut conn = self.conns.remove(id.slot as usize);
            self.pool.clear(&mut conn.queue);
        }
    }

    /// Sees to it that the connection is read in the next turn.
    pub(super) fn list(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id)
            && !mem::replace(&mut conn.flags.listed, true)
        {
            self.ready.push_back(id);
        }
    }

    /// Gives the connection a deadline, unless it has one.
    pub(super) fn watch(&mut self, id: ConnId, timeout_ms: u64) {
        if self.get(id).is_some_and(|conn| !conn.flags.waiting) {
            self.set_deadline(id, timeout_ms);
        }
    }

    pub(super) fn set_deadline(&mut self, id: ConnId, timeout_ms: u64) {
        let deadline_ms = self.now_ms.saturating_add(timeout_ms);
        let Some(conn) = self.get(id) else { return };
        conn.deadline_ms = deadline_ms;
        if !mem::replace(&mut conn.flags.waiting, true) {
            self.waiting.push(id);
        }
    }

    fn push(&mut self, id: ConnId, bytes: Bytes) {
        let Some(conn) = self.conns.get_mut(id.slot as usize) else { return };
        self.pool.push(&mut conn.queue, bytes);
        if !conn.flags.dirty && !conn.flags.blocked {
            conn.flags.dirty = true;
            self.dirty.push(id.slot);
        }
    }

    /// Has it written what TLS itself has to say, if there is anything.
    pub(super) fn answer(&mut self, id: ConnId) {
        if let Some(conn) = self.get(id)
            && conn.link.wants_write()
            && !conn.flags.blocked
            && !mem::replace(&mut conn.flags.dirty, true)
        {
            self.dirty.push(id.slot);
        }
    }

    /// Writes what waits at once, and tells whether so many bytes fit then.
    fn make_room(&mut self, id: ConnId, length: usize) -> bool {
        if self.get(id).is_some_and(|conn| !conn.flags.blocked) {
            self.write(id.slot);
        }
        let bound = self.options.outbox_bytes_max;
        // One that failed at this has been removed, which `told` tells.
        let Some(conn) = self.get(id) else { return true };
        conn.flags.full |= !fits(conn, length, bound);
        !conn.flags.full
    }
}

fn find_open(conns: &mut Slab<Conn>, id: ConnId) -> Option<&mut Conn> {
    conns.get_mut(id.slot as usize).filter(|conn| conn.generation == id.generation && !conn.flags.closing)
}

fn fits(conn: &Conn, length: usize, bound: usize) -> bool {
    conn.queue.is_empty() || conn.queue.bytes().saturating_add(length) <= bound
}
