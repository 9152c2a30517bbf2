//! `rebalance`: a fourth node joins three and crashes, again and again, with few and with very many channels.
//!
//! Each node says when it came to know of what (`GET /v1/cluster`), by the clock that all processes of a machine share.
//! Counted is the last of them. All nodes and the load share the machine, so many channels cost each node as many parts
//! of a core as there are nodes.

use std::{
    io::Read,
    net::TcpStream,
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use appsockets_proto::client::{ChannelSubscribeInfo, EventType, SubscribeRequest};
use serde_json::{Value, json};

use crate::{
    Options,
    client::{self, Connected},
    cluster::Nodes,
    cpu,
    report::Measurement,
};

/// The original's, and what it was not tried with: channels, clients, and the length of a channel's name.
const WORKLOADS: [Workload; 5] = [
    Workload { channels: 500, clients: 1, name_bytes: 36 },
    Workload { channels: 1_500, clients: 3, name_bytes: 20 },
    Workload { channels: 4_500, clients: 3, name_bytes: 40 },
    Workload { channels: 100_000, clients: 50, name_bytes: 40 },
    Workload { channels: 1_000_000, clients: 1_000, name_bytes: 40 },
];

#[derive(Clone, Copy)]
struct Workload {
    channels: usize,
    clients: usize,
    name_bytes: usize,
}

const HUB: &str = "rebalance";
/// After what the nodes then tidy up by themselves.
const REST: Duration = Duration::from_millis(500);
/// In one request.
const BATCH: usize = 200;
/// The node that comes and goes.
const NEW: usize = 3;

const HUBS: &str = "kind: Hub
name: rebalance
spec: {defaultPublic: true, allowAnonymous: true, limits: {channelsPerSession: 1000000, sessionMessagesPerSecond: 1000000}}
";

pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    for workload in WORKLOADS {
        measure(workload, options)?;
    }
    Ok(())
}

fn measure(workload: Workload, options: &Options) -> Result<()> {
    let Workload { channels, clients, .. } = workload;
    let mut nodes = Nodes::plan(options.node.clone(), HUBS, 4, 3, false)?
        .with(json!({"workers": 0, "session": {"channelsMax": 1_000_000}, "channel": {"openMax": 4_000_000}}));
    for index in 0..NEW {
        nodes.start(index)?;
    }
    nodes.all_serve()?;
    let memory = |nodes: &Nodes| (0..NEW).map(|index| cpu::pss_bytes(nodes.pid(index)?)).sum::<Result<f64>>();
    let before = memory(&nodes)?;
    let _clients = subscribe(&nodes, workload)?;
    let per_channel = (memory(&nodes)? - before) / channels as f64;
    let mut figures = Figures::default();
    for _ in 0..options.rounds {
        figures.add_join(&mut nodes)?;
        figures.add_crash(&mut nodes)?;
    }
    let name = format!("rebalance {channels} channels, {clients} clients");
    let print = |what: &str, unit, values: &[f64]| {
        let name = format!("{name}: {what}");
        Measurement { name, unit, values: values.to_vec(), reference: Vec::new() }.print(options.json);
    };
    print("join known", "ms", &figures.join_known);
    print("adjusted after a join", "ms", &figures.joined.resumed);
    print("copied after a join", "ms", &figures.joined.copied);
    print("crash detected", "ms", &figures.crash_detected);
    print("adjusted after a detected crash", "ms", &figures.recovered.resumed);
    print("copied after a detected crash", "ms", &figures.recovered.copied);
    print("memory of all nodes per channel", "bytes", &[per_channel]);
    Ok(())
}

#[derive(Default)]
struct Figures {
    join_known: Vec<f64>,
    joined: Adjusted,
    crash_detected: Vec<f64>,
    recovered: Adjusted,
}

/// How long it took until every channel went on at its owner, for all that hear it, and until it was on its copies again.
#[derive(Default)]
struct Adjusted {
    resumed: Vec<f64>,
    copied: Vec<f64>,
}

impl Adjusted {
    fn add(&mut self, statuses: &[Value], since: f64) -> Result<()> {
        self.resumed.push(last(statuses, |status| number(&status["view"]["resumedMs"]))? - since);
        self.copied.push(last(statuses, |status| number(&status["view"]["settledMs"]))? - since);
        Ok(())
    }
}

impl Figures {
    fn add_join(&mut self, nodes: &mut Nodes) -> Result<()> {
        nodes.start(NEW)?;
        nodes.all_serve()?;
        let statuses = (0..NEW).map(|index| nodes.status(index)).collect::<Result<Vec<_>>>()?;
        let own = nodes.status(NEW)?;
        let began = number(&own["startedMs"])?;
        let met = last(&statuses, |status| {
            let others = status["nodes"].as_array().context("no nodes")?;
            let new = others.iter().find(|node| node["generation"] == own["generation"]).context("it is not known")?;
            number(&new["metMs"])
        })?;
        self.join_known.push(met - began);
        let all: Vec<_> = statuses.into_iter().chain([own]).collect();
        self.joined.add(&all, met)?;
        thread::sleep(REST);
        Ok(())
    }

    fn add_crash(&mut self, nodes: &mut Nodes) -> Result<()> {
        let moment = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as f64;
        nodes.kill(NEW)?;
        nodes.all_serve()?;
        let statuses = (0..NEW).map(|index| nodes.status(index)).collect::<Result<Vec<_>>>()?;
        let installed = last(&statuses, |status| number(&status["view"]["installedMs"]))?;
        self.crash_detected.push(installed - moment);
        self.recovered.add(&statuses, installed)?;
        thread::sleep(REST);
        Ok(())
    }
}

fn last(statuses: &[Value], of: impl Fn(&Value) -> Result<f64>) -> Result<f64> {
    let times = statuses.iter().map(of).collect::<Result<Vec<_>>>()?;
    Ok(times.into_iter().fold(f64::MIN, f64::max))
}

fn number(value: &Value) -> Result<f64> {
    value.as_f64().context("the node does not say when")
}

/// Clients that hear all channels, each of them one, spread evenly over clients and nodes. What they are sent is read.
fn subscribe(nodes: &Nodes, workload: Workload) -> Result<Vec<TcpStream>> {
    let Workload { channels, clients, name_bytes } = workload;
    let mut streams = Vec::new();
    for index in 0..clients {
        let mut client = client::connect(nodes.address(index % NEW), &format!("/hubs/{HUB}/ws"))?;
        let own: Vec<_> = (index..channels).step_by(clients).collect();
        for (request, batch) in own.chunks(BATCH).enumerate() {
            subscribe_to(&mut client, request as i64 + 1, batch, name_bytes)?;
        }
        streams.push(client.tcp.try_clone()?);
        let mut tcp = client.tcp;
        tcp.set_read_timeout(None)?;
        // Ends with the connection.
        thread::Builder::new().stack_size(64 << 10).spawn(move || {
            let mut scratch = [0; 16 << 10];
            while tcp.read(&mut scratch).is_ok_and(|count| count > 0) {}
        })?;
    }
    // What the last subscriptions brought is to be over.
    thread::sleep(REST);
    ensure!(nodes.all_serve()?.as_secs() < 60, "the nodes do not come to rest");
    Ok(streams)
}

fn subscribe_to(client: &mut Connected, req_id: i64, channels: &[usize], name_bytes: usize) -> Result<()> {
    let info = |number: &usize| ChannelSubscribeInfo {
        channel: format!("{number:0name_bytes$}"),
        timestamp: None,
        channel_serial: None,
    };
    client.send(EventType::Subscribe, &SubscribeRequest { req_id, channels: channels.iter().map(info).collect() })?;
    client.wait_for(EventType::Subscribe)
}
