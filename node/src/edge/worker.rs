//! A worker: its thread, and the handle by which others reach it.

use std::{
    io,
    net::{IpAddr, TcpListener},
    sync::Arc,
    thread::{self, JoinHandle},
};

use axum::{Router, response::Response};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::{
    net::TcpStream,
    sync::{
        mpsc::{self, error::TrySendError},
        watch,
    },
};
use tokio_rustls::server::TlsStream;

use super::{
    Connections, Handler, MailError, Options, Outboxes, Peer, Transport,
    conn::{Link, Socket},
    http,
    patient::Patient,
    secured::Secured,
    sse::{self, Notices, Stream},
    turn::{Driver, Inlets},
    ws::{Handshake, Kind, Reader},
};

/// How many connections may have been let in and not yet been taken over; the others wait before their first byte.
const ARRIVALS_MAX: usize = 1024;

/// A thread that serves sockets.
#[derive(Debug)]
pub struct Worker<T, M> {
    pub handle: WorkerHandle<T, M>,
    thread: JoinHandle<io::Result<()>>,
}

impl<T, M> Worker<T, M> {
    /// Waits for the end of the thread: after [`WorkerHandle::stop`], or an error of the poll. The outer error is a
    /// panic.
    pub fn join(self) -> thread::Result<io::Result<()>> {
        self.thread.join()
    }

    /// Whether the thread has ended, by whatever cause.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }
}

/// Starts a worker on its own listener (see [`super::listen`]). On its thread, `start` makes the handler and the
/// routes, whose handlers may keep the handle to let connections in.
pub fn spawn<H, F>(
    listener: TcpListener,
    options: Options,
    connections: Arc<Connections>,
    start: F,
) -> io::Result<Worker<H::Ticket, H::Mail>>
where
    H: Handler,
    F: FnOnce(WorkerHandle<H::Ticket, H::Mail>) -> (H, Router) + Send + 'static,
{
    let (mail_in, mail) = mpsc::channel(options.mail_max.max(1));
    let (arrivals_in, arrivals) = mpsc::channel(ARRIVALS_MAX);
    let (phase_in, phase) = watch::channel(Phase::Running);
    let notices = Arc::new(Notices::default());
    let handle = WorkerHandle {
        mail: mail_in,
        arrivals: arrivals_in,
        phase: Arc::new(phase_in),
        notices: notices.clone(),
        message_bytes_max: options.message_bytes_max,
    };
    let own = handle.clone();
    let work = move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async move {
            // Kept to the end: inlets whose last sender is gone would always be ready.
            let kept = own.clone();
            let (handler, router) = start(own);
            let accepting = http::accept(listener, router, options.clone(), connections.clone(), phase.clone());
            tokio::spawn(accepting);
            let inlets = Inlets { mail, arrivals, notices, phase };
            let result = Driver::new(handler, Outboxes::new(options, connections), inlets)?.run().await;
            drop(kept);
            result
        })
    };
    let thread = thread::Builder::new().name("worker".into()).spawn(work)?;
    Ok(Worker { handle, thread })
}

/// How far a worker's life has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Running,
    /// Accepts nothing more.
    Draining,
    Stopped,
}

/// A connection that was let in.
#[derive(Debug)]
pub(super) struct Arrival<T> {
    pub link: Link,
    pub transport: Transport,
    pub remote: IpAddr,
    pub ticket: T,
}

/// How other threads, and the worker's own HTTP handlers, reach a worker.
#[derive(Debug)]
pub struct WorkerHandle<T, M> {
    mail: mpsc::Sender<M>,
    arrivals: mpsc::Sender<Arrival<T>>,
    phase: Arc<watch::Sender<Phase>>,
    notices: Arc<Notices>,
    message_bytes_max: u32,
}

impl<T, M> Clone for WorkerHandle<T, M> {
    fn clone(&self) -> Self {
        WorkerHandle {
            mail: self.mail.clone(),
            arrivals: self.arrivals.clone(),
            phase: self.phase.clone(),
            notices: self.notices.clone(),
            message_bytes_max: self.message_bytes_max,
        }
    }
}

impl<T: Send + 'static, M: Send + 'static> WorkerHandle<T, M> {
    /// Leaves mail for the worker's handler and wakes it. Never waits.
    pub fn mail(&self, mail: M) -> Result<(), MailError<M>> {
        self.mail.try_send(mail).map_err(|error| match error {
            TrySendError::Full(mail) => MailError::Full(mail),
            TrySendError::Closed(mail) => MailError::Gone(mail),
        })
    }

    /// Lets a WebSocket in: the answer to its request. To be called by an HTTP handler of this very worker. If the
    /// client goes away before it has the answer, the ticket is dropped and the handler never hears of it.
    pub fn accept_websocket(&self, handshake: Handshake, peer: &Peer, ticket: T) -> Response {
        let response = handshake.response();
        let Handshake { format, kind, upgrade, .. } = handshake;
        let (arrivals, peer, max) = (self.arrivals.clone(), peer.clone(), self.message_bytes_max);
        tokio::spawn(async move {
            if let Some(link) = leave_tokio(upgrade, kind, &peer, max).await {
                let transport = Transport::WebSocket(format);
                let remote = peer.remote().ip();
                // Fails only when the worker ends, and the socket with it.
                _ = arrivals.send(Arrival { link, transport, remote, ticket }).await;
            }
        });
        response
    }

    /// Lets an SSE client in: the answer to its request. To be called by an HTTP handler of this very worker.
    pub fn accept_sse(&self, peer: &Peer, ticket: T) -> Response {
        let stream = Stream::new(self.notices.clone(), peer.clone());
        let (arrivals, link, remote) = (self.arrivals.clone(), Link::Stream(stream.clone()), peer.remote().ip());
        tokio::spawn(async move {
            _ = arrivals.send(Arrival { link, transport: Transport::Sse, remote, ticket }).await;
        });
        sse::response(stream)
    }

    /// Whether the worker takes mail: it ends when it no longer runs.
    pub fn is_running(&self) -> bool {
        !self.mail.is_closed()
    }

    /// Stops accepting connections; those that are there stay, but an HTTP connection ends with its next answer.
    pub fn drain(&self) {
        self.reach(Phase::Draining);
    }

    /// Ends the thread after one last flush. Whoever is still connected is cut off.
    pub fn stop(&self) {
        self.reach(Phase::Stopped);
    }

    fn reach(&self, phase: Phase) {
        self.phase.send_if_modified(|reached| {
            let on = phase > *reached;
            *reached = phase.max(*reached);
            on
        });
    }
}

/// The bare socket of an upgraded connection, with what was read of it already.
async fn leave_tokio(upgrade: OnUpgrade, kind: Option<Kind>, peer: &Peer, max: u32) -> Option<Link> {
    let upgraded: Upgraded = upgrade.await.ok()?;
    let (tcp, session, read) = match upgraded.downcast::<TokioIo<Patient<TcpStream>>>() {
        Ok(parts) => (parts.io.into_inner().into_inner(), None, parts.read_buf),
        Err(upgraded) => {
            let parts = upgraded.downcast::<TokioIo<Patient<TlsStream<TcpStream>>>>().ok()?;
            let (tcp, session) = parts.io.into_inner().into_inner().into_inner();
            (tcp, Some(session), parts.read_buf)
        }
    };
    let mut reader = Reader::new(max);
    reader.keep(&read);
    let tcp = mio::net::TcpStream::from_std(tcp.into_std().ok()?);
    let socket = Socket { tcp, reader, kind, _permit: peer.take_permit() };
    Some(match session {
        Some(session) => Link::Secured(Box::new(Secured::new(socket, session))),
        None => Link::Socket(socket),
    })
}
