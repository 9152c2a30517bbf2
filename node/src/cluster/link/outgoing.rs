//! What waits to be sent on one link.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
};

use appsockets_proto::cluster::{Frame, Frames, Shard, frame};
use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::Notify;
use tonic::Status;

/// What may wait for a peer, in bytes. One that lets more wait is too slow: its link ends, and with it what it missed is
/// said anew in a shorter form.
const WAITING_MAX: usize = 64 << 20;
/// What one write to the link holds, about.
const BATCH_BYTES: usize = 256 << 10;
/// What a frame costs besides its bytes.
const FRAME_BYTES: usize = 64;

/// The sending side of a link. Whoever has it sends on this very link, and on no later one to the same peer.
#[derive(Debug)]
pub struct Outgoing {
    /// Tells links apart, also those to the same peer.
    pub number: u64,
    state: Mutex<State>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<Frame>,
    bytes: usize,
    end: End,
    waker: Option<Waker>,
    sent: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum End {
    #[default]
    Open,
    /// After what waits.
    Finishing,
    Closed,
}

impl Outgoing {
    pub fn new() -> Arc<Outgoing> {
        static NUMBERS: AtomicU64 = AtomicU64::new(1);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Arc::new(Outgoing { number, state: Mutex::default(), closed: Notify::new() })
    }

    /// Messages to one shard of the peer.
    pub fn send_to_shard(&self, index: u32, messages: Bytes) {
        self.send(frame::Frame::Shard(Shard { index, messages }));
    }

    pub fn send(&self, frame: frame::Frame) {
        let mut state = self.lock();
        if state.end != End::Open {
            return;
        }
        state.bytes += size(&frame);
        state.frames.push_back(Frame { frame: Some(frame) });
        if state.bytes > WAITING_MAX {
            tracing::warn!(bytes = state.bytes, "a node takes too little of what is sent to it: its link is closed");
            state.close();
            self.closed.notify_one();
        }
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    /// Ends the link after what waits has been sent.
    pub fn finish(&self) {
        self.end(End::Finishing);
    }

    /// Ends the link now.
    pub fn close(&self) {
        self.end(End::Closed);
        self.closed.notify_one();
    }

    /// Waits until the link was closed from this side.
    pub async fn closed(&self) {
        self.closed.notified().await;
    }

    pub fn is_open(&self) -> bool {
        self.lock().end == End::Open
    }

    /// What waits, in bytes.
    pub fn waiting(&self) -> usize {
        self.lock().bytes
    }

    /// What was given to the connection so far, in bytes.
    pub fn sent(&self) -> u64 {
        self.lock().sent
    }

    fn end(&self, end: End) {
        let mut state = self.lock();
        match end {
            End::Closed => state.close(),
            End::Finishing if state.end == End::Open => state.end = End::Finishing,
            End::Finishing | End::Open => {}
        }
        let waker = state.waker.take();
        drop(state);
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn close(&mut self) {
        self.frames = Default::default();
        self.bytes = 0;
        self.end = End::Closed;
    }

    /// What goes out in one write.
    fn batch(&mut self) -> Option<Frames> {
        let mut bytes = 0;
        let mut frames = Vec::new();
        while bytes < BATCH_BYTES
            && let Some(frame) = self.frames.pop_front()
        {
            bytes += frame.frame.as_ref().map_or(0, size);
            frames.push(frame);
        }
        self.bytes -= bytes;
        self.sent += bytes as u64;
        (!frames.is_empty()).then_some(Frames { frames })
    }
}

fn size(frame: &frame::Frame) -> usize {
    FRAME_BYTES
        + match frame {
            frame::Frame::Views(bytes) => bytes.len(),
            frame::Frame::Shard(shard) => shard.messages.len(),
            frame::Frame::Hello(_) | frame::Frame::Goodbye(_) => 0,
        }
}

/// What tonic takes from a link, as fast as the peer takes it.
#[derive(Debug)]
pub struct Sending(pub Arc<Outgoing>);

impl Sending {
    fn poll(&self, cx: &Context<'_>) -> Poll<Option<Frames>> {
        let mut state = self.0.lock();
        match state.batch() {
            Some(frames) => Poll::Ready(Some(frames)),
            None if state.end != End::Open => Poll::Ready(None),
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// A caller's side.
impl Stream for Sending {
    type Item = Frames;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Frames>> {
        self.poll(cx)
    }
}

/// A callee's side.
#[derive(Debug)]
pub struct Answering(pub Sending);

impl Stream for Answering {
    type Item = Result<Frames, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll(cx).map(|frames| frames.map(Ok))
    }
}

/// The connection is gone, so nobody takes anything any more; unless all was taken, which must not be cut short.
impl Drop for Sending {
    fn drop(&mut self) {
        if self.0.is_open() {
            self.0.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use appsockets_proto::cluster::frame;
    use bytes::Bytes;
    use futures_util::{FutureExt, StreamExt};

    use super::{BATCH_BYTES, Outgoing, Sending, WAITING_MAX};

    fn next(sending: &mut Sending) -> Option<Vec<usize>> {
        let frames = sending.next().now_or_never().flatten()?.frames;
        let length = |frame: &appsockets_proto::cluster::Frame| match &frame.frame {
            Some(frame::Frame::Shard(shard)) => shard.messages.len(),
            other => panic!("{other:?} was not sent"),
        };
        Some(frames.iter().map(length).collect())
    }

    #[test]
    fn what_waits_goes_together_and_in_order() {
        let outgoing = Outgoing::new();
        let mut sending = Sending(outgoing.clone());
        assert_eq!(next(&mut sending), None);
        (1..=3).for_each(|length| outgoing.send_to_shard(0, vec![0; length].into()));
        assert_eq!(next(&mut sending), Some(vec![1, 2, 3]));
        assert_eq!(outgoing.waiting(), 0);
        (0..3).for_each(|_| outgoing.send_to_shard(0, vec![0; BATCH_BYTES / 2].into()));
        assert_eq!(next(&mut sending), Some(vec![BATCH_BYTES / 2; 2]));
        assert_eq!(next(&mut sending), Some(vec![BATCH_BYTES / 2]));
    }

    #[test]
    fn a_peer_that_takes_nothing_loses_its_link_and_costs_no_more() {
        let outgoing = Outgoing::new();
        let sending = Sending(outgoing.clone());
        let piece = Bytes::from(vec![0; 1 << 20]);
        let pieces = (0..).take_while(|_| {
            outgoing.send_to_shard(0, piece.clone());
            outgoing.is_open()
        });
        assert!(pieces.take(1000).count() <= WAITING_MAX >> 20);
        assert_eq!(outgoing.waiting(), 0);
        assert!(outgoing.closed().now_or_never().is_some());
        drop(sending);
    }

    #[test]
    fn the_last_words_are_sent() {
        let outgoing = Outgoing::new();
        let mut sending = Sending(outgoing.clone());
        outgoing.send_to_shard(0, vec![0; 5].into());
        outgoing.finish();
        outgoing.send_to_shard(0, vec![0; 6].into());
        assert_eq!(next(&mut sending), Some(vec![5]));
        assert_eq!(sending.next().now_or_never(), Some(None));
    }
}
