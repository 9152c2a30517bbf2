//! A worker whose handler tells the test what it is called for, and does what the test tells it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use appsockets_core::time::Now;
use appsockets_node::edge::{
    self, Closed, ConnId, Connections, Handler, Opening, Options, Outboxes, Peer, Transport, Worker,
    ws::{self, Kind, Subprotocols},
};
use appsockets_node::tls::Tls;
use axum::{
    Extension, Router,
    extract::Request,
    response::IntoResponse,
    routing::{any, get},
};
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::mpsc,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{ClientRequestBuilder, handshake::client::Response},
};

use crate::{
    SECURED,
    certificate::{self, Certificate},
};

pub const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Opened(ConnId, Transport),
    Received(ConnId, Vec<u8>),
    Heard(ConnId),
    Drained(ConnId),
    Closed(ConnId, Closed),
}

/// Done on the worker's thread.
pub type Order = Box<dyn FnOnce(&mut Outboxes) + Send>;

struct Probe {
    events: mpsc::UnboundedSender<Event>,
    /// What each message is answered with; the message itself if there is none.
    answer: Option<Bytes>,
}

impl Probe {
    fn tell(&self, event: Event) {
        // A test that has seen enough does not listen any more.
        _ = self.events.send(event);
    }
}

impl Handler for Probe {
    type Ticket = ();
    type Mail = Order;

    fn opened(&mut self, conn: ConnId, opening: Opening<()>, _: Now, _: &mut Outboxes) {
        assert!(opening.remote.is_loopback());
        self.tell(Event::Opened(conn, opening.transport));
    }

    fn received(&mut self, conn: ConnId, message: &[u8], _: Now, out: &mut Outboxes) {
        self.tell(Event::Received(conn, message.to_vec()));
        out.reply(conn, self.answer.clone().unwrap_or_else(|| edge::frame(Kind::Text, message)));
    }

    fn heard(&mut self, conn: ConnId, _: Now) {
        self.tell(Event::Heard(conn));
    }

    fn drained(&mut self, conn: ConnId, _: Now, _: &mut Outboxes) {
        self.tell(Event::Drained(conn));
    }

    fn closed(&mut self, conn: ConnId, how: Closed, _: Now, _: &mut Outboxes) {
        self.tell(Event::Closed(conn, how));
    }

    fn mail(&mut self, order: Order, _: Now, out: &mut Outboxes) {
        order(out);
    }

    fn turn(&mut self, _: Now, _: &mut Outboxes) -> Option<u64> {
        None
    }
}

/// A connection of a client, with TLS or without.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
pub type Wire = Box<dyn Io>;

pub struct Server {
    pub address: SocketAddr,
    /// Of clients, if it speaks TLS.
    pub connector: Option<TlsConnector>,
    pub worker: Worker<(), Order>,
    pub connections: Arc<Connections>,
    events: mpsc::UnboundedReceiver<Event>,
}

impl Server {
    pub fn start(options: Options) -> Server {
        Server::start_with(options, 100, None)
    }

    pub fn start_with(mut options: Options, connections_max: usize, answer: Option<Bytes>) -> Server {
        let mut connector = None;
        if SECURED {
            let (certificate, folder) = (Certificate::new(), tempfile::tempdir().unwrap());
            options.tls = Tls::load("tls", &certificate.write(folder.path())).unwrap();
            connector = Some(certificate.connector());
        }
        let listener = edge::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, events) = mpsc::unbounded_channel();
        let connections = Connections::new(connections_max);
        let worker = edge::spawn(listener, options, connections.clone(), move |handle| {
            let for_sse = handle.clone();
            let websocket = |Extension(peer): Extension<Peer>, mut request: Request| async move {
                match ws::handshake(&mut request, Subprotocols::Formats) {
                    Ok(handshake) => handle.accept_websocket(handshake, &peer, ()),
                    Err(refusal) => refusal.into_response(),
                }
            };
            let sse = |Extension(peer): Extension<Peer>| async move { for_sse.accept_sse(&peer, ()) };
            // More than kernels buffer.
            let large = || async { vec![b'x'; 32 << 20] };
            let router = Router::new().route("/ws", any(websocket)).route("/sse", get(sse)).route("/large", get(large));
            (Probe { events: tell, answer }, router)
        });
        Server { address, connector, worker: worker.unwrap(), connections, events }
    }

    /// A connection on which nothing has been said.
    pub async fn dial(&self) -> Wire {
        let stream = TcpStream::connect(self.address).await.unwrap();
        match &self.connector {
            Some(connector) => Box::new(certificate::shake(connector, stream).await.unwrap()),
            None => Box::new(stream),
        }
    }

    pub async fn connect(&self, subprotocol: &str) -> (WebSocketStream<Wire>, Response) {
        let mut request = ClientRequestBuilder::new(format!("ws://{}/ws", self.address).parse().unwrap());
        if !subprotocol.is_empty() {
            request = request.with_sub_protocol(subprotocol);
        }
        client_async(request, self.dial().await).await.unwrap()
    }

    /// A WebSocket client, and what the server calls it.
    pub async fn client(&mut self) -> (WebSocketStream<Wire>, ConnId) {
        let (client, _) = self.connect("").await;
        let conn = self.opened().await;
        (client, conn)
    }

    pub async fn opened(&mut self) -> ConnId {
        match self.event().await {
            Event::Opened(conn, _) => conn,
            other => panic!("{other:?} instead of a new connection"),
        }
    }

    pub async fn event(&mut self) -> Event {
        within(self.events.recv()).await.expect("the worker is there")
    }

    /// The next event that is not a mere sign of life.
    pub async fn telling_event(&mut self) -> Event {
        loop {
            let event = self.event().await;
            if !matches!(event, Event::Heard(_)) {
                return event;
            }
        }
    }

    pub fn events_so_far(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }

    /// Has the worker do it, and waits for the outcome.
    pub async fn order<R: Send + 'static>(&self, order: impl FnOnce(&mut Outboxes) -> R + Send + 'static) -> R {
        let (tell, told) = tokio::sync::oneshot::channel();
        let order: Order = Box::new(move |out| _ = tell.send(order(out)));
        assert!(self.worker.handle.mail(order).is_ok());
        within(told).await.unwrap()
    }

    pub fn stop(self) {
        self.worker.handle.stop();
        self.worker.join().unwrap().unwrap();
    }
}

pub async fn within<F: Future>(future: F) -> F::Output {
    timeout(PATIENCE, future).await.expect("in time")
}

/// Waits until it holds.
pub async fn until(mut condition: impl FnMut() -> bool) {
    within(async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
