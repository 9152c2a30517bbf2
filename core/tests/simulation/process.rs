//! One run of a node's process: its views, its shards, its workers with their sessions.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use appsockets_core::{
    cluster::{
        view::NodeId,
        views::{
            Views,
            message::{Config as ViewsConfig, Effect as ViewEffect},
        },
    },
    fanout::{Fanout, Subscriber},
    session::{Session, request::SubscribeInfo},
    settings::hub::Hub,
    shard::{Config, history::HistoryBounds, sides::Sides},
    time::Now,
};

use crate::{chance::Chance, net::Event, plan::Plan};

pub const RESTORE_MS: u64 = 1_000;
pub const HOLD_MS: u64 = 3_000;
pub const OCCUPANCY_MS: u64 = 100;

#[derive(Debug)]
pub struct Process {
    pub id: NodeId,
    pub core: bool,
    pub leaving: bool,
    pub views: Views,
    pub shards: Vec<Sides>,
    pub workers: Vec<Worker>,
    /// The links that it knows, by peer.
    pub links: BTreeMap<NodeId, u64>,
    pub paused_until_ms: Option<u64>,
    /// What came while it was paused.
    pub inbox: VecDeque<Event>,
    pub served: BTreeMap<u64, usize>,
    /// What its views want done, in order.
    pub wanted: VecDeque<ViewEffect>,
    pub alive: BTreeSet<NodeId>,
    /// Those that its shards know to be gone.
    pub gone: BTreeSet<NodeId>,
    mono_ahead_ms: u64,
    unix_ahead_ms: u64,
    pub made: u32,
}

#[derive(Debug)]
pub struct Worker {
    pub fanout: Fanout,
    pub held: BTreeMap<Subscriber, Held>,
}

#[derive(Debug)]
pub struct Held {
    pub session: Session,
    pub client: Option<usize>,
    /// Until when it is kept without a connection.
    pub parked_until_ms: Option<u64>,
    pub restore_key: Arc<str>,
    /// What the cluster keeps of it is no longer true.
    pub changed: bool,
    /// It goes on at another node.
    pub given: bool,
    /// A restore that is under way, with the client's positions.
    pub restoring: Option<Vec<SubscribeInfo>>,
}

impl Process {
    pub fn new(
        plan: &Plan,
        node: u64,
        generation: u64,
        now_ms: u64,
        hubs: &[Arc<Hub>],
        chance: &mut Chance,
    ) -> Process {
        let id = NodeId { node, generation };
        let core = node < plan.nodes;
        let (mono_ahead_ms, unix_ahead_ms) = (chance.below(1_000_000), chance.below(400));
        let now = Now { mono_ms: now_ms + mono_ahead_ms, unix_ms: UNIX_MS + now_ms + unix_ahead_ms };
        let views = ViewsConfig {
            me: id,
            expected: plan.nodes as usize,
            points: 8,
            steps: 2,
            chance: chance.number(),
            core,
            retry_ms: 20 + 3 * plan.delay_ms,
            unreachable_ms: 400,
            open_max: 8,
        };
        let shard = |index| {
            let mut shard = Sides::new(shard_config(id, index, plan));
            hubs.iter().for_each(|hub| shard.set_hub(now, hub.clone(), &mut Vec::new()));
            shard
        };
        Process {
            id,
            core,
            leaving: false,
            views: Views::new(now, views),
            shards: (0..plan.workers).map(shard).collect(),
            workers: (0..plan.workers).map(|_| Worker { fanout: Fanout::new(1), held: BTreeMap::new() }).collect(),
            links: BTreeMap::new(),
            paused_until_ms: None,
            inbox: VecDeque::new(),
            served: BTreeMap::new(),
            wanted: VecDeque::new(),
            alive: BTreeSet::new(),
            gone: BTreeSet::new(),
            mono_ahead_ms,
            unix_ahead_ms,
            made: 0,
        }
    }

    pub fn now(&self, now_ms: u64) -> Now {
        Now { mono_ms: now_ms + self.mono_ahead_ms, unix_ms: UNIX_MS + now_ms + self.unix_ahead_ms }
    }

    /// Whether it stands at a side view, or anything is left of one.
    pub fn stands_aside(&self) -> bool {
        self.views.side().is_some() || self.shards.iter().any(|shard| shard.has_side())
    }

    pub fn view_number(&self) -> u64 {
        self.views.view().map_or(0, |view| view.number)
    }
}

const UNIX_MS: u64 = 1_700_000_000_000;

fn shard_config(id: NodeId, index: u64, plan: &Plan) -> Config {
    Config {
        node: id.node,
        generation: id.generation,
        index,
        count: plan.workers,
        seed: 1,
        history: HistoryBounds { messages_max: 5_000, bytes_max: 1 << 22, unseen_max: 5_000 },
        retain_ms: 60_000,
        close_ms: plan.close_ms,
        occupancy_ms: OCCUPANCY_MS,
        hold_ms: HOLD_MS,
        restore_ms: RESTORE_MS,
        waiting_max: 200,
        held_max: 200,
        channels_max: 1_000,
        copying_max: 2,
    }
}
