//! chitchat's datagrams, sealed.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
};

use chitchat::{
    ChitchatMessage, Deserializable, Serializable,
    transport::{Socket, Transport},
};
use tokio::net::UdpSocket;

use super::{
    Counters, Refusal,
    seal::{Sealer, Seen},
};

/// The largest content of a UDP datagram over IPv4.
const DATAGRAM_BYTES_MAX: usize = 65_507;

/// A socket that outlives the chitchat that uses it.
#[derive(Clone)]
pub struct Sealed(Arc<Parts>);

struct Parts {
    socket: UdpSocket,
    sealer: Sealer,
    seen: Mutex<Seen>,
    counters: Arc<Counters>,
}

impl Sealed {
    pub fn new(socket: UdpSocket, sealer: Sealer, counters: Arc<Counters>) -> Sealed {
        Sealed(Arc::new(Parts { socket, sealer, seen: Mutex::default(), counters }))
    }
}

#[tonic::async_trait]
impl Transport for Sealed {
    async fn open(&self, _: SocketAddr) -> anyhow::Result<Box<dyn Socket>> {
        Ok(Box::new(Open { parts: self.0.clone(), buffer: vec![0; DATAGRAM_BYTES_MAX + 1] }))
    }
}

struct Open {
    parts: Arc<Parts>,
    buffer: Vec<u8>,
}

/// An error would end gossip, so nothing that the network or other hosts do is one.
#[tonic::async_trait]
impl Socket for Open {
    async fn send(&mut self, to: SocketAddr, message: ChitchatMessage) -> anyhow::Result<()> {
        let datagram = self.parts.sealer.seal(&message.serialize_to_vec());
        let counters = &self.parts.counters;
        let sent = match datagram.len() > DATAGRAM_BYTES_MAX {
            true => Err(std::io::ErrorKind::InvalidInput.into()),
            false => self.parts.socket.send_to(&datagram, to).await,
        };
        match sent {
            Ok(bytes) => {
                counters.sent.fetch_add(1, Ordering::Relaxed);
                counters.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
            }
            Err(error) => {
                counters.not_sent.fetch_add(1, Ordering::Relaxed);
                tracing::debug!(%to, %error, "a datagram was not sent");
            }
        }
        Ok(())
    }

    async fn recv(&mut self) -> anyhow::Result<(SocketAddr, ChitchatMessage)> {
        loop {
            // A datagram that comes after one was refused by its receiver tells of that; it is no fault of the socket.
            let Ok((length, from)) = self.parts.socket.recv_from(&mut self.buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            match self.parts.read(&self.buffer[..length]) {
                Ok(message) => return Ok((from, message)),
                Err(refusal) => tracing::debug!(%from, reason = refusal.name(), "a datagram was refused"),
            }
        }
    }
}

impl Parts {
    fn read(&self, datagram: &[u8]) -> Result<ChitchatMessage, Refusal> {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        self.counters.received_bytes.fetch_add(datagram.len() as u64, Ordering::Relaxed);
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = self.sealer.open(datagram, &mut seen);
        let message =
            opened.and_then(|content| ChitchatMessage::deserialize(&mut &*content).map_err(|_| Refusal::Unreadable));
        message.inspect_err(|refusal| self.counters.refuse(*refusal))
    }
}

impl Counters {
    pub(super) fn refuse(&self, refusal: Refusal) {
        self.refused[refusal as usize].fetch_add(1, Ordering::Relaxed);
    }
}
