//! Connections that break: passes bytes on, and cuts every connection after some of them.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub struct Proxy {
    pub address: SocketAddr,
    cuts: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl Proxy {
    /// Each connection carries so many bytes, both ways together, as `bytes` says of its number.
    pub async fn start(target: SocketAddr, bytes: fn(usize) -> usize) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = Arc::new(AtomicUsize::new(0));
        let counted = cuts.clone();
        let serving = tokio::spawn(async move {
            for number in 0.. {
                let (client, _) = listener.accept().await.unwrap();
                let counted = counted.clone();
                tokio::spawn(async move {
                    let server = TcpStream::connect(target).await.unwrap();
                    carry(client, server, bytes(number)).await;
                    counted.fetch_add(1, Ordering::Relaxed);
                });
            }
        });
        Proxy { address, cuts, serving }
    }

    /// Connections that have ended.
    pub fn cuts(&self) -> usize {
        self.cuts.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut left: usize) {
    let (mut up, mut down) = ([0; 512], [0; 512]);
    while left > 0 {
        let (from, to) = tokio::select! {
            count = client.read(&mut up) => (count, (&mut server, &up)),
            count = server.read(&mut down) => (count, (&mut client, &down)),
        };
        let Ok(count @ 1..) = from else { return };
        let count = count.min(left);
        left -= count;
        if to.0.write_all(&to.1[..count]).await.is_err() {
            return;
        }
    }
}
