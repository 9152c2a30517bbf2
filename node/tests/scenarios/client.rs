//! A WebSocket client, written by others, that speaks JSON.

use std::{collections::VecDeque, net::SocketAddr};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::{
    WebSocketStream, client_async,
    tungstenite::{Error, Message, client::IntoClientRequest, handshake::client::Response},
};

use super::{
    in_time,
    server::{WORKERS, owned_by},
};

pub type Socket = WebSocketStream<TcpStream>;

/// A connection that is still to be made.
pub struct Connect {
    address: SocketAddr,
    path: String,
    headers: Vec<(&'static str, String)>,
}

impl Connect {
    pub fn new(address: SocketAddr, hub: &str) -> Connect {
        Connect { address, path: format!("/hubs/{hub}/ws"), headers: Vec::new() }
    }

    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Connect {
        self.headers.push((name, value.into()));
        self
    }

    pub fn token(self, token: &str) -> Connect {
        self.header("authorization", format!("Bearer {token}"))
    }

    pub fn query(mut self, query: &str) -> Connect {
        self.path = format!("{}?{query}", self.path);
        self
    }

    pub async fn handshake(self) -> Result<(Socket, Response), Error> {
        let Connect { address, path, headers } = self;
        let mut request = format!("ws://{address}{path}").into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(address).await?;
        in_time(client_async(request, stream)).await
    }

    /// The status and the body of the answer that refuses it.
    pub async fn refused(self) -> (u16, Value) {
        match self.handshake().await {
            Err(Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                (response.status().as_u16(), serde_json::from_slice(&body).unwrap_or_default())
            }
            Ok(_) => panic!("the connection was not refused"),
            Err(error) => panic!("no answer: {error}"),
        }
    }

    pub async fn open(self) -> Client {
        Client::begin(self.handshake().await.unwrap().0).await
    }
}

/// A session. What is asked for is waited for; what comes meanwhile is kept.
pub struct Client {
    pub socket: Socket,
    /// The payload of SessionInfo.
    pub info: Value,
    /// The restore key.
    pub key: String,
    aside: VecDeque<(String, Value)>,
}

impl Client {
    /// Takes what the node says first.
    pub async fn begin(socket: Socket) -> Client {
        let mut client = Client { socket, info: Value::Null, key: String::new(), aside: VecDeque::new() };
        client.info = client.expect("SessionInfo").await;
        client.key = text(&client.expect("SessionRestore").await["restoreKey"]);
        client
    }

    pub fn id(&self) -> String {
        text(&self.info["sessionID"])
    }

    /// The worker that holds it, which its restore key names.
    pub fn worker(&self) -> u16 {
        u16::from_str_radix(self.key.split('-').nth(2).unwrap(), 16).unwrap()
    }

    pub async fn send(&mut self, event: &str, payload: Value) {
        self.send_text(&json!({"event": event, "payload": payload}).to_string()).await;
    }

    pub async fn send_text(&mut self, text: &str) {
        in_time(self.socket.send(Message::text(text))).await.unwrap();
    }

    /// The next event, other than Ping, with its payload; what was put aside comes first.
    pub async fn next(&mut self) -> (String, Value) {
        match self.aside.pop_front() {
            Some(event) => event,
            None => self.read().await.unwrap_or_else(|code| panic!("closed with {code}")),
        }
    }

    /// The payload of the next event, which must be this one.
    pub async fn expect(&mut self, event: &str) -> Value {
        let (found, payload) = self.next().await;
        assert_eq!(found, event, "{payload}");
        payload
    }

    /// The payload of the next event of this kind. Others that come before it are put aside.
    pub async fn until(&mut self, event: &str) -> Value {
        self.until_one(|found, _| found == event).await
    }

    /// The payload of the next event that is wanted. Others that come before it are put aside.
    pub async fn until_one(&mut self, wanted: impl Fn(&str, &Value) -> bool) -> Value {
        if let Some(at) = self.aside.iter().position(|(event, payload)| wanted(event, payload)) {
            return self.aside.remove(at).unwrap().1;
        }
        in_time(async {
            loop {
                let (event, payload) = self.read().await.unwrap_or_else(|code| panic!("closed with {code}"));
                if wanted(&event, &payload) {
                    return payload;
                }
                self.aside.push_back((event, payload));
            }
        })
        .await
    }

    /// What comes until every worker has answered a publish that nobody hears, so what they had done before has come.
    pub async fn settled(&mut self) -> Vec<(String, Value)> {
        const ID: u64 = 987_654_321;
        let hub = text(&self.info["hubID"]);
        for worker in 0..WORKERS {
            let channel = owned_by(worker, &hub, "unheard");
            self.send("Publish", json!({"publishes": [{"reqID": ID, "channel": channel}]})).await;
        }
        let (mut events, mut answers) = (Vec::new(), 0);
        while answers < usize::from(WORKERS) {
            let (event, payload) = self.next().await;
            let is_own = |result: &&Value| result["reqID"] == ID;
            let own = payload["published"].as_array().into_iter().flatten().filter(is_own).count();
            answers += own;
            if own == 0 {
                events.push((event, payload));
            }
        }
        events
    }

    /// Subscribes, and takes everything up to the answer; all channels must have worked.
    pub async fn subscribe(&mut self, channels: &[&str]) -> Vec<(String, Value)> {
        let channels: Vec<_> = channels.iter().map(|channel| json!({"channel": channel})).collect();
        self.subscribe_from(json!(channels)).await
    }

    /// The same with positions.
    pub async fn subscribe_from(&mut self, channels: Value) -> Vec<(String, Value)> {
        self.send("Subscribe", json!({"reqID": 77, "channels": channels})).await;
        let mut events = Vec::new();
        loop {
            let (event, payload) = self.next().await;
            if event == "Subscribe" {
                assert_eq!(payload["errors"], json!([]));
                return events;
            }
            events.push((event, payload));
        }
    }

    /// Publishes one message and returns its result.
    pub async fn publish(&mut self, channel: &str, text: &str) -> Value {
        self.publish_with(json!({"channel": channel, "text": text})).await
    }

    pub async fn publish_with(&mut self, mut publish: Value) -> Value {
        publish["reqID"] = json!(88);
        self.send("Publish", json!({"publishes": [publish]})).await;
        self.until("Ack").await["published"][0].clone()
    }

    /// The close code of the connection, after the node's last Close event if there is one.
    pub async fn closed(&mut self) -> (Option<Value>, u16) {
        let mut last =
            self.aside.drain(..).filter(|(event, _)| event == "Close").map(|(_, payload)| payload).next_back();
        loop {
            match self.read().await {
                Ok((event, payload)) if event == "Close" => last = Some(payload),
                Ok(_) => {}
                Err(code) => return (last, code),
            }
        }
    }

    /// The connection breaks: no Close, no close frame.
    pub fn break_off(self) -> String {
        self.key
    }

    async fn read(&mut self) -> Result<(String, Value), u16> {
        loop {
            match in_time(self.socket.next()).await {
                Some(Ok(Message::Text(text))) => {
                    let envelope: Value = serde_json::from_str(&text).unwrap();
                    let event = envelope["event"].as_str().unwrap().to_owned();
                    if event != "Ping" {
                        return Ok((event, envelope["payload"].clone()));
                    }
                }
                Some(Ok(Message::Close(frame))) => return Err(frame.map_or(1005, |frame| frame.code.into())),
                Some(Ok(_)) => {}
                None | Some(Err(_)) => return Err(1006),
            }
        }
    }
}

pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

/// The events' names, in order.
pub fn names(events: &[(String, Value)]) -> Vec<&str> {
    events.iter().map(|(event, _)| event.as_str()).collect()
}
