//! One run from a seed: things happen, then all comes to rest, and then it is judged.

use std::collections::BTreeMap;

use crate::{plan::Plan, world::World};

/// What a run was.
#[derive(Debug, Default)]
pub struct Tally {
    pub steps: u64,
    pub sent: u64,
    pub heard: u64,
    pub acked: u64,
    pub counts: BTreeMap<&'static str, u64>,
}

/// Time within which a cluster without faults comes to rest, in milliseconds.
const REST_MS: u64 = 30_000;

/// One in so many runs goes on until everything is forgotten, which takes as long as ten others.
pub const LET_GO: u64 = 50;

pub fn run(plan: &Plan, trace: bool) -> Result<Tally, String> {
    let mut world = World::new(plan.clone());
    world.trace = trace;
    world.pass(800);
    check(&world, "founding")?;
    for step in 0..plan.active_ms / 10 {
        world.clients_act();
        if step * 10 < plan.quiet_after_ms {
            match plan.aim {
                Some(aim) => world.aim(aim),
                None => world.faults_act(),
            }
        }
        world.pass(10);
        check(&world, "running")?;
    }
    come_to_rest(&mut world)?;
    world.judge()?;
    if plan.seed.is_multiple_of(LET_GO) {
        let_go(&mut world)?;
    }
    Ok(tally(&world))
}

fn check(world: &World, when: &str) -> Result<(), String> {
    match world.mistakes.first() {
        Some(mistake) => Err(format!("{when}: {mistake}")),
        None => Ok(()),
    }
}

fn come_to_rest(world: &mut World) -> Result<(), String> {
    let until_ms = world.now_ms + REST_MS;
    loop {
        world.mend();
        world.pass(100);
        check(world, "coming to rest")?;
        if world.is_quiet() {
            break;
        }
        if world.now_ms > until_ms {
            return Err(format!("the cluster does not come to rest: {}", world.what_is_left()));
        }
    }
    for client in 0..world.clients.len() {
        if world.clients[client].at.is_none() {
            world.reconnect(client);
        }
    }
    world.pass(100);
    subscribe_to_what_lacks(world);
    // Whatever waits is answered or given up by then, and nobody is kept for a restore.
    world.pass(crate::process::HOLD_MS + 500);
    subscribe_to_what_lacks(world);
    for client in 0..world.clients.len() {
        while !world.clients[client].repeats.is_empty() {
            world.repeat(client);
        }
    }
    world.pass(1_500);
    check(world, "resting")?;
    for client in 0..world.clients.len() {
        world.publish(client);
    }
    world.pass(1_500);
    check(world, "the last publishes")
}

fn subscribe_to_what_lacks(world: &mut World) {
    for client in 0..world.clients.len() {
        for channel in std::mem::take(&mut world.clients[client].lacking) {
            world.ask_subscribe(client, channel);
        }
    }
}

fn let_go(world: &mut World) -> Result<(), String> {
    for client in 0..world.clients.len() {
        world.close(client);
    }
    // Keys are forgotten after two minutes, and the node of a lost session is asked for it in that time.
    world.pass(250_000);
    check(world, "letting go")?;
    world.judge_emptiness()
}

fn tally(world: &World) -> Tally {
    Tally {
        steps: world.now_ms,
        sent: world.net.sent,
        heard: world.ledger.heard,
        acked: world.ledger.acked.len() as u64,
        counts: world.counts.clone(),
    }
}
