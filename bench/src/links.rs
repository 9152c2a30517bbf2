//! `links`: what it costs that a channel is another node's, beside a bare tonic stream that carries messages of the same
//! size.
//!
//! Latency: a client publishes at one node to a channel of the other, and hears its message at the first: once there and
//! once back over the link, as the echo of the reference. Throughput: clients publish at the owner as fast as it takes it,
//! and one client hears all at the other node; counted by the CPU time of both processes.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    pin::Pin,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use appsockets_proto::cluster::{
    Frame, Frames, Hello, ReadHandedRequest, ReadHandedResponse, ReadSettingsRequest, ReadSettingsResponse, Shard,
    frame,
    peer_client::PeerClient,
    peer_server::{Peer, PeerServer},
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use tokio::{net::TcpListener, runtime::Runtime, sync::mpsc};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Endpoint, Server, server::TcpIncoming},
};

use crate::{
    Options,
    client::{self, Connected, Target, channel_name, push_publish},
    cluster::Nodes,
    cpu::CpuTime,
    frames,
    report::Measurement,
};

const HUB: &str = "links";
const HUBS: &str = "kind: Hub
name: links
spec: {defaultPublic: true, allowAnonymous: true, defaultRules: rules, limits: {sessionMessagesPerSecond: 4000000000}}
---
kind: ChannelRules
hub: links
name: rules
spec: {public: true, allowAnonymous: true, clientPublish: true, redundancy: 0}
";
const PAYLOAD: [u8; 128] = [7; 128];
const ROUND_TRIPS: usize = 4_000;
/// Channels over which the throughput is spread.
const CHANNELS: usize = 64;
/// Messages under way. All of them find room in what a node keeps for a session, 256 KiB: of one that reads too slowly for that, some
/// may be left out.
const UNDER_WAY: u64 = 1_024;
/// Messages in a batch of the reference.
const BATCH: usize = 64;

pub fn run(options: &Options) -> Result<()> {
    let (mut p50, mut p99, mut rate) = (Pairs::default(), Pairs::default(), Pairs::default());
    for _ in 0..options.rounds {
        let echo = Echo::start()?;
        let (median, slow) = percentiles(echo.round_trips()?);
        let per_second = echo.throughput(Duration::from_secs(options.seconds))?;
        drop(echo);
        let nodes = Two::start(options)?;
        let (own_median, own_slow) = percentiles(nodes.round_trips()?);
        p50.add(own_median, median);
        p99.add(own_slow, slow);
        rate.add(nodes.throughput(Duration::from_secs(options.seconds))?, per_second);
    }
    p50.print("links: publish to delivery over a link and back, p50", "us", options.json);
    p99.print("links: publish to delivery over a link and back, p99", "us", options.json);
    rate.print("links: messages between two nodes per second of CPU time", "", options.json);
    Ok(())
}

#[derive(Default)]
struct Pairs(Vec<f64>, Vec<f64>);

impl Pairs {
    fn add(&mut self, own: f64, reference: f64) {
        self.0.push(own);
        self.1.push(reference);
    }

    fn print(self, name: &str, unit: &'static str, as_json: bool) {
        Measurement { name: name.to_owned(), unit, values: self.0, reference: self.1 }.print(as_json);
    }
}

fn percentiles(mut times: Vec<Duration>) -> (f64, f64) {
    times.sort_unstable();
    let at =
        |part: f64| times.get((times.len() as f64 * part) as usize).map_or(f64::NAN, |time| time.as_secs_f64() * 1e6);
    (at(0.5), at(0.99))
}

/// Two nodes, and channels that the first of them owns.
struct Two {
    nodes: Nodes,
    channels: Vec<u32>,
}

impl Two {
    fn start(options: &Options) -> Result<Two> {
        let mut nodes = Nodes::plan(options.node.clone(), HUBS, 2, 2, false)?;
        nodes.start(0)?;
        nodes.start(1)?;
        nodes.all_serve()?;
        let mut client = client::connect(nodes.address(0), &format!("/hubs/{HUB}/ws"))?;
        let mut channels = Vec::new();
        for channel in 0.. {
            if channels.len() == CHANNELS {
                break;
            }
            // The second part of an epoch is the number of the node.
            let serial = client.position_of(&channel_name(channel))?;
            if serial.split('-').nth(1) == Some("1") {
                channels.push(channel);
            }
        }
        Ok(Two { nodes, channels })
    }

    fn connect(&self, index: usize) -> Result<Connected> {
        client::connect(self.nodes.address(index), &format!("/hubs/{HUB}/ws"))
    }

    fn round_trips(&self) -> Result<Vec<Duration>> {
        let mut subscriber = self.connect(1)?;
        subscriber.subscribe(&channel_name(self.channels[0]))?;
        let mut publisher = self.connect(1)?;
        let mut frame = Vec::new();
        push_publish(Target::AppSockets, self.channels[0], &PAYLOAD, &mut frame);
        let mut times = Vec::with_capacity(ROUND_TRIPS);
        for _ in 0..ROUND_TRIPS {
            let begin = Instant::now();
            publisher.tcp.write_all(&frame)?;
            subscriber.wait_for(appsockets_proto::client::EventType::Publish)?;
            times.push(begin.elapsed());
        }
        Ok(times)
    }

    /// Messages for each second of CPU time of both nodes.
    fn throughput(&self, length: Duration) -> Result<f64> {
        let mut subscriber = self.connect(1)?;
        for channel in &self.channels {
            subscriber.subscribe(&channel_name(*channel))?;
        }
        let mut publisher = self.connect(0)?;
        let mut burst = Vec::new();
        for channel in &self.channels {
            push_publish(Target::AppSockets, *channel, &PAYLOAD, &mut burst);
        }
        let before = self.cpu_us()?;
        let end = Instant::now() + length;
        let (mut sent, mut heard) = (0u64, 0u64);
        let mut input = std::mem::take(&mut subscriber.rest);
        while Instant::now() < end || heard < sent {
            // So many are under way that the nodes always have something to do, and none is dropped.
            while Instant::now() < end && sent - heard < UNDER_WAY {
                publisher.tcp.write_all(&burst)?;
                sent += CHANNELS as u64;
            }
            heard += read_published(&mut subscriber.tcp, &mut input)?;
        }
        Ok(heard as f64 / ((self.cpu_us()? - before) / 1e6))
    }

    fn cpu_us(&self) -> Result<f64> {
        let times = (0..2).map(|index| CpuTime::of(self.nodes.pid(index)?));
        Ok(times.collect::<Result<Vec<_>>>()?.iter().map(|time| time.user_us + time.system_us).sum())
    }
}

/// How many messages one read has brought.
fn read_published(tcp: &mut TcpStream, input: &mut Vec<u8>) -> Result<u64> {
    let mut chunk = [0; 64 << 10];
    let count = tcp.read(&mut chunk).context("nothing comes any more")?;
    ensure!(count > 0, "the node has closed the connection");
    input.extend_from_slice(&chunk[..count]);
    let (mut at, mut heard) = (0, 0);
    while let Some(frame) = frames::first(&input[at..]) {
        heard += u64::from(client::published(Target::AppSockets, &input[at + frame.start..at + frame.end]).is_some());
        at += frame.end;
    }
    input.drain(..at);
    Ok(heard)
}

/// The reference: a process that sends back what comes on a tonic stream, or counts it.
struct Echo {
    child: Child,
    address: SocketAddr,
    runtime: Runtime,
}

impl Echo {
    fn start() -> Result<Echo> {
        let mut child =
            Command::new(std::env::current_exe()?).arg("echo").stdout(Stdio::piped()).stdin(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(child.stdout.take().context("no output")?).read_line(&mut line)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Echo { child, address: line.trim().parse()?, runtime })
    }

    async fn open(&self) -> Result<(mpsc::Sender<Frames>, Streaming<Frames>)> {
        let (send, mut sent) = mpsc::channel(4);
        let channel = Endpoint::from_shared(format!("http://{}", self.address))?.tcp_nodelay(true).connect().await?;
        let mut client = PeerClient::new(channel);
        let outgoing = stream::poll_fn(move |cx| sent.poll_recv(cx));
        Ok((send, client.link(Request::new(outgoing)).await?.into_inner()))
    }

    fn round_trips(&self) -> Result<Vec<Duration>> {
        self.runtime.block_on(async {
            let (send, mut answers) = self.open().await?;
            let mut times = Vec::with_capacity(ROUND_TRIPS);
            for _ in 0..ROUND_TRIPS {
                let begin = Instant::now();
                send.send(batch(0, 1)).await?;
                answers.message().await?.context("no echo")?;
                times.push(begin.elapsed());
            }
            Ok(times)
        })
    }

    /// Messages for each second of CPU time of both processes.
    fn throughput(&self, length: Duration) -> Result<f64> {
        let cpu_us = || -> Result<f64> {
            let times = [CpuTime::of(self.child.id())?, CpuTime::of(std::process::id())?];
            Ok(times.iter().map(|time| time.user_us + time.system_us).sum())
        };
        self.runtime.block_on(async {
            let (send, _answers) = self.open().await?;
            let before = cpu_us()?;
            let end = Instant::now() + length;
            let mut sent = 0;
            while Instant::now() < end {
                send.send(batch(SINK, BATCH)).await?;
                sent += BATCH;
            }
            Ok(sent as f64 / ((cpu_us()? - before) / 1e6))
        })
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Fails only if it has ended.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Frames of this index are not sent back.
const SINK: u32 = 1;

fn batch(index: u32, messages: usize) -> Frames {
    let shard = || Shard { index, messages: Bytes::from_static(&PAYLOAD) };
    Frames { frames: (0..messages).map(|_| Frame { frame: Some(frame::Frame::Shard(shard())) }).collect() }
}

/// Serves the reference until its standard input ends.
pub fn echo() -> Result<()> {
    thread::spawn(|| {
        _ = std::io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        Ok(Server::builder().add_service(PeerServer::new(Echoing)).serve_with_incoming(incoming).await?)
    })
}

struct Echoing;

#[tonic::async_trait]
impl Peer for Echoing {
    type LinkStream = Pin<Box<dyn Stream<Item = Result<Frames, Status>> + Send>>;

    async fn link(&self, request: Request<Streaming<Frames>>) -> Result<Response<Self::LinkStream>, Status> {
        let is_echoed = |frames: &Frames| {
            let sink = |frame: &Frame| matches!(&frame.frame, Some(frame::Frame::Shard(shard)) if shard.index == SINK);
            !frames.frames.first().is_some_and(sink)
        };
        let answers =
            request.into_inner().filter(move |frames| std::future::ready(frames.as_ref().map_or(true, is_echoed)));
        Ok(Response::new(answers.boxed()))
    }

    async fn announce(&self, request: Request<Hello>) -> Result<Response<Hello>, Status> {
        Ok(Response::new(request.into_inner()))
    }

    async fn read_settings(&self, _: Request<ReadSettingsRequest>) -> Result<Response<ReadSettingsResponse>, Status> {
        Ok(Response::new(ReadSettingsResponse::default()))
    }

    async fn read_metadata(&self, _: Request<ReadSettingsRequest>) -> Result<Response<ReadSettingsResponse>, Status> {
        Ok(Response::new(ReadSettingsResponse::default()))
    }

    async fn read_handed(&self, _: Request<ReadHandedRequest>) -> Result<Response<ReadHandedResponse>, Status> {
        Ok(Response::new(ReadHandedResponse::default()))
    }
}
