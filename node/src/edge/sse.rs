//! Server-Sent Events: a response body that stays in hyper, on the worker's own thread, fed from its outboxes.

use std::{
    collections::VecDeque,
    convert::Infallible,
    mem,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use axum::{
    http::{HeaderValue, header},
    response::Response,
};
use bytes::{Bytes, BytesMut};
use hyper::body::{Body, Frame};
use tokio::sync::Notify;

use super::{ConnId, Peer};

/// What the outbox and the body share. Both live on one thread, so the lock is never waited for.
#[derive(Debug)]
pub(super) struct Stream {
    state: Mutex<State>,
    notices: Arc<Notices>,
    peer: Peer,
}

#[derive(Debug, Default)]
struct State {
    conn: Option<ConnId>,
    queue: VecDeque<Bytes>,
    bytes: usize,
    waker: Option<Waker>,
    /// Nothing will be added.
    ended: bool,
    /// The body was dropped.
    gone: bool,
    /// Something was taken since the last look.
    progress: bool,
    /// A delivery was refused; the worker wants to know when the queue is empty.
    full: bool,
    noticed: bool,
}

/// Which streams the worker should look at; each is there at most once.
#[derive(Debug, Default)]
pub(super) struct Notices {
    conns: Mutex<Vec<ConnId>>,
    pub came: Notify,
}

impl Notices {
    /// Replaces the list by an empty one.
    pub fn take(&self) -> Vec<ConnId> {
        mem::take(&mut *self.conns.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn add(&self, conn: ConnId) {
        self.conns.lock().unwrap_or_else(PoisonError::into_inner).push(conn);
        self.came.notify_one();
    }
}

/// What a look at a stream told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Gone,
    /// Empty after a refused delivery.
    Drained,
    Nothing,
}

impl Stream {
    pub fn new(notices: Arc<Notices>, peer: Peer) -> Arc<Stream> {
        Arc::new(Stream { state: Mutex::default(), notices, peer })
    }

    /// Says whose it is; false if the client went away already.
    pub fn open(&self, conn: ConnId) -> bool {
        let mut state = self.state();
        state.conn = Some(conn);
        !state.gone
    }

    pub fn queued_bytes(&self) -> usize {
        self.state().bytes
    }

    /// Queues the bytes, but not beyond the bound if there is one. Tells whether they were taken.
    pub fn push(&self, bytes: Bytes, bound: Option<usize>) -> bool {
        let mut state = self.state();
        if bytes.is_empty() || state.gone || state.ended {
            return true;
        }
        if let Some(bound) = bound {
            state.full |= state.bytes > 0 && state.bytes.saturating_add(bytes.len()) > bound;
            if state.full {
                return false;
            }
        }
        state.bytes += bytes.len();
        state.queue.push_back(bytes);
        wake(&mut state);
        true
    }

    /// Ends the response after what is queued.
    pub fn end(&self) {
        let mut state = self.state();
        state.ended = true;
        wake(&mut state);
    }

    pub fn look(&self) -> Look {
        let mut state = self.state();
        state.noticed = false;
        if state.gone {
            Look::Gone
        } else if state.bytes == 0 && mem::take(&mut state.full) {
            Look::Drained
        } else {
            Look::Nothing
        }
    }

    /// How much waits, and whether something was taken since the last call.
    pub fn progress(&self) -> (usize, bool) {
        let mut state = self.state();
        (state.bytes, mem::take(&mut state.progress))
    }

    pub fn abort(&self) {
        self.peer.abort();
    }

    fn notice(&self, state: &mut State) {
        if let Some(conn) = state.conn
            && !mem::replace(&mut state.noticed, true)
        {
            self.notices.add(conn);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn wake(state: &mut State) {
    if let Some(waker) = state.waker.take() {
        waker.wake();
    }
}

/// The response that streams what is queued.
pub(super) fn response(stream: Arc<Stream>) -> Response {
    let mut response = Response::new(axum::body::Body::new(Feed(stream)));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Keeps nginx from collecting the stream.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    response
}

/// The body. Dropped when the client goes away.
struct Feed(Arc<Stream>);

impl Body for Feed {
    type Data = Bytes;
    type Error = Infallible;

    /// Everything that is queued, as one chunk.
    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let mut state = self.0.state();
        if state.queue.is_empty() {
            if state.ended {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        let chunk = join(mem::take(&mut state.queue), state.bytes);
        state.bytes = 0;
        state.progress = true;
        if state.full {
            self.0.notice(&mut state);
        }
        Poll::Ready(Some(Ok(Frame::data(chunk))))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.gone = true;
        state.queue = VecDeque::new();
        state.bytes = 0;
        self.0.notice(&mut state);
    }
}

/// One chunk; shared with others if there was only one.
fn join(mut queue: VecDeque<Bytes>, length: usize) -> Bytes {
    match queue.pop_front() {
        Some(only) if queue.is_empty() => only,
        first => {
            let mut joined = BytesMut::with_capacity(length);
            first.iter().chain(&queue).for_each(|bytes| joined.extend_from_slice(bytes));
            joined.freeze()
        }
    }
}
