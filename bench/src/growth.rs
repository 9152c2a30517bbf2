//! `growth`: what a cluster costs as it grows: gossip and CPU time of idle nodes, and a fan-out over three nodes beside the
//! same on one.

use std::{thread, time::Duration};

use anyhow::Result;

use crate::{
    Options,
    abuse::metrics::Metrics,
    client::Target,
    cluster::Nodes,
    cpu::CpuTime,
    flow::{Flow, Shape},
    report::Measurement,
};

const HUB: &str = "growth";
const HUBS: &str = "kind: Hub
name: growth
spec: {defaultPublic: true, allowAnonymous: true, limits: {sessionMessagesPerSecond: 4000000000}}
";
const SIZES: [usize; 3] = [3, 10, 30];
const SUBSCRIBERS: u32 = 3_000;
const PER_SECOND: u32 = 20;

pub fn run(options: &Options) -> Result<()> {
    let length = Duration::from_secs(options.seconds);
    for size in SIZES {
        idle(options, size, length)?;
    }
    let (mut three, mut one) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        one.push(fan_out(options, 1, length)?);
        three.push(fan_out(options, 3, length)?);
    }
    let name = format!("growth: {SUBSCRIBERS} subscribers on 3 nodes, beside as many on 1: CPU per delivery");
    Measurement { name, unit: "us", values: three, reference: one }.print(options.json);
    Ok(())
}

/// Of each node.
fn idle(options: &Options, size: usize, length: Duration) -> Result<()> {
    let nodes = begin(options, size)?;
    let (mut bytes, mut cpu) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (sent, time) = (gossiped(&nodes)?, cpu_us(&nodes)?);
        thread::sleep(length);
        let per_node_second = size as f64 * length.as_secs_f64();
        bytes.push((gossiped(&nodes)? - sent) / per_node_second);
        cpu.push((cpu_us(&nodes)? - time) / per_node_second / 10_000.0);
    }
    let print = |what: &str, unit, values| {
        let name = format!("growth: {size} idle nodes: {what} of each");
        Measurement { name, unit, values, reference: Vec::new() }.print(options.json);
    };
    print("gossip sent", "byte/s", bytes);
    print("CPU", "%", cpu);
    Ok(())
}

/// CPU time of all nodes for each delivery, in microseconds.
fn fan_out(options: &Options, size: usize, length: Duration) -> Result<f64> {
    let nodes = begin(options, size)?;
    let addresses: Vec<_> = (0..size).map(|index| nodes.address(index)).collect();
    let shape = Shape { hub: HUB, subscribers: SUBSCRIBERS, per_second: PER_SECOND, spins: false };
    let mut flow = Flow::connect_to(Target::AppSockets, &addresses, shape)?;
    let (before, delivered) = (cpu_us(&nodes)?, flow.delivered());
    flow.run(length)?;
    Ok((cpu_us(&nodes)? - before) / (flow.delivered() - delivered) as f64)
}

fn begin(options: &Options, size: usize) -> Result<Nodes> {
    let mut nodes = Nodes::plan(options.node.clone(), HUBS, size, size, false)?;
    for index in 0..size {
        nodes.start(index)?;
    }
    nodes.all_serve()?;
    Ok(nodes)
}

fn cpu_us(nodes: &Nodes) -> Result<f64> {
    let times = (0..nodes.count()).map(|index| CpuTime::of(nodes.pid(index)?));
    Ok(times.collect::<Result<Vec<_>>>()?.iter().map(|time| time.user_us + time.system_us).sum())
}

fn gossiped(nodes: &Nodes) -> Result<f64> {
    let sent = (0..nodes.count()).map(|index| Ok(Metrics::read(nodes.admin(index))?.get("gossip_sent_bytes_total")));
    Ok(sent.collect::<Result<Vec<u64>>>()?.iter().sum::<u64>() as f64)
}
