//! Nodes that gossip over real sockets.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use appsockets_core::cluster::view::NodeId;
use tokio::time::timeout;

use super::{Counters, Facts, Gossip, Heard, Options, Refusal};

struct Node {
    address: SocketAddr,
    gossip: Gossip,
    counters: Arc<Counters>,
}

struct Start {
    node: u64,
    secret: &'static str,
    cluster: &'static str,
    seeds: Vec<SocketAddr>,
    broadcast: Option<SocketAddr>,
}

fn of(node: u64, seeds: &[SocketAddr]) -> Start {
    Start { node, secret: "the members' secret", cluster: "shop", seeds: seeds.to_vec(), broadcast: None }
}

impl Start {
    fn start(self) -> Node {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let counters = Arc::new(Counters::default());
        let options = Options {
            me: NodeId { node: self.node, generation: 7 },
            cluster: self.cluster.to_owned(),
            socket,
            advertise: address,
            secret: self.secret.to_owned().into(),
            seeds: self.seeds.iter().map(SocketAddr::to_string).collect(),
            broadcast: self.broadcast,
            facts: Facts { peer: Some(address), core: true, ..Facts::default() },
        };
        Node { address, gossip: Gossip::start(options, counters.clone()).unwrap(), counters }
    }
}

impl Node {
    /// Waits until what it has heard is as wanted.
    async fn hears(&self, wanted: impl Fn(&[Heard]) -> bool) {
        let mut heard = self.gossip.heard();
        let waiting = heard.wait_for(|heard| wanted(heard));
        timeout(Duration::from_secs(30), waiting).await.expect("it is heard in time").expect("gossip runs");
    }

    async fn sees_alive(&self, nodes: &[u64]) {
        self.hears(|heard| {
            let alive: Vec<_> = heard.iter().filter(|heard| heard.alive).map(|heard| heard.id.node).collect();
            alive == nodes
        })
        .await;
    }

    async fn refuses(&self, refusal: Refusal, count: u64) {
        let refused = async {
            while self.counters.refused[refusal as usize].load(Ordering::Relaxed) < count {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(Duration::from_secs(30), refused).await.expect("it is refused in time");
    }
}

#[tokio::test]
async fn nodes_find_each_other_by_one_and_see_when_one_has_gone() {
    let one = of(1, &[]).start();
    let two = of(2, &[one.address]).start();
    let three = of(3, &[one.address]).start();
    one.sees_alive(&[2, 3]).await;
    two.sees_alive(&[1, 3]).await;
    three.sees_alive(&[1, 2]).await;
    drop(three);
    one.sees_alive(&[2]).await;
    two.sees_alive(&[1]).await;
}

#[tokio::test]
async fn what_a_node_tells_is_heard() {
    let one = of(1, &[]).start();
    let two = of(2, &[one.address]).start();
    one.hears(|heard| heard.len() == 1 && heard[0].alive && heard[0].facts.core).await;
    let told = Facts {
        peer: Some(([10, 0, 0, 1], 7946).into()),
        core: false,
        leaving: true,
        unreachable: vec![NodeId { node: 1, generation: 9 }, NodeId { node: 4, generation: 2 }],
        view: 17,
        revision: "abc".to_owned(),
        version: "1.2.3".to_owned(),
    };
    two.gossip.tell(told.clone());
    one.hears(|heard| heard.len() == 1 && heard[0].facts == told).await;
}

#[tokio::test]
async fn strangers_are_nobody() {
    let one = of(1, &[]).start();
    let two = of(2, &[one.address]).start();
    let secret = Start { secret: "another secret", ..of(3, &[one.address]) }.start();
    let cluster = Start { cluster: "bank", ..of(4, &[one.address]) }.start();
    one.sees_alive(&[2]).await;
    one.refuses(Refusal::Forged, 6).await;
    for stranger in [&secret, &cluster] {
        assert!(stranger.gossip.heard().borrow().is_empty());
    }
    assert_eq!(one.gossip.heard().borrow().len(), 1);
    two.sees_alive(&[1]).await;
}

/// Passes on what comes, in both directions between one node and whoever speaks to it, and keeps a copy.
fn listen_in(to: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<Vec<u8>>) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let (copies, copied) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut buffer = [0; 65_507];
        while let Ok((length, _)) = socket.recv_from(&mut buffer) {
            let _ = socket.send_to(&buffer[..length], to);
            if copies.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    (address, copied)
}

#[tokio::test]
async fn nonsense_and_repeats_change_nothing() {
    let one = of(1, &[]).start();
    let (ear, copied) = listen_in(one.address);
    let two = of(2, &[ear]).start();
    one.sees_alive(&[2]).await;
    let real = copied.recv().unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let send = |datagram: &[u8]| {
        socket.send_to(datagram, one.address).unwrap();
    };
    let before = one.counters.refused[Refusal::Replayed as usize].load(Ordering::Relaxed);
    (0..10).for_each(|_| send(&real));
    one.refuses(Refusal::Replayed, before + 10).await;
    let before = one.counters.refused[Refusal::Forged as usize].load(Ordering::Relaxed);
    let mut changed = real.clone();
    changed[30] ^= 4;
    let forged: [&[u8]; 6] = [b"", b"x", &real[..40], &changed, &[7; 1_400], &[0; 65_507]];
    forged.into_iter().for_each(send);
    one.refuses(Refusal::Forged, before + 6).await;
    one.sees_alive(&[2]).await;
    two.sees_alive(&[1]).await;
}

#[tokio::test]
async fn beacons_bring_nodes_of_one_network_together() {
    let free = UdpSocket::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let broadcast = Some(SocketAddr::from(([127, 255, 255, 255], free)));
    let one = Start { broadcast, ..of(1, &[]) }.start();
    let two = Start { broadcast, ..of(2, &[]) }.start();
    one.sees_alive(&[2]).await;
    two.sees_alive(&[1]).await;
}
