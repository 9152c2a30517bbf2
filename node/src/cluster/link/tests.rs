//! The peer port, and who calls it.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use appsockets_core::cluster::view::NodeId;
use appsockets_proto::cluster::{Frame, Frames, Hello, frame, peer_client::PeerClient};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::timeout,
};
use tonic::{Code, Status, transport::Endpoint};

use super::{Counters, LinkEvent, Local, announce, dial, dial::authorized, serve};
use crate::{
    settings::{self, Settings},
    store,
};

struct Node {
    local: Arc<Local>,
    events: mpsc::Receiver<LinkEvent>,
    _stop: watch::Sender<bool>,
    _folder: tempfile::TempDir,
}

/// A node that answers at its peer port.
async fn node(number: u64, secret: &str, cluster: &str) -> Node {
    let folder = tempfile::tempdir().unwrap();
    let database = store::open(folder.path()).await.unwrap();
    let settings = Settings::open(settings::Options::default(), database.writer().clone()).await.unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (events_in, events) = mpsc::channel(16);
    let local = Arc::new(Local {
        me: NodeId { node: number, generation: 3 },
        cluster: cluster.to_owned(),
        address: listener.local_addr().unwrap(),
        shards: 2,
        rpc: secret.to_owned().into(),
        core: AtomicBool::new(true),
        leaving: AtomicBool::new(false),
        settings: Arc::new(settings),
        events: events_in,
        counters: Arc::new(Counters::default()),
    });
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(serve(local.clone(), listener, stopped));
    Node { local, events, _stop: stop, _folder: folder }
}

impl Node {
    fn address(&self) -> SocketAddr {
        self.local.address
    }

    async fn event(&mut self) -> LinkEvent {
        timeout(Duration::from_secs(30), self.events.recv()).await.expect("it comes in time").expect("it runs")
    }
}

#[tokio::test]
async fn a_link_carries_frames_in_order_and_its_end_is_told() {
    let (mut one, mut two) = (node(1, "secret", "shop").await, node(2, "secret", "shop").await);
    let (local, address) = (one.local.clone(), two.address());
    let dialing = tokio::spawn(async move { dial(&local, address).await });
    let LinkEvent::Up { peer, outgoing } = one.event().await else { panic!("no link") };
    assert_eq!((peer.id, peer.shards), (two.local.me, 2));
    let LinkEvent::Up { peer, outgoing: back } = two.event().await else { panic!("no link") };
    assert_eq!(peer.id, one.local.me);
    (0..100u8).for_each(|number| outgoing.send_to_shard(1, vec![number].into()));
    let mut heard = Vec::new();
    while heard.len() < 100 {
        let LinkEvent::Frames { frames, .. } = two.event().await else { panic!("no frames") };
        heard.extend(frames.into_iter().map(|frame| match frame.frame {
            Some(frame::Frame::Shard(shard)) => shard.messages[0],
            other => panic!("{other:?}"),
        }));
    }
    assert!((0..100).eq(heard));
    back.close();
    assert!(matches!(two.event().await, LinkEvent::Down { from, .. } if from == one.local.me));
    assert!(matches!(one.event().await, LinkEvent::Down { from, .. } if from == two.local.me));
    assert!(dialing.await.unwrap().is_ok());
}

#[tokio::test]
async fn who_can_not_be_a_peer_is_told_why_and_counted() {
    let mut one = node(1, "secret", "shop").await;
    for (secret, cluster, code) in
        [("guess", "shop", Code::Unauthenticated), ("secret", "bank", Code::FailedPrecondition)]
    {
        let stranger = node(2, secret, cluster).await;
        let failure = announce(&stranger.local, one.address()).await.unwrap_err();
        let super::Failure::Call(status) = failure else { panic!("{failure}") };
        assert_eq!(status.code(), code, "{status}");
        assert!(dial(&stranger.local, one.address()).await.is_err());
    }
    let counters = one.local.counters.clone();
    assert_eq!(counters.denied.load(Ordering::Relaxed), 2);
    assert_eq!(counters.refused.load(Ordering::Relaxed), 2);
    assert!(one.events.try_recv().is_err(), "nobody was let in");
}

/// Opens a link that begins with these frames.
async fn open(node: &Node, first: Vec<Frame>) -> Result<(), Status> {
    let channel = Endpoint::from_shared(format!("http://{}", node.address())).unwrap().connect().await.unwrap();
    let request = authorized(&node.local, futures_util::stream::iter([Frames { frames: first }]));
    let mut answers = PeerClient::new(channel).link(request).await?.into_inner();
    answers.message().await.map(drop)
}

#[tokio::test]
async fn a_link_that_begins_wrong_is_refused() {
    let mut one = node(1, "secret", "shop").await;
    let good = Hello { node: 2, generation: 1, address: "127.0.0.1:1".to_owned(), ..one.local.hello() };
    let hello = |change: fn(&mut Hello)| {
        let mut hello = good.clone();
        change(&mut hello);
        Frame { frame: Some(frame::Frame::Hello(hello)) }
    };
    let views = Frame { frame: Some(frame::Frame::Views(vec![1, 2, 3].into())) };
    let wrong = [
        vec![],
        vec![Frame::default()],
        vec![views],
        vec![hello(|hello| hello.protocol += 1)],
        vec![hello(|hello| hello.shards = 0)],
        vec![hello(|hello| hello.address = "nowhere".to_owned())],
        vec![hello(|hello| (hello.node, hello.generation) = (1, 3))],
    ];
    for first in wrong {
        let status = open(&one, first.clone()).await.unwrap_err();
        assert_eq!(status.code(), Code::FailedPrecondition, "{first:?}");
    }
    assert!(one.events.try_recv().is_err(), "nobody was let in");
    assert!(open(&one, vec![hello(|_| {})]).await.is_ok());
}

#[tokio::test]
async fn who_speaks_nonsense_does_no_harm() {
    let mut one = node(1, "secret", "shop").await;
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0; 1000], b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff"] {
        let mut tcp = TcpStream::connect(one.address()).await.unwrap();
        tcp.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        // Whatever it says, it ends the connection.
        let ended = timeout(Duration::from_secs(30), tcp.read_to_end(&mut answer)).await;
        assert!(ended.is_ok());
    }
    let two = node(2, "secret", "shop").await;
    assert_eq!(announce(&two.local, one.address()).await.unwrap().id, one.local.me);
    assert!(matches!(one.event().await, LinkEvent::Met(peer) if peer.id == two.local.me));
}
