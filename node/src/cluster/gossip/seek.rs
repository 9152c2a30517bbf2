//! Finding the first others: addresses that are configured, and beacons on the local network.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
};

use anyhow::Context;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{UdpSocket, lookup_host};

use super::{
    Counters,
    seal::{Sealer, Seen},
};

/// Addresses of one lookup that are tried.
const ADDRESSES_MAX: usize = 256;

/// All addresses of all seeds. Names that can't be looked up have none.
pub async fn resolve(seeds: Vec<String>) -> BTreeSet<SocketAddr> {
    let mut found = BTreeSet::new();
    for seed in seeds {
        match lookup_host(&seed).await {
            Ok(addresses) => found.extend(addresses.take(ADDRESSES_MAX)),
            Err(error) => tracing::debug!(seed, %error, "can't be looked up"),
        }
    }
    found
}

/// Makes this node known to its own network, and hears of others.
pub struct Beacon {
    socket: UdpSocket,
    to: SocketAddr,
    sealer: Sealer,
    seen: Seen,
    counters: Arc<Counters>,
    buffer: Vec<u8>,
}

impl Beacon {
    /// Several nodes of one machine hear the same port.
    pub fn open(to: SocketAddr, sealer: Sealer, counters: Arc<Counters>) -> anyhow::Result<Beacon> {
        let open = || {
            let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)?;
            socket.set_broadcast(true)?;
            socket.set_nonblocking(true)?;
            socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, to.port())).into())?;
            UdpSocket::from_std(socket.into())
        };
        let socket = open().with_context(|| format!("`discovery.broadcast`: {to} can't be used"))?;
        Ok(Beacon { socket, to, sealer, seen: Seen::default(), counters, buffer: vec![0; 512] })
    }

    pub async fn send(&self, own: SocketAddr) {
        let datagram = self.sealer.seal(own.to_string().as_bytes());
        if let Err(error) = self.socket.send_to(&datagram, self.to).await {
            tracing::debug!(to = %self.to, %error, "a beacon was not sent");
        }
    }

    /// Where a node that makes itself known is.
    pub async fn heard(&mut self) -> SocketAddr {
        loop {
            let Ok((length, from)) = self.socket.recv_from(&mut self.buffer).await else {
                tokio::task::yield_now().await;
                continue;
            };
            match self.sealer.open(&self.buffer[..length], &mut self.seen) {
                Ok(content) => {
                    if let Some(address) = std::str::from_utf8(&content).ok().and_then(|text| text.parse().ok()) {
                        return address;
                    }
                }
                Err(refusal) => {
                    self.counters.refuse(refusal);
                    tracing::debug!(%from, reason = refusal.name(), "a beacon was refused");
                }
            }
        }
    }
}
