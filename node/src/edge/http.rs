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
use tokio::{net::TcpStream, sync::watch, time::sleep};
use tower::Service;
use tracing::{debug, warn};

use super::{Connections, Options, Peer, worker::Phase};

const BACKLOG: i32 = 4096;
/// What the kernel takes for a client beyond what the client has room for. Left alone it takes megabytes for each that
/// does not read, which no bound of ours knows of, and which all go at once when those are dropped.
const UNSENT_BYTES_MAX: u32 = 128 << 10;
/// How much hyper buffers for one connection: the header of a request, or of an answer what the kernel does not take.
const HTTP_BUFFER_BYTES: usize = 16 << 10;
/// Accepting fails when the process has no descriptors left, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
const FULL: &[u8] =
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n";

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
    let admission = phase.clone();
    let admit = |stream, remote| admit(stream, remote, &router, &options, &connections, &admission);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = left_running(&mut phase) => break,
        };
        match accepted {
            Ok((stream, remote)) => admit(stream, remote),
            Err(error) => {
                warn!(%error, "accepting a connection failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    // Those that the kernel has already answered would be reset with the listener.
    while let Some(Ok((stream, remote))) = listener.accept().now_or_never() {
        admit(stream, remote);
    }
}

/// Serves the connection on a task of its own, if there is a place for it.
fn admit(
    stream: TcpStream,
    remote: SocketAddr,
    router: &Router,
    options: &Options,
    connections: &Arc<Connections>,
    phase: &watch::Receiver<Phase>,
) {
    let Some(permit) = connections.enter() else {
        // As much of a courtesy as goes without waiting.
        _ = stream.try_write(FULL);
        return;
    };
    if let Err(error) = stream.set_nodelay(true) {
        return debug!(%error, "the connection ended before it began");
    }
    let peer = Peer::new(remote, permit);
    let timeout = Duration::from_millis(options.header_timeout_ms);
    let task = tokio::spawn(serve(stream, router.clone(), peer.clone(), timeout, phase.clone()));
    peer.served_by(task.abort_handle());
}

/// Serves until the client has its last answer, or the connection is another protocol's.
async fn serve(stream: TcpStream, router: Router, peer: Peer, timeout: Duration, mut phase: watch::Receiver<Phase>) {
    let late = peer.clone();
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        let answer: <Router as Service<Request<Incoming>>>::Future = router.clone().call(request);
        async move { Ok::<Response, Infallible>(answer.await.unwrap_or_else(|never| match never {})) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(timeout)
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

/// Waits until the worker drains or stops.
async fn left_running(phase: &mut watch::Receiver<Phase>) {
    // An error says that nobody is left to tell, which is an end as well.
    _ = phase.wait_for(|phase| *phase != Phase::Running).await;
}
