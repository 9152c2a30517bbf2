//! Connections of the load.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail};
use appsockets_proto::client::{
    ChannelPubRequest, ChannelSubscribeInfo, Envelope, EventType, Position, PubRequestInfo, SubscribeRequest,
};
use prost::Message;
use rustls::{ClientConfig, ClientConnection, StreamOwned, pki_types::ServerName};

use crate::frames;

const UPGRADE: &str = "upgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-version: 13\r\n\
                       sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: appsockets.v1.protobuf\r\n";
const UPGRADED: &str = "HTTP/1.1 101";

/// Which of the two servers is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    Raw,
    AppSockets,
}

/// A connection, and the bytes that a node has sent with the handshake and that were read with it.
pub struct Connected<S = TcpStream> {
    pub tcp: S,
    pub rest: Vec<u8>,
}

/// Connects and shakes hands. `path` is all that the servers look at.
pub fn connect(address: SocketAddr, path: &str) -> Result<Connected> {
    request(dial(address)?, path, UPGRADE, UPGRADED)
}

/// The same over TLS, to a node whose certificate is for `localhost`.
pub fn connect_secured(
    address: SocketAddr,
    path: &str,
    config: Arc<ClientConfig>,
) -> Result<Connected<StreamOwned<ClientConnection, TcpStream>>> {
    let tls = ClientConnection::new(config, ServerName::try_from("localhost")?)?;
    request(StreamOwned::new(tls, dial(address)?), path, UPGRADE, UPGRADED)
}

fn dial(address: SocketAddr) -> Result<TcpStream> {
    let tcp = TcpStream::connect(address)?;
    tcp.set_nodelay(true)?;
    tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(tcp)
}

/// Connects by Server-Sent Events, and waits until the node says where the client stands in its channel.
pub fn listen(address: SocketAddr, path: &str) -> Result<Connected> {
    const STANDS: &[u8] = b"\"Position\"";
    let mut connected = request(dial(address)?, path, "accept: text/event-stream\r\n", "HTTP/1.1 200")?;
    while !connected.rest.windows(STANDS.len()).any(|window| window == STANDS) {
        read_more(&mut connected.tcp, &mut connected.rest)?;
    }
    Ok(connected)
}

/// Sends a request, the first of its connection, and reads the head of the answer, which must begin so.
fn request<S: Read + Write>(mut tcp: S, path: &str, headers: &str, expected: &str) -> Result<Connected<S>> {
    tcp.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n").as_bytes())?;
    let mut input = Vec::new();
    loop {
        if let Some(end) = input.windows(4).position(|window| window == b"\r\n\r\n") {
            if !input.starts_with(expected.as_bytes()) {
                bail!("the server refused: {}", String::from_utf8_lossy(&input));
            }
            return Ok(Connected { tcp, rest: input.split_off(end + 4) });
        }
        read_more(&mut tcp, &mut input)?;
    }
}

/// Connects one who hears a channel.
pub fn subscriber(target: Target, address: SocketAddr, hub: &str, channel: u32) -> Result<Connected> {
    match target {
        Target::Raw => connect(address, &format!("/sub/{channel}")),
        Target::AppSockets => {
            let mut connected = connect(address, &format!("/hubs/{hub}/ws"))?;
            connected.subscribe(&channel_name(channel))?;
            Ok(connected)
        }
    }
}

/// Connects one who publishes.
pub fn publisher(target: Target, address: SocketAddr, hub: &str) -> Result<TcpStream> {
    match target {
        Target::Raw => Ok(connect(address, "/pub")?.tcp),
        Target::AppSockets => Ok(connect(address, &format!("/hubs/{hub}/ws"))?.tcp),
    }
}

impl<S: Read + Write> Connected<S> {
    /// Subscribes, and waits until the node says so.
    pub fn subscribe(&mut self, channel: &str) -> Result<()> {
        let info = ChannelSubscribeInfo { channel: channel.to_owned(), timestamp: None, channel_serial: None };
        self.send(EventType::Subscribe, &SubscribeRequest { req_id: 1, channels: vec![info] })?;
        self.wait_for(EventType::Subscribe)
    }

    /// Subscribes, and tells where the channel stands.
    pub fn position_of(&mut self, channel: &str) -> Result<String> {
        let info = ChannelSubscribeInfo { channel: channel.to_owned(), timestamp: None, channel_serial: None };
        self.send(EventType::Subscribe, &SubscribeRequest { req_id: 1, channels: vec![info] })?;
        Ok(self.receive::<Position>(EventType::Position)?.channel_serial)
    }

    pub fn send(&mut self, event: EventType, message: &impl Message) -> Result<()> {
        let mut frame = Vec::new();
        frames::push_masked(&envelope(event, message), &mut frame);
        Ok(self.tcp.write_all(&frame)?)
    }

    /// Reads until an event of this kind has come.
    pub fn wait_for(&mut self, event: EventType) -> Result<()> {
        self.next(event).map(drop)
    }

    /// The next message of this event; others are passed over.
    pub fn receive<M: Message + Default>(&mut self, event: EventType) -> Result<M> {
        Ok(M::decode(self.next(event)?.payload)?)
    }

    fn next(&mut self, event: EventType) -> Result<Envelope> {
        loop {
            while let Some(frame) = frames::first(&self.rest) {
                let envelope = Envelope::decode(&self.rest[frame.start..frame.end])?;
                self.rest.drain(..frame.end);
                if envelope.event == event as i32 {
                    return Ok(envelope);
                }
            }
            read_more(&mut self.tcp, &mut self.rest)?;
        }
    }
}

/// A publish without a request id, framed.
pub fn push_publish(target: Target, channel: u32, payload: &[u8], out: &mut Vec<u8>) {
    match target {
        Target::Raw => frames::push_masked(&[&channel.to_le_bytes()[..], payload].concat(), out),
        Target::AppSockets => {
            let publish = PubRequestInfo {
                channel: channel_name(channel),
                event: "e".to_owned(),
                payload: payload.to_vec().into(),
                ..PubRequestInfo::default()
            };
            let request = ChannelPubRequest { publishes: vec![publish] };
            frames::push_masked(&envelope(EventType::Publish, &request), out);
        }
    }
}

pub fn channel_name(channel: u32) -> String {
    format!("c{channel}")
}

/// The payload that was published, of a frame that a server sent; `None` if it is something else.
pub fn published(target: Target, frame: &[u8]) -> Option<&[u8]> {
    match target {
        Target::Raw => Some(frame),
        Target::AppSockets => {
            let mut fields = Fields(frame);
            let event = fields.find(1)?;
            if event.number != EventType::Publish as u64 {
                return None;
            }
            let message = fields.find(2)?.bytes;
            Fields(message).find(3).map(|field| field.bytes)
        }
    }
}

/// The event of a frame that a node sent.
pub fn event(frame: &[u8]) -> Option<EventType> {
    EventType::try_from(i32::try_from(Fields(frame).find(1)?.number).ok()?).ok()
}

/// An encoded message with its event, not framed.
pub fn envelope(event: EventType, message: &impl Message) -> Vec<u8> {
    Envelope { event: event as i32, payload: message.encode_to_vec().into() }.encode_to_vec()
}

fn read_more(tcp: &mut impl Read, input: &mut Vec<u8>) -> Result<()> {
    let mut chunk = [0; 16 << 10];
    let count = tcp.read(&mut chunk).context("the server does not answer")?;
    anyhow::ensure!(count > 0, "the server has closed the connection");
    input.extend_from_slice(&chunk[..count]);
    Ok(())
}

/// The fields of an encoded message, in their order. Decoding all of each delivery would cost more than what is measured.
struct Fields<'a>(&'a [u8]);

#[derive(Default)]
struct Field<'a> {
    number: u64,
    bytes: &'a [u8],
}

impl<'a> Fields<'a> {
    fn find(&mut self, wanted: u64) -> Option<Field<'a>> {
        loop {
            let key = self.varint()?;
            let field = match key & 7 {
                0 => Field { number: self.varint()?, bytes: &[] },
                2 => {
                    let length = usize::try_from(self.varint()?).ok()?;
                    let (bytes, rest) = self.0.split_at_checked(length)?;
                    self.0 = rest;
                    Field { number: 0, bytes }
                }
                _ => return None,
            };
            if key >> 3 == wanted {
                return Some(field);
            }
        }
    }

    fn varint(&mut self) -> Option<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (&byte, rest) = self.0.split_first()?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }
}
