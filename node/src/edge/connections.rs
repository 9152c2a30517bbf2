//! The node's count of connections, and what an HTTP handler may know of its own.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::task::AbortHandle;

/// Counts the connections of all workers of a node, whatever they speak, against one bound.
#[derive(Debug)]
pub struct Connections {
    open: AtomicUsize,
    max: usize,
    refused: AtomicU64,
    stalled: AtomicU64,
    violated: AtomicU64,
    late: AtomicU64,
}

impl Connections {
    pub fn new(max: usize) -> Arc<Connections> {
        Arc::new(Connections {
            open: AtomicUsize::new(0),
            max,
            refused: AtomicU64::new(0),
            stalled: AtomicU64::new(0),
            violated: AtomicU64::new(0),
            late: AtomicU64::new(0),
        })
    }

    /// How many are open now.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// How many were refused because of the bound.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// How many were dropped because they took nothing in time, or lingered after their end.
    pub fn stalled(&self) -> u64 {
        self.stalled.load(Ordering::Relaxed)
    }

    /// How many WebSocket clients broke the protocol or a bound.
    pub fn violated(&self) -> u64 {
        self.violated.load(Ordering::Relaxed)
    }

    /// How many were dropped because no request came in time, or not all of its header, or of a handshake before it.
    pub fn late(&self) -> u64 {
        self.late.load(Ordering::Relaxed)
    }

    pub(super) fn count_stalled(&self) {
        self.stalled.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_violated(&self) {
        self.violated.fetch_add(1, Ordering::Relaxed);
    }

    /// A place for one more, unless there is none.
    pub(super) fn enter(self: &Arc<Self>) -> Option<Permit> {
        let more = |open| (open < self.max).then_some(open + 1);
        if self.open.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        Some(Permit(self.clone()))
    }
}

/// A connection's place in the count.
#[derive(Debug)]
pub(super) struct Permit(Arc<Connections>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The connection that a request came by: an extension of every request that a worker serves.
#[derive(Clone, Debug)]
pub struct Peer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    remote: SocketAddr,
    permit: Mutex<Option<Permit>>,
    task: OnceLock<AbortHandle>,
}

impl Peer {
    pub(super) fn new(remote: SocketAddr, permit: Permit) -> Peer {
        Peer(Arc::new(Inner { remote, permit: Mutex::new(Some(permit)), task: OnceLock::new() }))
    }

    /// The other end of the socket, which may be a proxy.
    pub fn remote(&self) -> SocketAddr {
        self.0.remote
    }

    /// The connection's place, for the WebSocket that it becomes.
    pub(super) fn take_permit(&self) -> Option<Permit> {
        self.0.permit.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The connection has ended because no request came in time, so its place is free.
    pub(super) fn count_late(&self) {
        if let Some(Permit(connections)) = self.take_permit().as_ref() {
            connections.late.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// The connection has ended because it took nothing in time, so its place is free.
    pub(super) fn count_stalled(&self) {
        if let Some(Permit(connections)) = self.take_permit().as_ref() {
            connections.count_stalled();
        }
    }

    pub(super) fn served_by(&self, task: AbortHandle) {
        // Set once, by the one who spawned the task.
        _ = self.0.task.set(task);
    }

    /// Drops the connection, whatever it is doing.
    pub(super) fn abort(&self) {
        if let Some(task) = self.0.task.get() {
            task.abort();
        }
    }
}
