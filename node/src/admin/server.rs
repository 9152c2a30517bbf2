//! The listeners for administrators and for what watches the node.

use std::{net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use anyhow::Context;
use axum::{Router, body::Body};
use hyper::{Request, server::conn::http1};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinHandle,
    time,
};
use tower::ServiceExt;

use crate::tls::{self, Tls};

/// Connections at a time; the others wait before their first byte.
const CONNECTIONS_MAX: usize = 256;
/// For the header of a request, and for how long a connection may do nothing.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection as a whole, so that no reader who never reads holds its place for ever.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(300);
/// Accepting fails when the process has no descriptors left, and would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves until it is dropped.
pub struct Server {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Server {
    /// Begins to serve, on the runtime that this is called on. `key` is the one that configures the address.
    pub async fn start(
        key: &str,
        address: SocketAddr,
        router: Router,
        tls: Option<Arc<Tls>>,
    ) -> anyhow::Result<Server> {
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("{key}: {address} can't be listened on"))?;
        let address = listener.local_addr()?;
        tracing::info!("{key}: {}://{address}", tls::scheme(tls.is_some()));
        Ok(Server { address, serving: tokio::spawn(accept(listener, router, tls)) })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn accept(listener: TcpListener, router: Router, tls: Option<Arc<Tls>>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    // Closed by nobody, so this lasts as long as the task.
    while let Ok(place) = places.clone().acquire_owned().await {
        match listener.accept().await {
            Ok((stream, _)) => drop(tokio::spawn(welcome(stream, router.clone(), tls.clone(), place))),
            Err(error) => {
                tracing::warn!(%error, "an administrator's connection was not accepted");
                time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn welcome(stream: TcpStream, router: Router, tls: Option<Arc<Tls>>, _place: OwnedSemaphorePermit) {
    match tls {
        None => serve(stream, router).await,
        Some(tls) => match tls.accept(stream, HEADER_TIMEOUT).await {
            Ok(stream) => serve(stream, router).await,
            Err(error) => tracing::debug!(%error, "an administrator's TLS handshake failed"),
        },
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, router: Router) {
    let service = TowerToHyperService::new(router.map_request(|request: Request<_>| request.map(Body::new)));
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
    let connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    if let Ok(Err(error)) = time::timeout(CONNECTION_TIMEOUT, connection).await {
        tracing::debug!(%error, "an administrator's connection broke");
    }
}
