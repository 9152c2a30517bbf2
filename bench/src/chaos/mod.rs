//! `chaos`: what clients go through while nodes fail, stop and come back. See `cargo xtask chaos`.
//!
//! Three to five real nodes under load from the real client, which checks every delivery. In the middle something goes
//! wrong; then everything must come to rest again.

mod load;
pub mod remote;
mod verdict;

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};

use self::{
    load::{Load, Outcome, Size, channel},
    verdict::{Figure, print},
};
use crate::{
    cluster::{Nodes, network::Network},
    cpu,
};

pub const HUB: &str = "chaos";

#[derive(clap::Args)]
pub struct Options {
    /// The experiment's name, or `all`
    name: String,
    /// The node's program
    #[arg(long)]
    node: PathBuf,
    /// One line of JSON for each experiment instead of a table
    #[arg(long)]
    json: bool,
    #[arg(long, default_value_t = 200)]
    publishers: usize,
    #[arg(long, default_value_t = 2_000)]
    subscribers: usize,
    /// Messages per second of each publisher
    #[arg(long, default_value_t = 4.0)]
    rate: f64,
    /// Copies of each message
    #[arg(long, default_value_t = 1)]
    redundancy: u8,
}

/// One way in which things go wrong.
struct Experiment {
    name: &'static str,
    /// How many nodes there are at most, and how many begin.
    nodes: usize,
    begin: usize,
    cuttable: bool,
    /// An epoch may end only where a node fails without warning.
    planned: bool,
    run: fn(&mut Nodes, &Load, &mut Vec<Figure>) -> Result<()>,
}

const fn experiment(name: &'static str, run: fn(&mut Nodes, &Load, &mut Vec<Figure>) -> Result<()>) -> Experiment {
    Experiment { name, nodes: 3, begin: 3, cuttable: false, planned: false, run }
}

const EXPERIMENTS: [Experiment; 6] = [
    experiment("kill-owner", kill_owner),
    experiment("pause", pause),
    Experiment { planned: true, ..experiment("rolling-restart", rolling_restart) },
    Experiment { nodes: 5, planned: true, ..experiment("scale", scale) },
    Experiment { cuttable: true, ..experiment("partition", partition) },
    Experiment { cuttable: true, ..experiment("one-way", one_way) },
];

/// How long the load runs before anything happens, and after it.
const CALM: Duration = Duration::from_secs(3);
/// How long a node is stopped, or a link cut.
const TROUBLE: Duration = Duration::from_secs(3);
/// The node that gets into trouble.
const VICTIM: usize = 1;

/// Goes through all that were asked for, also after one has failed.
pub fn run(options: &Options) -> Result<()> {
    cpu::raise_descriptors();
    let is_asked = |experiment: &&Experiment| options.name == "all" || options.name == experiment.name;
    let asked: Vec<_> = EXPERIMENTS.iter().filter(is_asked).collect();
    ensure!(!asked.is_empty(), "there is no experiment {}", options.name);
    ensure!(options.rate > 0.0 && options.publishers > 0, "somebody must publish");
    let mut failed = Vec::new();
    for experiment in asked {
        match play(experiment, options) {
            Ok(figures) => {
                print(experiment.name, &figures, options.json);
                if figures.iter().all(Figure::is_well) {
                    continue;
                }
            }
            Err(error) => eprintln!("{} could not be played to its end: {error:#}", experiment.name),
        }
        failed.push(experiment.name);
    }
    ensure!(failed.is_empty(), "failed: {}", failed.join(", "));
    Ok(())
}

fn play(experiment: &Experiment, options: &Options) -> Result<Vec<Figure>> {
    let Experiment { nodes: count, begin, cuttable, .. } = *experiment;
    let mut nodes = Nodes::plan(options.node.clone(), &hubs(options.redundancy), count, begin, cuttable)?;
    for index in 0..begin {
        nodes.start(index)?;
    }
    nodes.all_serve().context("at the beginning")?;
    let size = Size {
        publishers: options.publishers,
        subscribers: options.subscribers,
        rhythm: Duration::from_secs_f64(1.0 / options.rate),
    };
    let load = Load::begin(size, HUB, &nodes.urls()[..begin])?;
    load.go_on(CALM);
    let mut figures = Vec::new();
    (experiment.run)(&mut nodes, &load, &mut figures)?;
    load.go_on(CALM);
    figures.push(Figure::told("time until all nodes serve", "ms", ms(nodes.all_serve().context("at the end")?)));
    let present = presence_is_right(&nodes, size)?;
    figures.push(Figure::wanted("channels whose presence is wrong in the end", present, 0));
    let outcome = load.end()?;
    judge(&outcome, experiment.planned, options.redundancy, &mut figures);
    Ok(figures)
}

fn judge(outcome: &Outcome, planned: bool, redundancy: u8, figures: &mut Vec<Figure>) {
    let safe = planned || redundancy > 0;
    let wanted = |name, value, must: bool| {
        if must { Figure::wanted(name, value, 0) } else { Figure::told(name, "", value as f64) }
    };
    figures.extend([
        Figure::told("publishes acknowledged", "", outcome.acknowledged as f64),
        Figure::told("deliveries", "", outcome.deliveries as f64),
        wanted("acknowledged and lost for a subscriber", outcome.lost, safe),
        wanted("the same, and the subscriber was not told", outcome.lost_untold, true),
        wanted("doubled", outcome.doubled, true),
        wanted("out of order", outcome.reordered, true),
        wanted("subscribers that were told of a gap", outcome.told, safe),
        wanted("changes of epoch that subscribers saw", outcome.epochs_ended, planned),
        wanted("leaves that subscribers saw of those who stayed", outcome.leaves, true),
        Figure::told("joins that subscribers saw of those who stayed", "", outcome.joins as f64),
        wanted("publishes refused", outcome.refused, safe),
        wanted("publishes whose outcome is not known", outcome.unanswered, false),
        wanted("subscriptions that ended", outcome.ended, true),
    ]);
    figures.push(Figure::spread("time without a message, beyond the rhythm, of a subscriber", "ms", &outcome.gaps_ms));
    figures.push(Figure::spread("time until a publish is acknowledged", "ms", &outcome.acks_ms));
}

fn hubs(redundancy: u8) -> String {
    format!(
        "kind: Hub
name: {HUB}
spec:
  defaultPublic: true
  allowAnonymous: true
  defaultRules: rules
  limits: {{sessionMessagesPerSecond: 4000000000}}
---
kind: ChannelRules
hub: {HUB}
name: rules
spec: {{public: true, allowAnonymous: true, clientPublish: true, presence: true, redundancy: {redundancy}}}
"
    )
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// In how many channels a node does not see just those who are there.
fn presence_is_right(nodes: &Nodes, size: Size) -> Result<u64> {
    let mut wrong = 0;
    for index in 0..size.publishers {
        let expected = (index..size.subscribers).step_by(size.publishers).count();
        let present = nodes.present(0, HUB, &channel(index))?;
        wrong += u64::from(present != expected);
    }
    Ok(wrong)
}

/// A process ends without a word, and comes back.
fn kill_owner(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    let moment = Instant::now();
    nodes.kill(VICTIM)?;
    load.all_acknowledged()?;
    figures.push(Figure::told("time until every channel took a publish again", "ms", ms(load.first_ack_after(moment))));
    load.go_on(CALM);
    nodes.start(VICTIM)
}

/// A process does not run for a while, and knows nothing of it.
fn pause(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    let moment = Instant::now();
    nodes.signal(VICTIM, libc::SIGSTOP)?;
    load.go_on(TROUBLE);
    nodes.signal(VICTIM, libc::SIGCONT)?;
    load.all_acknowledged()?;
    figures.push(Figure::told("time until every channel took a publish again", "ms", ms(load.first_ack_after(moment))));
    Ok(())
}

/// Each node is stopped as one is for a new version, and comes back, one after the other.
fn rolling_restart(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    let begin = Instant::now();
    for index in 0..nodes.count() {
        nodes.signal(index, libc::SIGTERM)?;
        nodes.ended(index)?;
        nodes.start(index)?;
        nodes.all_serve()?;
    }
    figures.push(Figure::told("time for all nodes", "ms", ms(begin.elapsed())));
    load.all_acknowledged().map(drop)
}

/// Two nodes come, and go.
fn scale(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    for index in [3, 4] {
        let begin = Instant::now();
        nodes.start(index)?;
        nodes.all_serve()?;
        figures.push(Figure::told("time until a new node has its share", "ms", ms(begin.elapsed())));
        load.go_on(CALM);
    }
    for index in [3, 4] {
        let begin = Instant::now();
        nodes.signal(index, libc::SIGTERM)?;
        nodes.ended(index)?;
        nodes.all_serve()?;
        figures.push(Figure::told("time until a node has gone", "ms", ms(begin.elapsed())));
    }
    Ok(())
}

fn partition(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    cut(nodes, load, figures, Network::cut)
}

fn one_way(nodes: &mut Nodes, load: &Load, figures: &mut Vec<Figure>) -> Result<()> {
    cut(nodes, load, figures, Network::mute)
}

/// Clients still reach the node, other nodes don't.
fn cut(
    nodes: &mut Nodes,
    load: &Load,
    figures: &mut Vec<Figure>,
    set: fn(&Network, usize, bool) -> Result<()>,
) -> Result<()> {
    let network = nodes.network()?;
    set(network, VICTIM, true)?;
    load.go_on(2 * TROUBLE);
    let moment = Instant::now();
    set(network, VICTIM, false)?;
    load.all_acknowledged()?;
    let healed = ms(load.first_ack_after(moment));
    figures.push(Figure::told("time from healing until every channel took a publish", "ms", healed));
    let members = nodes.status(0)?["view"]["members"].as_array().map_or(0, Vec::len);
    if members == 0 {
        bail!("the first node knows no view");
    }
    Ok(())
}
