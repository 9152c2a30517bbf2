//! The peer port.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering},
};

use appsockets_proto::cluster::{
    Frames, Hello, ReadHandedRequest, ReadHandedResponse, ReadSettingsRequest, ReadSettingsResponse, frame,
    peer_server::{Peer as PeerService, PeerServer},
};
use futures_util::{Stream, StreamExt};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Server, server::TcpIncoming},
};

use super::{
    HELLO_TIMEOUT, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, LinkEvent, Local, MESSAGE_BYTES_MAX, Outgoing, SECRET_HEADER,
    WINDOW_BYTES,
    outgoing::{Answering, Sending},
    receive,
    settings::{self, Part},
};

/// Calls that are answered at a time; more are refused.
const CALLS_MAX: usize = 1024;

/// Answers other nodes until `stop` says so.
pub async fn serve(local: Arc<Local>, listener: TcpListener, mut stop: watch::Receiver<bool>) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let calls = Arc::new(Semaphore::new(CALLS_MAX));
    let service = PeerServer::new(Service { local, calls })
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX);
    Server::builder()
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT))
        .max_concurrent_streams(64)
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, async move { drop(stop.wait_for(|stop| *stop).await) })
        .await?;
    Ok(())
}

struct Service {
    local: Arc<Local>,
    calls: Arc<Semaphore>,
}

impl Service {
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        let shown = request.metadata().get_bin(SECRET_HEADER).and_then(|value| value.to_bytes().ok());
        if shown.is_some_and(|shown| self.local.rpc.knows(&shown)) {
            return Ok(());
        }
        self.local.counters.denied.fetch_add(1, Ordering::Relaxed);
        Err(Status::unauthenticated("Show the cluster's RPC secret: set `cluster.rpc.secretKey` alike on all nodes."))
    }
}

#[tonic::async_trait]
impl PeerService for Service {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Frames, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Frames>>) -> Result<Response<Self::LinkStream>, Status> {
        self.admit(&request)?;
        let full = |_| Status::resource_exhausted("This node has as many links as it may.");
        let permit = self.calls.clone().try_acquire_owned().map_err(full)?;
        let mut frames = request.into_inner();
        let late = |_| Status::deadline_exceeded("The first frame of a link says who sends it.");
        let first = timeout(HELLO_TIMEOUT, frames.message()).await.map_err(late)??;
        let peer = self.local.peer_of(first)?;
        let outgoing = Outgoing::new();
        outgoing.send(frame::Frame::Hello(self.local.hello()));
        let answering = Answering(Sending(outgoing.clone()));
        let local = self.local.clone();
        tokio::spawn(async move {
            receive(&local, frames, peer, outgoing).await;
            drop(permit);
        });
        Ok(Response::new(answering.boxed()))
    }

    async fn announce(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        self.admit(&request)?;
        let peer = self.local.peer(request.get_ref())?;
        let ends = |_| Status::unavailable("This node ends.");
        self.local.events.send(LinkEvent::Met(peer)).await.map_err(ends)?;
        Ok(Response::new(self.local.hello()))
    }

    async fn read_settings(
        &self,
        request: Request<ReadSettingsRequest>,
    ) -> Result<Response<ReadSettingsResponse>, Status> {
        self.admit(&request)?;
        settings::answer(&self.local, Part::Settings, request.get_ref().after).await.map(Response::new)
    }

    async fn read_metadata(
        &self,
        request: Request<ReadSettingsRequest>,
    ) -> Result<Response<ReadSettingsResponse>, Status> {
        self.admit(&request)?;
        settings::answer(&self.local, Part::Metadata, request.get_ref().after).await.map(Response::new)
    }

    async fn read_handed(&self, request: Request<ReadHandedRequest>) -> Result<Response<ReadHandedResponse>, Status> {
        self.admit(&request)?;
        Ok(Response::new(settings::handed(&self.local, request.get_ref()).await))
    }
}
