//! Everything that can go wrong, and what must be true when it ends.

use appsockets_core::cluster::view::NodeId;

use crate::{
    fault::Fault,
    judge::Verdict,
    world::{EDGE, World},
};

/// How long a cluster may take to come to rest.
const CALM_MS: u64 = 60_000;

/// How long it has to stay so: longer than anything it may still be waiting for.
const REST_MS: u64 = 3_000;

/// What a run came to.
#[derive(Debug)]
pub struct Outcome {
    pub installs: u64,
}

/// One run of a cluster: it is founded, troubled for a while, and left alone.
pub fn run(seed: u64, fault: Fault) -> Result<Outcome, String> {
    let mut world = World::new(seed, 1, fault);
    let cores = world.chance.within(1, 6);
    let expected = if world.chance.percent(10) { 1 } else { cores };
    world.judge.expected = expected as usize;
    for node in 1..=cores {
        world.start(node, true);
    }
    if world.chance.percent(40) {
        world.start(EDGE, false);
    }
    let told = |error: String| format!("seed {seed}: {error}");
    trouble(&mut world).map_err(told)?;
    world.calm_down();
    rest(&mut world).map_err(told)?;
    Ok(Outcome { installs: world.judge.installs })
}

fn trouble(world: &mut World) -> Verdict {
    world.rumour = world.chance.pick(&[0, 0, 2, 10]).unwrap_or(0);
    let times = world.chance.within(0, 25);
    let pause_ms = world.chance.pick(&[60, 250, 900]).unwrap_or(60);
    let mut next = 50;
    for _ in 0..times {
        let end_ms = world.now_ms + world.chance.within(1, 2 * pause_ms);
        while world.now_ms < end_ms {
            world.mend(30);
            let step_ms = world.chance.within(10, 100);
            world.run_until((world.now_ms + step_ms).min(end_ms))?;
        }
        trouble_once(world, &mut next);
    }
    Ok(())
}

fn trouble_once(world: &mut World, next: &mut u64) {
    let ids: Vec<NodeId> = world.nodes.keys().copied().collect();
    let (a, b) = (world.chance.pick(&ids), world.chance.pick(&ids));
    let (Some(a), Some(b)) = (a, b) else { return restart(world) };
    match world.chance.within(0, 12) {
        0 | 1 => world.crash(a),
        2..=4 => restart(world),
        5 | 6 if a.node != b.node => drop(world.cut.insert((a.node.min(b.node), a.node.max(b.node)))),
        7 => split(world, &ids),
        8 => world.cut.clear(),
        9 if a.node != b.node => world.break_link(a, b),
        10 if world.chance.percent(50) => replace(world, a, next),
        11 if world.chance.percent(50) => {
            *next += 1;
            world.start(*next, true);
        }
        _ => {}
    }
}

fn restart(world: &mut World) {
    let dead: Vec<u64> = (1..=6).filter(|node| !world.runs(*node) && world.has_run(*node)).collect();
    let back = world.chance.pick(&dead).filter(|node| !world.has_left(*node));
    if let Some(node) = back {
        world.start(node, true);
    }
}

/// Nodes on the two sides don't reach each other.
fn split(world: &mut World, ids: &[NodeId]) {
    let (left, right): (Vec<NodeId>, Vec<NodeId>) = ids.iter().partition(|_| world.chance.percent(50));
    for (a, b) in left.iter().flat_map(|a| right.iter().map(move |b| (a.node, b.node))) {
        world.cut.insert((a.min(b), a.max(b)));
    }
}

/// Another node comes for one that leaves as planned.
fn replace(world: &mut World, id: NodeId, next: &mut u64) {
    if let Some(node) = world.nodes.get_mut(&id).filter(|node| node.core && !node.leaving) {
        node.leaving = true;
        *next += 1;
        world.start(*next, true);
    }
}

/// Waits until the cluster is as it should be and stays so.
fn rest(world: &mut World) -> Verdict {
    let end_ms = world.now_ms + CALM_MS;
    let mut since_ms = world.now_ms;
    let mut installs = world.judge.installs;
    while world.now_ms - since_ms < REST_MS {
        if world.now_ms >= end_ms {
            return Err(format!("no rest: {}", world.describe()));
        }
        world.mend(50);
        world.run_until(world.now_ms + 100)?;
        if !world.is_at_rest() || installs != world.judge.installs {
            (since_ms, installs) = (world.now_ms, world.judge.installs);
        }
    }
    Ok(())
}
