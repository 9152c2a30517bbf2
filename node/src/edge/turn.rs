//! The turn of a worker: everything that one wake-up brought, then one flush.

use std::{io, mem, pin::pin, sync::Arc};

use appsockets_core::time::Now;
use mio::{Events, Interest, Poll, Token};
use tokio::{
    io::{Interest as Direction, unix::AsyncFd},
    sync::{mpsc, watch},
    task::yield_now,
    time::{Instant, Sleep, sleep_until},
};

use super::{
    Closed, ConnId, Handler, Opening, Outboxes, clock,
    conn::{Link, Socket},
    outbox::Told,
    sse::{Look, Notices},
    worker::{Arrival, Phase},
};

/// The most of each that one turn takes in, so that everybody gets to be served.
const EVENTS_PER_TURN: usize = 1024;
const READS_PER_TURN: usize = 1024;
const ARRIVALS_PER_TURN: usize = 256;
const MAILS_PER_TURN: usize = 1024;
/// Also the most that is read of one connection in a turn. Hundreds of small messages fit in, and each client waits for
/// those of all others, so more would let a few clients that flood the node delay everybody.
const SCRATCH_BYTES: usize = 16 << 10;
const SWEEP_INTERVAL_MS: u64 = 100;

/// A worker at work.
pub(super) struct Driver<H: Handler> {
    pub handler: H,
    pub out: Outboxes,
    pub scratch: Vec<u8>,
    poll: AsyncFd<Poll>,
    events: Events,
    mail: mpsc::Receiver<H::Mail>,
    mails: Vec<H::Mail>,
    arrivals: mpsc::Receiver<Arrival<H::Ticket>>,
    arrived: Vec<Arrival<H::Ticket>>,
    notices: Arc<Notices>,
    phase: watch::Receiver<Phase>,
    sweep_ms: u64,
}

/// When the next turn is due.
enum Next {
    Now,
    At(u64),
    Woken,
}

/// Where a worker gets from others what its sockets do not bring.
pub(super) struct Inlets<H: Handler> {
    pub mail: mpsc::Receiver<H::Mail>,
    pub arrivals: mpsc::Receiver<Arrival<H::Ticket>>,
    pub notices: Arc<Notices>,
    pub phase: watch::Receiver<Phase>,
}

impl<H: Handler> Driver<H> {
    pub fn new(handler: H, out: Outboxes, inlets: Inlets<H>) -> io::Result<Driver<H>> {
        let Inlets { mail, arrivals, notices, phase } = inlets;
        Ok(Driver {
            handler,
            out,
            scratch: vec![0; SCRATCH_BYTES],
            poll: register(Poll::new()?)?,
            events: Events::with_capacity(EVENTS_PER_TURN),
            mail,
            mails: Vec::new(),
            arrivals,
            arrived: Vec::new(),
            notices,
            phase,
            sweep_ms: 0,
        })
    }

    /// Takes turns until the worker is stopped.
    pub async fn run(mut self) -> io::Result<()> {
        let mut sleep = pin!(sleep_until(Instant::now()));
        loop {
            let next = self.turn()?;
            if *self.phase.borrow() == Phase::Stopped {
                return Ok(());
            }
            match next {
                Next::Now => yield_now().await,
                Next::At(mono_ms) => {
                    let at = clock::instant(mono_ms).into();
                    if sleep.deadline() != at {
                        sleep.as_mut().reset(at);
                    }
                    self.wait(Some(sleep.as_mut())).await?;
                }
                Next::Woken => self.wait(None).await?,
            }
        }
    }

    /// Waits for anything to do.
    async fn wait(&mut self, sleep: Option<std::pin::Pin<&mut Sleep>>) -> io::Result<()> {
        let timed = sleep.is_some();
        let sleep = async {
            if let Some(sleep) = sleep {
                sleep.await;
            }
        };
        tokio::select! {
            biased;
            ready = self.poll.readable() => ready?.clear_ready(),
            _ = self.mail.recv_many(&mut self.mails, 1) => {}
            _ = self.arrivals.recv_many(&mut self.arrived, 1) => {}
            () = self.notices.came.notified() => {}
            _ = self.phase.changed() => {}
            () = sleep, if timed => {}
        }
        Ok(())
    }

    fn turn(&mut self) -> io::Result<Next> {
        let now = clock::now();
        self.out.now_ms = now.mono_ms;
        let mut more = self.take_events()?;
        more |= self.take_arrivals(now);
        self.take_reads(now);
        more |= self.take_mail(now);
        self.take_notices(now);
        self.take_deadlines(now);
        let due = self.handler.turn(now, &mut self.out);
        self.out.flush();
        more |= self.tell(now);
        Ok(self.due(more, due, now))
    }

    fn due(&self, more: bool, due: Option<u64>, now: Now) -> Next {
        if more || !self.out.ready.is_empty() || !self.out.dirty.is_empty() || !self.out.told.is_empty() {
            return Next::Now;
        }
        let sweep = (!self.out.waiting.is_empty()).then_some(self.sweep_ms);
        match due.into_iter().chain(sweep).min() {
            Some(due) if due <= now.mono_ms => Next::Now,
            Some(due) => Next::At(due),
            None => Next::Woken,
        }
    }

    /// Notes what the kernel tells of the sockets. Whether it may have more to tell.
    fn take_events(&mut self) -> io::Result<bool> {
        match self.poll.get_mut().poll(&mut self.events, Some(std::time::Duration::ZERO)) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        let mut count = 0;
        for event in &self.events {
            count += 1;
            let id = conn_id(event.token());
            let Some(conn) = self.out.get(id) else { continue };
            let hung_up = event.is_read_closed() || event.is_error();
            let readable = event.is_readable() || hung_up;
            conn.flags.hung_up |= hung_up;
            conn.flags.readable |= readable;
            let room = event.is_writable() && mem::take(&mut conn.flags.blocked) && conn.has_unwritten();
            if room && !mem::replace(&mut conn.flags.dirty, true) {
                self.out.dirty.push(id.slot);
            }
            if readable {
                self.out.list(id);
            }
        }
        Ok(count == EVENTS_PER_TURN)
    }

    fn take_reads(&mut self, now: Now) {
        for _ in 0..self.out.ready.len().min(READS_PER_TURN) {
            if let Some(id) = self.out.ready.pop_front() {
                self.read(id, now);
            }
        }
    }

    fn take_arrivals(&mut self, now: Now) -> bool {
        let full = refill(&mut self.arrived, &mut self.arrivals, ARRIVALS_PER_TURN);
        let mut arrived = mem::take(&mut self.arrived);
        for arrival in arrived.drain(..) {
            self.open(arrival, now);
        }
        self.arrived = arrived;
        full
    }

    fn take_mail(&mut self, now: Now) -> bool {
        let full = refill(&mut self.mails, &mut self.mail, MAILS_PER_TURN);
        let mut mails = mem::take(&mut self.mails);
        for mail in mails.drain(..) {
            self.handler.mail(mail, now, &mut self.out);
        }
        self.mails = mails;
        full
    }

    fn open(&mut self, arrival: Arrival<H::Ticket>, now: Now) {
        let Arrival { link, transport, remote, ticket } = arrival;
        let id = self.out.insert(link);
        let Some(conn) = self.out.get(id) else { return };
        let opened = match &mut conn.link {
            Link::Stream(stream) => stream.open(id),
            Link::Socket(socket) => register_socket(self.poll.get_ref(), socket, id),
            Link::Secured(secured) => register_socket(self.poll.get_ref(), &mut secured.socket, id),
        };
        if !opened {
            self.out.remove(id);
            return;
        }
        self.handler.opened(id, Opening { transport, remote, ticket }, now, &mut self.out);
        // There may be bytes that came with the handshake.
        self.out.list(id);
        self.out.answer(id);
    }

    /// Looks at the streams that something happened to.
    fn take_notices(&mut self, now: Now) {
        for id in self.notices.take() {
            let Some(conn) = self.out.get(id) else { continue };
            let closing = conn.flags.closing;
            let Link::Stream(stream) = &conn.link else { continue };
            match stream.look() {
                Look::Gone => {
                    self.out.remove(id);
                    if !closing {
                        self.handler.closed(id, Closed::Broken, now, &mut self.out);
                    }
                }
                Look::Drained if !closing => self.handler.drained(id, now, &mut self.out),
                Look::Drained | Look::Nothing => {}
            }
        }
    }

    fn take_deadlines(&mut self, now: Now) {
        // The second condition bounds a list in which those that are gone are only found by the sweep.
        if now.mono_ms >= self.sweep_ms || self.out.waiting.len() > 2 * self.out.conns.len() + EVENTS_PER_TURN {
            self.sweep_ms = now.mono_ms + SWEEP_INTERVAL_MS;
            self.out.sweep();
        }
    }

    /// Tells the handler what the flush found out, and whether there was anything. What it does about it is sent and
    /// written in the next turn, which must follow at once.
    fn tell(&mut self, now: Now) -> bool {
        let told = mem::take(&mut self.out.told);
        let any = !told.is_empty();
        for told in told {
            match told {
                Told::Broken(id) => self.handler.closed(id, Closed::Broken, now, &mut self.out),
                Told::Drained(id) => {
                    if self.out.get(id).is_some_and(|conn| mem::take(&mut conn.flags.full)) {
                        self.handler.drained(id, now, &mut self.out);
                    }
                }
            }
        }
        any
    }
}

/// Has tokio tell when the poll has something to tell.
fn register(poll: Poll) -> io::Result<AsyncFd<Poll>> {
    // SAFETY: a `Poll` owns its descriptor until it is dropped, and the one in the `AsyncFd` is never replaced.
    Ok(unsafe { AsyncFd::register_with_interest(poll, Direction::READABLE) }?)
}

/// Whether the poll will tell of the socket.
fn register_socket(poll: &Poll, socket: &mut Socket, id: ConnId) -> bool {
    poll.registry().register(&mut socket.tcp, token(id), Interest::READABLE | Interest::WRITABLE).is_ok()
}

/// Fills up to the limit; whether it was reached.
fn refill<T>(batch: &mut Vec<T>, from: &mut mpsc::Receiver<T>, limit: usize) -> bool {
    while batch.len() < limit {
        match from.try_recv() {
            Ok(one) => batch.push(one),
            Err(_) => return false,
        }
    }
    true
}

const fn token(id: ConnId) -> Token {
    Token((id.generation as usize) << 32 | id.slot as usize)
}

const fn conn_id(token: Token) -> ConnId {
    ConnId { slot: token.0 as u32, generation: (token.0 >> 32) as u32 }
}
