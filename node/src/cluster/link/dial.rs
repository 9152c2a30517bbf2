//! Calls to other nodes.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use appsockets_proto::cluster::{frame, peer_client::PeerClient};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};
use tonic::{
    Request,
    metadata::MetadataValue,
    transport::{Channel, Endpoint},
};

use super::{
    HELLO_TIMEOUT, KEEP_ALIVE, KEEP_ALIVE_TIMEOUT, Local, MESSAGE_BYTES_MAX, Outgoing, Peer, SECRET_HEADER,
    WINDOW_BYTES, outgoing::Sending, receive,
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Why a node was not reached.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// Its machine says that nobody listens there.
    #[error("nobody listens there")]
    Refused,
    #[error("no connection: {0}")]
    Unreachable(io::Error),
    #[error("{0}")]
    Call(#[from] tonic::Status),
    #[error("{0}")]
    Transport(#[from] tonic::transport::Error),
    #[error("no answer in time")]
    Silent,
    #[error("somebody else is there now")]
    Replaced,
    #[error("the database of settings failed: {0}")]
    Database(#[from] sqlx::Error),
}

/// Makes this node known to another, and learns who that is.
pub async fn announce(local: &Local, address: SocketAddr) -> Result<Peer, Failure> {
    let mut client = client(address).await?;
    let call = client.announce(authorized(local, local.hello()));
    let hello = timeout(HELLO_TIMEOUT, call).await.map_err(|_| Failure::Silent)??;
    Ok(local.peer(hello.get_ref())?)
}

/// Opens the link to another node and hands over what comes on it, until it ends.
pub async fn dial(local: &Arc<Local>, address: SocketAddr) -> Result<(), Failure> {
    let mut client = client(address).await?;
    let outgoing = Outgoing::new();
    outgoing.send(frame::Frame::Hello(local.hello()));
    let sending = Sending(outgoing.clone());
    let opening = async {
        let mut frames = client.link(authorized(local, sending)).await?.into_inner();
        let peer = local.peer_of(frames.message().await?)?;
        Ok::<_, Failure>((frames, peer))
    };
    let (frames, peer) = timeout(HELLO_TIMEOUT, opening).await.map_err(|_| Failure::Silent)??;
    receive(local, frames, peer, outgoing).await;
    Ok(())
}

pub(super) fn authorized<T>(local: &Local, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let mut secret = MetadataValue::from_bytes(&local.rpc.first());
    secret.set_sensitive(true);
    request.metadata_mut().insert_bin(SECRET_HEADER, secret);
    request
}

async fn connect(address: SocketAddr) -> Result<TcpStream, Failure> {
    let connecting = timeout(CONNECT_TIMEOUT, TcpStream::connect(address));
    match connecting.await {
        Err(_) => Err(Failure::Silent),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => Err(Failure::Refused),
        Ok(connected) => connected.map_err(Failure::Unreachable),
    }
}

/// On a connection of its own, which is not made again when it breaks: that it broke is to be known.
pub(super) async fn client(address: SocketAddr) -> Result<PeerClient<Channel>, Failure> {
    let tcp = connect(address).await?;
    tcp.set_nodelay(true).map_err(Failure::Unreachable)?;
    let mut once = Some(TokioIo::new(tcp));
    let connector = tower::service_fn(move |_: tonic::transport::Uri| {
        let taken = once.take().ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(taken)
    });
    let endpoint = Endpoint::from_static("http://node")
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let channel = timeout(CONNECT_TIMEOUT, endpoint.connect_with_connector(connector));
    let channel = channel.await.map_err(|_| Failure::Silent)??;
    Ok(PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX))
}
