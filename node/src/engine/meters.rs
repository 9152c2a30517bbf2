//! What the node counts. A worker counts in plain numbers of its own and shows them once for each turn, so counting
//! takes neither a lock nor a shared cache line.

use std::sync::atomic::{AtomicU64, Ordering};

use appsockets_core::{code::ErrorCode, serial::Serial, shard::Moves};

const CODES: usize = ErrorCode::ALL.len();

/// What one worker has counted since it began, and what it holds now.
pub struct Counts {
    pub sessions: u64,
    pub parked: u64,
    pub channels: u64,
    pub accepted: u64,
    pub received: u64,
    pub received_bytes: u64,
    pub deliveries: u64,
    pub delivered_bytes: u64,
    pub moves: Moves,
    /// Publishes, in the order of [`ErrorCode::ALL`].
    refused: [u64; CODES],
    /// Whether something was refused since the numbers were shown.
    refusing: bool,
}

/// The figures of a worker as others see them, in the order of [`Figure`].
#[repr(align(128))]
pub struct WorkerMeter {
    figures: [AtomicU64; Figure::COUNT],
    refused: [AtomicU64; CODES],
}

/// One number of a worker.
#[derive(Clone, Copy, Debug)]
pub enum Figure {
    Sessions,
    Parked,
    Channels,
    Accepted,
    Received,
    ReceivedBytes,
    Deliveries,
    DeliveredBytes,
    HandedOver,
    TakenOver,
    TakenUp,
    Epochs,
    Waiting,
    Uncopied,
}

/// The figures of a node.
pub struct Meters {
    workers: Box<[WorkerMeter]>,
    stored: AtomicU64,
    store_failed: AtomicU64,
    authenticated: AtomicU64,
    not_authenticated: [AtomicU64; CODES],
}

impl Figure {
    const COUNT: usize = Figure::Uncopied as usize + 1;
}

impl Default for Counts {
    fn default() -> Self {
        Counts {
            sessions: 0,
            parked: 0,
            channels: 0,
            accepted: 0,
            received: 0,
            received_bytes: 0,
            deliveries: 0,
            delivered_bytes: 0,
            moves: Moves::default(),
            refused: [0; CODES],
            refusing: false,
        }
    }
}

impl Counts {
    /// Counts a publish if it was refused.
    pub fn outcome(&mut self, outcome: &Result<Serial, ErrorCode>) {
        if let Err(code) = outcome {
            self.refuse(*code);
        }
    }

    pub fn refuse(&mut self, code: ErrorCode) {
        if let Some(count) = place(code).and_then(|place| self.refused.get_mut(place)) {
            *count += 1;
            self.refusing = true;
        }
    }
}

impl WorkerMeter {
    fn new() -> Self {
        WorkerMeter { figures: zeros(), refused: zeros() }
    }

    /// Only the worker itself writes, so what it wrote last is what counts.
    pub fn show(&self, counts: &mut Counts) {
        let Moves { handed_over, taken_over, taken_up, epochs, waiting, uncopied } = counts.moves;
        let figures = [
            counts.sessions,
            counts.parked,
            counts.channels,
            counts.accepted,
            counts.received,
            counts.received_bytes,
            counts.deliveries,
            counts.delivered_bytes,
            handed_over,
            taken_over,
            taken_up,
            epochs,
            waiting,
            uncopied,
        ];
        self.figures.iter().zip(figures).for_each(|(shown, count)| shown.store(count, Ordering::Relaxed));
        if std::mem::take(&mut counts.refusing) {
            self.refused.iter().zip(counts.refused).for_each(|(shown, count)| shown.store(count, Ordering::Relaxed));
        }
    }
}

impl Meters {
    pub fn new(workers: usize) -> Self {
        Meters {
            workers: (0..workers).map(|_| WorkerMeter::new()).collect(),
            stored: AtomicU64::new(0),
            store_failed: AtomicU64::new(0),
            authenticated: AtomicU64::new(0),
            not_authenticated: zeros(),
        }
    }

    pub fn worker(&self, worker: u16) -> Option<&WorkerMeter> {
        self.workers.get(usize::from(worker))
    }

    /// Sessions that have a connection.
    pub fn connected(&self) -> u64 {
        self.sum(Figure::Sessions).saturating_sub(self.sum(Figure::Parked))
    }

    /// Of all workers together.
    pub fn sum(&self, figure: Figure) -> u64 {
        self.workers.iter().map(|worker| worker.figures[figure as usize].load(Ordering::Relaxed)).sum()
    }

    /// Publishes that were refused, for each code.
    pub fn refused(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let sum = |place: usize| {
            self.workers
                .iter()
                .filter_map(move |worker| worker.refused.get(place))
                .map(|shown| shown.load(Ordering::Relaxed))
                .sum()
        };
        ErrorCode::ALL.iter().enumerate().map(move |(place, code)| (*code, sum(place)))
    }

    /// A batch of so many messages was stored, or was not.
    pub fn count_stored(&self, messages: u64, ok: bool) {
        let count = if ok { &self.stored } else { &self.store_failed };
        count.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages that were stored, and that were not because the store failed.
    pub fn stored(&self) -> (u64, u64) {
        (self.stored.load(Ordering::Relaxed), self.store_failed.load(Ordering::Relaxed))
    }

    /// Somebody was authenticated, or was not for this reason.
    pub fn count_auth(&self, failure: Option<ErrorCode>) {
        let count = match failure {
            None => Some(&self.authenticated),
            Some(code) => place(code).and_then(|place| self.not_authenticated.get(place)),
        };
        if let Some(count) = count {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub fn authenticated(&self) -> u64 {
        self.authenticated.load(Ordering::Relaxed)
    }

    /// Authentications that failed, for each code.
    pub fn not_authenticated(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let counts = self.not_authenticated.iter().map(|count| count.load(Ordering::Relaxed));
        ErrorCode::ALL.iter().copied().zip(counts)
    }
}

fn place(code: ErrorCode) -> Option<usize> {
    // The codes rise, which a test of theirs holds them to.
    ErrorCode::ALL.binary_search(&code).ok()
}

fn zeros<const N: usize>() -> [AtomicU64; N] {
    std::array::from_fn(|_| AtomicU64::new(0))
}

#[cfg(test)]
mod tests {
    use appsockets_core::code::ErrorCode;

    use super::{Counts, Figure, Meters};

    #[test]
    fn the_workers_are_summed() {
        let meters = Meters::new(2);
        for worker in 0..2 {
            let mut counts = Counts { deliveries: 3, ..Counts::default() };
            counts.refuse(ErrorCode::ChannelDenied);
            meters.worker(worker).unwrap().show(&mut counts);
        }
        assert_eq!((meters.sum(Figure::Deliveries), meters.sum(Figure::Received)), (6, 0));
        let refused: Vec<_> = meters.refused().filter(|(_, count)| *count > 0).collect();
        assert_eq!(refused, [(ErrorCode::ChannelDenied, 2)]);
    }

    #[test]
    fn every_code_can_be_counted() {
        let meters = Meters::new(0);
        ErrorCode::ALL.iter().for_each(|code| meters.count_auth(Some(*code)));
        meters.count_auth(None);
        assert!(meters.not_authenticated().all(|(_, count)| count == 1));
        assert_eq!(meters.authenticated(), 1);
    }
}
