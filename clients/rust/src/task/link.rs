//! The WebSocket: being made, open, or not there.

use std::{collections::VecDeque, future::pending, pin::Pin, task::Poll, time::Duration};

use bytes::Bytes;
use futures_util::{
    Sink, SinkExt, StreamExt,
    stream::{SplitSink, SplitStream},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{self, Message, client::IntoClientRequest, handshake::client::Request, http::HeaderValue},
};

use crate::{
    event::{Error, Failure, Refusal},
    machine::Break,
};

const SUBPROTOCOL: &str = "appsockets.v1.protobuf";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;
type Dialing = Pin<Box<dyn Future<Output = Result<Socket, Break>> + Send>>;

pub struct Link {
    /// One for each node.
    requests: Vec<Request>,
    /// Whose turn it is.
    next: usize,
    dialing: Option<Dialing>,
    stream: Option<SplitStream<Socket>>,
    sink: Option<SplitSink<Socket, Message>>,
    /// Bounded by what the machine leaves unanswered.
    outbox: VecDeque<Bytes>,
    flushed: bool,
}

pub enum Heard {
    Connected,
    Message(Bytes),
    /// A frame that carries no message.
    Sign,
    Broken(Break),
}

fn request(url: &str, hub: &str) -> Result<Request, Error> {
    let hub = utf8_percent_encode(hub, NON_ALPHANUMERIC);
    let address = format!("{}/hubs/{hub}/ws", url.trim_end_matches('/'));
    let mut request = address.into_client_request().map_err(|error| Error::BadUrl(error.to_string()))?;
    if !matches!(request.uri().scheme_str(), Some("ws" | "wss")) {
        return Err(Error::BadUrl(format!("{url} does not begin with ws:// or wss://")));
    }
    request.headers_mut().insert("sec-websocket-protocol", HeaderValue::from_static(SUBPROTOCOL));
    Ok(request)
}

impl Link {
    /// Fails with [`Error::BadUrl`].
    pub fn new<'a>(urls: impl Iterator<Item = &'a String>, hub: &str) -> Result<Link, Error> {
        let requests = urls.map(|url| request(url, hub)).collect::<Result<_, _>>()?;
        Ok(Link { requests, next: 0, dialing: None, stream: None, sink: None, outbox: VecDeque::new(), flushed: true })
    }

    pub fn is_up(&self) -> bool {
        self.stream.is_some()
    }

    pub fn connect(&mut self) {
        self.disconnect();
        self.dialing = Some(Box::pin(dial(self.turn())));
    }

    /// The node whose turn it is.
    fn turn(&mut self) -> Request {
        let request = self.requests[self.next].clone();
        self.next = (self.next + 1) % self.requests.len();
        request
    }

    pub fn disconnect(&mut self) {
        (self.dialing, self.stream, self.sink) = (None, None, None);
        self.outbox.clear();
        self.flushed = true;
    }

    pub fn send(&mut self, bytes: Bytes) {
        if self.is_up() {
            self.outbox.push_back(bytes);
            self.flushed = false;
        }
    }

    /// What comes next; meanwhile what waits is sent. Safe to be dropped and called again.
    pub async fn next(&mut self, reads: bool) -> Heard {
        let heard = tokio::select! {
            made = dialed(&mut self.dialing) => return self.made(made),
            heard = read(&mut self.stream), if reads => heard,
            how = write(&mut self.sink, &mut self.outbox, &mut self.flushed) => Heard::Broken(how),
        };
        if let Heard::Broken(_) = heard {
            self.disconnect();
        }
        heard
    }

    /// Sends what waits, and closes.
    pub async fn finish(&mut self) {
        let Some(sink) = &mut self.sink else { return };
        for bytes in self.outbox.drain(..) {
            if sink.send(Message::Binary(bytes)).await.is_err() {
                return;
            }
        }
        drop(sink.close().await);
    }

    fn made(&mut self, made: Result<Socket, Break>) -> Heard {
        self.disconnect();
        match made {
            Err(how) => Heard::Broken(how),
            Ok(socket) => {
                let (sink, stream) = socket.split();
                (self.sink, self.stream) = (Some(sink), Some(stream));
                Heard::Connected
            }
        }
    }
}

async fn dial(request: Request) -> Result<Socket, Break> {
    match timeout(CONNECT_TIMEOUT, connect_async_with_config(request, None, true)).await {
        Ok(Ok((socket, _))) => Ok(socket),
        Ok(Err(tungstenite::Error::Http(response))) => {
            let failure = response.body().as_deref().and_then(failure);
            Err(Break::Refused(Refusal { status: response.status().as_u16(), failure }))
        }
        Ok(Err(error)) => Err(Break::Unreachable(error.to_string())),
        Err(_) => Err(Break::Unreachable(format!("nothing came within {} s", CONNECT_TIMEOUT.as_secs()))),
    }
}

/// Of the problem details of a node. Those of others lack what a node always says.
fn failure(body: &[u8]) -> Option<Failure> {
    let problem: Value = serde_json::from_slice(body).ok()?;
    let text = |name: &str| problem[name].as_str().map(str::to_owned);
    let code = problem["code"].as_u64().and_then(|code| u32::try_from(code).ok())?;
    Some(Failure { code, name: text("name")?, message: text("title")?, retry: problem["retry"].as_bool()? })
}

async fn dialed(dialing: &mut Option<Dialing>) -> Result<Socket, Break> {
    match dialing {
        Some(dialing) => dialing.await,
        None => pending().await,
    }
}

async fn read(stream: &mut Option<SplitStream<Socket>>) -> Heard {
    let Some(stream) = stream else { return pending().await };
    match stream.next().await {
        Some(Ok(Message::Binary(bytes))) => Heard::Message(bytes),
        Some(Ok(Message::Close(frame))) => {
            Heard::Broken(frame.map_or(Break::Lost, |frame| Break::Closed(frame.code.into())))
        }
        Some(Ok(_)) => Heard::Sign,
        None | Some(Err(_)) => Heard::Broken(Break::Lost),
    }
}

/// Sends as long as there is something to send; ends only with the connection.
async fn write(
    sink: &mut Option<SplitSink<Socket, Message>>,
    outbox: &mut VecDeque<Bytes>,
    flushed: &mut bool,
) -> Break {
    let Some(sink) = sink else { return pending().await };
    let sent = std::future::poll_fn(|cx| {
        let mut sink = Pin::new(&mut *sink);
        while !outbox.is_empty() {
            match sink.as_mut().poll_ready(cx) {
                Poll::Ready(Ok(())) => {}
                other => return other,
            }
            if let Some(Err(error)) = outbox.pop_front().map(|bytes| sink.as_mut().start_send(Message::Binary(bytes))) {
                return Poll::Ready(Err(error));
            }
        }
        if *flushed {
            return Poll::Pending;
        }
        let flush = sink.poll_flush(cx);
        *flushed = matches!(flush, Poll::Ready(Ok(())));
        if *flushed { Poll::Pending } else { flush }
    });
    match sent.await {
        Ok(()) | Err(_) => Break::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::{Error, Failure, Link, failure};

    #[test]
    fn each_attempt_goes_to_the_next_node() {
        let urls = ["ws://one:1", "ws://two:2/"].map(str::to_owned);
        let Ok(mut link) = Link::new(urls.iter(), "shop") else { panic!("the addresses are good") };
        let turns: Vec<_> = (0..3).map(|_| link.turn().uri().to_string()).collect();
        assert_eq!(turns, ["ws://one:1/hubs/shop/ws", "ws://two:2/hubs/shop/ws", "ws://one:1/hubs/shop/ws"]);
        let bad = ["ws://one:1", "http://two"].map(str::to_owned);
        assert!(matches!(Link::new(bad.iter(), "shop"), Err(Error::BadUrl(_))));
    }

    #[test]
    fn only_a_nodes_problem_details_are_its_word() {
        let told = br#"{"title":"There is no hub.","status":404,"code":140,"name":"hub_not_found","retry":false}"#;
        let (name, message) = ("hub_not_found".into(), "There is no hub.".into());
        assert_eq!(failure(told), Some(Failure { code: 140, name, message, retry: false }));
        assert_eq!(failure(br#"{"title":"Not Found","status":404,"code":404,"name":"NotFound"}"#), None);
        assert_eq!(failure(b"<html>404</html>"), None);
    }
}
