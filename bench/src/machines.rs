//! `core`: the memory of a session with all that the core keeps for it, without sockets and without a node.

use std::{process::Command, sync::Arc};

use anyhow::{Context as _, Result, ensure};
use appsockets_core::{
    bucket::SharedBucket,
    channel::ChannelKey,
    fanout::{Fanout, Subscriber},
    identity::Identity,
    session::{
        self, Context, Opening, Session,
        effect::Effect,
        request::{Request, SubscribeInfo},
    },
    settings::{hub::Hub, resource::HubSpec},
    shard::{
        self, Shard,
        history::HistoryBounds,
        request::{Ask, Effect as ShardEffect, Listener, Reply, Request as ShardRequest},
    },
    time::Now,
};
use clap::ValueEnum;

use crate::{Options, cpu::pss_bytes, report::Measurement, server::HUB};

const SESSIONS: u32 = 1_000_000;
const NOW: Now = Now { mono_ms: 1_000_000, unix_ms: 1_700_000_000_000 };
const WORKER: Listener = Listener { node: 1, worker: 0 };

/// Where the sessions are subscribed.
#[derive(Clone, Copy, ValueEnum)]
pub enum Spread {
    /// All in one channel
    Shared,
    /// Each in a channel of its own
    Own,
}

/// Measures each spread in processes of their own, so that none finds memory that another has left behind.
pub fn run(options: &Options) -> Result<()> {
    for (name, spread) in [("1 channel for all", "shared"), ("a channel each", "own")] {
        let values: Vec<_> = (0..options.rounds.min(3)).map(|_| measured(spread)).collect::<Result<_>>()?;
        let name = format!("core {SESSIONS} sessions, {name}: PSS per session");
        Measurement { name, unit: "bytes", values, reference: Vec::new() }.print(options.json);
    }
    Ok(())
}

fn measured(spread: &str) -> Result<f64> {
    let output = Command::new(std::env::current_exe()?).args(["core-once", spread]).output()?;
    ensure!(output.status.success(), "the measurement failed: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?.trim().parse()?)
}

/// Makes the sessions in this process, and prints the bytes that each has cost.
pub fn run_once(spread: Spread) -> Result<()> {
    let mut worker = Worker::new();
    let before = pss_bytes(std::process::id())?;
    worker.sessions.reserve_exact(SESSIONS as usize);
    (0..SESSIONS).for_each(|slot| worker.open(slot, spread));
    let after = pss_bytes(std::process::id())?;
    worker.check(spread)?;
    println!("{}", (after - before) / f64::from(SESSIONS));
    Ok(())
}

/// What the core keeps on a worker that has all the channels.
struct Worker {
    config: session::Config,
    hub: Arc<Hub>,
    meter: SharedBucket,
    shard: Shard,
    fanout: Fanout,
    sessions: Vec<Session>,
    effects: Vec<Effect>,
    shard_effects: Vec<ShardEffect>,
}

impl Worker {
    fn new() -> Worker {
        let spec = HubSpec { default_public: true, ..HubSpec::default() };
        let hub = Arc::new(Hub::with_spec(HUB, &spec));
        let mut shard = Shard::alone(NOW, shard_config());
        shard.set_hub(NOW, hub.clone(), &mut Vec::new());
        Worker {
            config: session_config(),
            hub,
            meter: SharedBucket::default(),
            shard,
            fanout: Fanout::new(1),
            sessions: Vec::new(),
            effects: Vec::new(),
            shard_effects: Vec::new(),
        }
    }

    /// Opens an authenticated session, which subscribes to its channel.
    fn open(&mut self, slot: u32, spread: Spread) {
        let opening = Opening {
            subscriber: subscriber(slot),
            // As long as those that a node makes.
            id: format!("{slot:032x}").into(),
            restore_key: "".into(),
            hub: self.hub.clone(),
            identity: Some(Arc::new(Identity { user_id: format!("user-{slot}").into(), ..Identity::default() })),
            one_way: false,
            channels: Vec::new(),
        };
        let session = Session::open(opening, &mut context(&self.config, &self.meter, &mut self.effects));
        self.sessions.push(session);
        let channels = vec![SubscribeInfo { channel: channel(slot, spread).into(), recover: None }];
        self.step(slot, |session, cx| session.request(Request::Subscribe { req_id: Some(1), channels }, cx));
        self.turn();
    }

    fn step(&mut self, slot: u32, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let mut effects = std::mem::take(&mut self.effects);
        act(&mut self.sessions[slot as usize], &mut context(&self.config, &self.meter, &mut effects));
        for effect in effects.drain(..) {
            match effect {
                Effect::Ask { key, ask } => self.ask(key, ask),
                Effect::Attach { key, position } => self.fanout.attach(&key, subscriber(slot), position),
                // What the client is told.
                _ => {}
            }
        }
        self.effects = effects;
    }

    fn ask(&mut self, key: ChannelKey, ask: Ask) {
        let request = ShardRequest { from: WORKER, key, ask };
        self.shard.handle(NOW, request, &mut self.shard_effects);
    }

    /// Lets the shard answer.
    fn turn(&mut self) {
        let mut effects = std::mem::take(&mut self.shard_effects);
        self.shard.end_turn(NOW, &mut effects);
        for effect in effects.drain(..) {
            if let ShardEffect::Answer { key, token, reply: Reply::Subscribed(outcome), .. } = effect {
                self.step(token.subscriber.slot, |session, cx| {
                    session.subscribed(&key.channel, token.number, outcome, cx);
                });
            }
        }
        self.shard_effects = effects;
    }

    /// Whether everybody hears its channel.
    fn check(&self, spread: Spread) -> Result<()> {
        for slot in 0..SESSIONS {
            let key = ChannelKey::new(HUB, channel(slot, spread));
            let heard = self.fanout.position(&key, subscriber(slot));
            heard.with_context(|| format!("session {slot} hears nothing"))?;
        }
        let channels = if matches!(spread, Spread::Own) { SESSIONS as usize } else { 1 };
        ensure!(self.shard.len() == channels, "{} channels are open", self.shard.len());
        Ok(())
    }
}

fn context<'a>(config: &'a session::Config, meter: &'a SharedBucket, effects: &'a mut Vec<Effect>) -> Context<'a> {
    Context { now: NOW, config, meter, effects }
}

fn subscriber(slot: u32) -> Subscriber {
    Subscriber { slot, generation: 1 }
}

fn channel(slot: u32, spread: Spread) -> String {
    match spread {
        Spread::Shared => "news".to_owned(),
        Spread::Own => format!("order:{slot}"),
    }
}

/// As a node has it where nothing is configured.
fn session_config() -> session::Config {
    session::Config {
        ping_interval_ms: 25_000,
        pong_timeout_ms: 10_000,
        auth_timeout_ms: 10_000,
        messages_per_second: 100,
        channels_max: 1_000,
        pending_max: 64,
        message_bytes_max: 64 << 10,
        unreadable_max: 10,
    }
}

/// As a node has it where nothing is configured.
fn shard_config() -> shard::Config {
    shard::Config {
        node: 0,
        generation: 1,
        index: 0,
        count: 1,
        seed: 1,
        history: HistoryBounds { messages_max: 100, bytes_max: 1 << 20, unseen_max: 1_000 },
        retain_ms: 24 * 3600 * 1000,
        close_ms: 60_000,
        occupancy_ms: 1_000,
        hold_ms: 10_000,
        restore_ms: 5_000,
        waiting_max: 1_000,
        held_max: 4_096,
        channels_max: 2_000_000,
        copying_max: 256,
    }
}
