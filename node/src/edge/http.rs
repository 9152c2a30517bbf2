//! The HTTP side of a worker: its listener, accepting, and serving requests until they are answered or upgraded.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    pin::pin,
    sync::Arc,
    time::Duration,
};

use axum::{Router, http::Request, response::Response};
use futures_util::FutureExt;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::sleep,
};
use tower::Service as _;
use tracing::{debug, warn};

use super::{Connections, Options, Peer, patient::Patient, worker::Phase};
use crate::tls::Tls;

const BACKLOG: i32 = 4096;
/// What the kernel takes for a client beyond what the client has room for. Left alone it takes megabytes for each that
/// does not read, which no bound of ours knows of, and which all go at once when those are dropped.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// How much hyper buffers for one connection: the header of a request, or of an answer what the kernel does not take.
const HTTP_BUFFER_BYTES: usize = 16 << 10;
/// Accepting fails when the process has no descriptors left, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A listener for one worker. Several share an address; the kernel spreads connections over them. For port 0, ask the
/// first for its port and give that to the others.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // Connections have it from their listener.
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What connections are served with.
#[derive(Clone)]
struct Service {
    router: Router,
    header_timeout: Duration,
    write_timeout: Duration,
    full: Arc<[u8]>,
    phase: watch::Receiver<Phase>,
}

/// Accepts until the worker drains.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    options: Options,
    connections: Arc<Connections>,
    mut phase: watch::Receiver<Phase>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return warn!(%error, "the listener can't be used"),
    };
    let service = Service {
        router,
        header_timeout: Duration::from_millis(options.header_timeout_ms),
        write_timeout: Duration::from_millis(options.write_timeout_ms),
        full: options.full,
        phase: phase.clone(),
    };
    let handshakes = Handshakes::new(options.tls, options.handshakes_max);
    let admit = |stream, remote, place| admit(stream, remote, place, &service, &connections);
    loop {
        let accepted = tokio::select! {
            accepted = async { (handshakes.place().await, listener.accept().await) } => accepted,
            () = left_running(&mut phase) => break,
        };
        match accepted {
            (place, Ok((stream, remote))) => admit(stream, remote, place),
            (_, Err(error)) => {
                warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that the kernel has already answered would be reset with the listener.
    while let Some((place, Ok((stream, remote)))) =
        async { (handshakes.place().await, listener.accept().await) }.now_or_never()
    {
        admit(stream, remote, place);
    }
}

/// Bounds the handshakes that are under way, if TLS is spoken.
struct Handshakes {
    tls: Option<Arc<Tls>>,
    places: Arc<Semaphore>,
}

/// A handshake's place, until it is done.
struct Place {
    tls: Arc<Tls>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Handshakes {
    fn new(tls: Option<Arc<Tls>>, max: u32) -> Handshakes {
        Handshakes { tls, places: Arc::new(Semaphore::new(max as usize)) }
    }

    /// Waits until there is a place; none without TLS.
    async fn place(&self) -> Option<Place> {
        let tls = self.tls.clone()?;
        // It fails only when the semaphore is closed, which nobody does.
        Some(Place { tls, _permit: self.places.clone().acquire_owned().await.ok() })
    }
}

/// Serves the connection on a task of its own, if there is a place for it.
fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    place: Option<Place>,
    service: &Service,
    connections: &Arc<Connections>,
) {
    let Some(permit) = connections.enter() else {
        if place.is_none() {
            // As much of a courtesy as goes without waiting.
            _ = stream.try_write(&service.full);
        }
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%error, "the connection ended before it began");
    }
    let peer = Peer::new(remote, permit);
    // Two kinds of task, so that one without TLS has no room for it.
    let task = match place {
        None => tokio::spawn(service.clone().serve(stream, peer.clone())),
        Some(place) => tokio::spawn(service.clone().serve_secured(stream, peer.clone(), place)),
    };
    peer.served_by(task.abort_handle());
}

impl Service {
    /// Serves after a handshake of TLS.
    async fn serve_secured(self, stream: TcpStream, peer: Peer, place: Place) {
        match place.tls.accept(stream, self.header_timeout).await {
            Ok(stream) => {
                drop(place);
                self.serve(stream, peer).await;
            }
            Err(error) => {
                debug!(%error, "a TLS handshake failed");
                if error.kind() == io::ErrorKind::TimedOut {
                    peer.count_late();
                }
            }
        }
    }

    /// Serves until the client has its last answer, or the connection is another protocol's.
    async fn serve<S>(self, stream: S, peer: Peer)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Service { router, header_timeout, write_timeout, mut phase, full: _ } = self;
        let (late, stream) = (peer.clone(), Patient::new(stream, write_timeout, peer.clone()));
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(peer.clone());
            let answer: <Router as tower::Service<Request<Incoming>>>::Future = router.clone().call(request);
            async move { Ok::<Response, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
        });
        let serving = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(header_timeout)
            .max_buf_size(HTTP_BUFFER_BYTES)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        let mut serving = pin!(serving);
        let result = tokio::select! {
            result = serving.as_mut() => result,
            () = left_running(&mut phase) => {
                serving.as_mut().graceful_shutdown();
                serving.await
            }
        };
        if let Err(error) = result {
            debug!(%error, "an HTTP connection ended early");
            if error.is_timeout() {
                late.count_late();
            }
        }
    }
}

/// Waits until the worker drains or stops.
async fn left_running(phase: &mut watch::Receiver<Phase>) {
    // An error says that nobody is left to tell, which is an end as well.
    _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}
