//! `alarms`: whether nodes that live are ever taken for dead while others keep every core busy.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use anyhow::Result;

use crate::{Options, abuse::metrics::Metrics, cluster::Nodes, report::Measurement};

const NODES: usize = 4;
const HUBS: &str = "kind: Hub
name: alarms
spec: {}
";

/// A view that nobody asked for is a false alarm.
pub fn run(options: &Options) -> Result<()> {
    let mut nodes = Nodes::plan(options.node.clone(), HUBS, NODES, NODES, false)?;
    for index in 0..NODES {
        nodes.start(index)?;
    }
    nodes.all_serve()?;
    let views = |nodes: &Nodes| -> Result<u64> {
        let counts = (0..NODES).map(|index| Ok(Metrics::read(nodes.admin(index))?.get("cluster_views_total")));
        Ok(counts.collect::<Result<Vec<_>>>()?.iter().sum())
    };
    let before = views(&nodes)?;
    let going = Arc::new(AtomicBool::new(true));
    let cores = thread::available_parallelism()?.get();
    let busy: Vec<_> = (0..cores).map(|_| busy(going.clone())).collect();
    thread::sleep(Duration::from_secs(options.seconds));
    going.store(false, Ordering::Relaxed);
    busy.into_iter().for_each(|busy| drop(busy.join()));
    let alarms = views(&nodes)? - before;
    let name = format!("alarms: views without a reason in {} s, {NODES} nodes, {cores} busy cores", options.seconds);
    Measurement { name, unit: "", values: vec![alarms as f64], reference: Vec::new() }.print(options.json);
    Ok(())
}

fn busy(going: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        while going.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
    })
}
