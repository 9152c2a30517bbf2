//! A node in this process, and what its clients do.

use std::{net::SocketAddr, time::Duration};

use appsockets_node::{config::Config, node::Node};
use futures_util::{SinkExt, StreamExt};
use rustls::pki_types::CertificateDer;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

use super::certificate::{Certificate, shake};

/// No test waits longer than this for anything. It only ends those that would wait for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);

const HUBS: &str = "kind: Hub\nname: shop\nspec: {defaultPublic: true, allowAnonymous: true}\n";

pub struct Server {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub metrics: SocketAddr,
    pub token: String,
    pub folder: TempDir,
    _stop: oneshot::Sender<()>,
}

impl Server {
    /// Shows the certificate to clients and administrators.
    pub async fn start(certificate: &Certificate) -> Server {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hubs.yaml");
        std::fs::write(&file, HUBS).unwrap();
        let mut config = Config { data: folder.path().join("data"), workers: 2, ..Config::default() };
        config.listen.set_port(0);
        config.metrics.listen = Some("127.0.0.1:0".parse().unwrap());
        config.tls = certificate.write(folder.path());
        config.admin.tls = config.tls.clone();
        let node = Node::start(config, Some(file)).await.unwrap();
        let (address, admin, metrics) =
            (node.address(), node.admin_address().unwrap(), node.metrics_address().unwrap());
        let token = std::fs::read_to_string(folder.path().join("data/admin.token")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(node.serve(async { drop(stopped.await) }));
        Server { address, admin, metrics, token, folder, _stop: stop }
    }

    pub async fn dial(&self, connector: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
        shake(connector, TcpStream::connect(self.address).await.unwrap()).await
    }

    /// A session over a WebSocket.
    pub async fn connect(&self, connector: &TlsConnector) -> Client {
        let stream = self.dial(connector).await.unwrap();
        let (socket, _) = client_async("wss://localhost/hubs/shop/ws", stream).await.unwrap();
        let mut client = Client(socket);
        client.until("SessionInfo").await;
        client
    }

    /// The value of a figure of the node.
    pub async fn figure(&self, name: &str) -> u64 {
        let metrics = get(TcpStream::connect(self.metrics).await.unwrap(), "/metrics", "").await;
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("appsockets_{name} ")));
        line.unwrap_or_else(|| panic!("{name} is not in {metrics}")).parse().unwrap()
    }
}

pub struct Client(WebSocketStream<TlsStream<TcpStream>>);

impl Client {
    pub async fn send(&mut self, text: impl ToString) {
        timeout(PATIENCE, self.0.send(Message::text(text.to_string()))).await.unwrap().unwrap();
    }

    /// The payload of the next event of this name.
    pub async fn until(&mut self, event: &str) -> Value {
        loop {
            let message = timeout(PATIENCE, self.0.next()).await.unwrap().unwrap().unwrap();
            let message: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
            if message["event"] == event {
                return message["payload"].clone();
            }
        }
    }

    /// The certificate that it was shown.
    pub fn shown(&self) -> CertificateDer<'static> {
        self.0.get_ref().get_ref().1.peer_certificates().unwrap()[0].clone().into_owned()
    }
}

/// Waits until it holds.
pub async fn eventually(mut condition: impl AsyncFnMut() -> bool) {
    let wait = async {
        while !condition().await {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, wait).await.expect("in time");
}

/// A whole answer, headers included.
pub async fn get(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, token: &str) -> String {
    let request =
        format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}
