//! The gossip thread.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use appsockets_core::cluster::view::NodeId;
use chitchat::{
    Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, spawn_chitchat,
};
use tokio::{
    net::UdpSocket,
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, MissedTickBehavior, interval},
};

use super::{
    Command, Counters, Facts, Heard, Options, UNREACHABLE_MAX,
    seal::Sealer,
    seek::{Beacon, resolve},
    transport::Sealed,
};
use crate::edge::clock;

/// Measured: a crash is seen after 0.2 to 0.3 s in a small cluster, without a false alarm under load.
const INTERVAL: Duration = Duration::from_millis(50);
const PHI: f64 = 8.0;
const SAMPLES: usize = 100;
const SAMPLE_MAX: Duration = Duration::from_secs(2);
/// How long the dead and what was deleted are remembered.
const GRACE: Duration = Duration::from_secs(600);
/// How often others are looked for, right after the start and later.
const SEEK_EARLY: Duration = Duration::from_millis(100);
const SEEK: Duration = Duration::from_secs(1);
const EARLY: Duration = Duration::from_secs(3);
/// Addresses that are contacted in one second.
const CONTACTS_MAX: usize = 256;

pub struct Running {
    options: Options,
    counters: Arc<Counters>,
    heard: watch::Sender<Arc<[Heard]>>,
}

impl Running {
    pub fn new(
        options: Options,
        counters: Arc<Counters>,
        heard: watch::Sender<Arc<[Heard]>>,
    ) -> anyhow::Result<Running> {
        options.socket.set_nonblocking(true).context("the gossip socket can't be used")?;
        Ok(Running { options, counters, heard })
    }

    /// Until nobody sends commands any more.
    pub async fn run(&mut self, mut commands: mpsc::Receiver<Command>) -> anyhow::Result<()> {
        let Options { me, cluster, socket, secret, broadcast, .. } = &self.options;
        let socket = UdpSocket::from_std(socket.try_clone()?)?;
        let sealer = |purpose| Sealer::new(secret.clone(), purpose, cluster, *me);
        let transport = Sealed::new(socket, sealer("gossip"), self.counters.clone());
        let mut beacon = broadcast.map(|to| Beacon::open(to, sealer("beacon"), self.counters.clone())).transpose()?;
        let mut facts = self.options.facts.clone();
        // A member that sends what chitchat can't stand ends it. It begins again, under a name that the others have not
        // heard: what they know of the former one they take for older.
        while self.once(&transport, &mut beacon, &mut facts, &mut commands).await? {
            tracing::error!("gossip broke down and begins again");
        }
        Ok(())
    }

    /// False when nobody sends commands any more, true when chitchat has ended.
    async fn once(
        &self,
        transport: &Sealed,
        beacon: &mut Option<Beacon>,
        facts: &mut Facts,
        commands: &mut mpsc::Receiver<Command>,
    ) -> anyhow::Result<bool> {
        let handle = spawn_chitchat(self.config(), pairs(self.options.me, facts), transport).await?;
        let chitchat = handle.chitchat();
        let mut live = chitchat.lock().await.live_nodes_watcher();
        let mut ended = Box::pin(handle.termination_watcher());
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let started = Instant::now();
        let (mut next_seek, mut lookup) = (started, None::<JoinHandle<BTreeSet<SocketAddr>>>);
        loop {
            tokio::select! {
                command = commands.recv() => match command {
                    Some(Command::Tell(new)) => self.tell(&handle, facts, new).await,
                    Some(Command::Contact(address)) => self.contact(&handle, address),
                    None => return Ok(false),
                },
                _ = live.changed() => self.show(&*chitchat.lock().await),
                _ = ticks.tick() => self.show(&*chitchat.lock().await),
                found = async { lookup.as_mut().expect("it is there").await }, if lookup.is_some() => {
                    lookup = None;
                    self.contact_strangers(&handle, &found.unwrap_or_default()).await;
                }
                address = async { beacon.as_mut().expect("it is there").heard().await }, if beacon.is_some() => {
                    self.contact_strangers(&handle, &BTreeSet::from([address])).await;
                }
                _ = &mut ended => return Ok(true),
            }
            if next_seek <= Instant::now() {
                next_seek = Instant::now() + if started.elapsed() < EARLY { SEEK_EARLY } else { SEEK };
                // One at a time, however long it takes.
                if lookup.is_none() && !self.options.seeds.is_empty() {
                    lookup = Some(tokio::spawn(resolve(self.options.seeds.clone())));
                }
                if let Some(beacon) = beacon {
                    beacon.send(self.options.advertise).await;
                }
            }
        }
    }

    fn config(&self) -> ChitchatConfig {
        let Options { me, cluster, advertise, .. } = &self.options;
        // Greater at each beginning, as the run of the process is.
        let generation = clock::now().unix_ms.max(me.generation);
        ChitchatConfig {
            chitchat_id: ChitchatId::new(me.node.to_string(), generation, *advertise),
            cluster_id: cluster.clone(),
            gossip_interval: INTERVAL,
            listen_addr: *advertise,
            // chitchat looks names up once a minute; here that is done each second.
            seed_nodes: Vec::new(),
            failure_detector_config: FailureDetectorConfig::new(PHI, SAMPLES, SAMPLE_MAX, INTERVAL, GRACE),
            marked_for_deletion_grace_period: GRACE,
            catchup_callback: None,
            extra_liveness_predicate: None,
        }
    }

    /// Sets what has changed and pushes it to all who live.
    async fn tell(&self, handle: &ChitchatHandle, facts: &mut Facts, new: Facts) {
        let before: BTreeMap<_, _> = pairs(self.options.me, facts).into_iter().collect();
        let changed: Vec<_> =
            pairs(self.options.me, &new).into_iter().filter(|(key, value)| before.get(key) != Some(value)).collect();
        *facts = new;
        if changed.is_empty() {
            return;
        }
        let addresses = handle
            .with_chitchat(|chitchat| {
                let state = chitchat.self_node_state();
                changed.iter().for_each(|(key, value)| state.set(key, value));
                living(chitchat)
            })
            .await;
        addresses.into_iter().for_each(|address| self.contact(handle, address));
    }

    fn contact(&self, handle: &ChitchatHandle, address: SocketAddr) {
        if address != self.options.advertise {
            // Fails only when chitchat has ended, which is seen elsewhere.
            let _ = handle.gossip(address);
        }
    }

    async fn contact_strangers(&self, handle: &ChitchatHandle, addresses: &BTreeSet<SocketAddr>) {
        let known = handle.with_chitchat(|chitchat| living(chitchat)).await;
        let strangers = addresses.iter().filter(|address| !known.contains(address));
        strangers.take(CONTACTS_MAX).for_each(|address| self.contact(handle, *address));
    }

    fn show(&self, chitchat: &Chitchat) {
        let heard = heard(chitchat);
        self.heard.send_if_modified(|known| {
            let changed = **known != *heard;
            if changed {
                *known = heard.into();
            }
            changed
        });
    }
}

fn living(chitchat: &Chitchat) -> BTreeSet<SocketAddr> {
    let own = chitchat.self_chitchat_id();
    chitchat.live_nodes().filter(|id| *id != own).map(|id| id.gossip_advertise_addr).collect()
}

/// Of each run of each node, what was heard last. Only the newest run of a node can be alive.
fn heard(chitchat: &Chitchat) -> Vec<Heard> {
    let own = chitchat.self_chitchat_id();
    let living: BTreeSet<_> = chitchat.live_nodes().collect();
    let mut heard: BTreeMap<NodeId, Heard> = BTreeMap::new();
    for (id, state) in chitchat.node_states().iter().filter(|(id, _)| *id != own) {
        let Some(new) = read(id, state, living.contains(id)) else { continue };
        match heard.get(&new.id) {
            Some(old) if old.alive && !new.alive => {}
            _ => drop(heard.insert(new.id, new)),
        }
    }
    let newest: BTreeMap<u64, u64> = heard.keys().map(|id| (id.node, id.generation)).collect();
    for (id, heard) in &mut heard {
        heard.alive &= newest.get(&id.node) == Some(&id.generation);
    }
    heard.into_values().collect()
}

/// None if it says too little to be anybody.
fn read(id: &ChitchatId, state: &NodeState, alive: bool) -> Option<Heard> {
    let text = |key| state.get(key).unwrap_or_default();
    let id_of = |text: &str| {
        let (node, generation) = text.split_once('.')?;
        Some(NodeId { node: node.parse().ok()?, generation: generation.parse().ok()? })
    };
    let facts = Facts {
        peer: text(PEER).parse().ok(),
        core: text(CORE) == YES,
        leaving: text(LEAVING) == YES,
        unreachable: text(UNREACHABLE).split(' ').filter_map(id_of).take(UNREACHABLE_MAX).collect(),
        view: text(VIEW).parse().unwrap_or_default(),
        revision: text(REVISION).chars().take(64).collect(),
        version: text(VERSION).chars().take(64).collect(),
    };
    Some(Heard { id: id_of(text(ID))?, alive, gossip: id.gossip_advertise_addr, facts })
}

const ID: &str = "id";
const PEER: &str = "peer";
const CORE: &str = "core";
const LEAVING: &str = "leaving";
const UNREACHABLE: &str = "unreachable";
const VIEW: &str = "view";
const REVISION: &str = "revision";
const VERSION: &str = "version";
const YES: &str = "yes";

/// As gossip carries it: keys in ASCII and short values, which is what chitchat can do.
fn pairs(me: NodeId, facts: &Facts) -> Vec<(String, String)> {
    let id = |id: &NodeId| format!("{}.{}", id.node, id.generation);
    let flag = |flag| if flag { YES.to_owned() } else { "no".to_owned() };
    let unreachable: Vec<_> = facts.unreachable.iter().take(UNREACHABLE_MAX).map(id).collect();
    let pairs = [
        (ID, id(&me)),
        (PEER, facts.peer.map(|address| address.to_string()).unwrap_or_default()),
        (CORE, flag(facts.core)),
        (LEAVING, flag(facts.leaving)),
        (UNREACHABLE, unreachable.join(" ")),
        (VIEW, facts.view.to_string()),
        (REVISION, facts.revision.clone()),
        (VERSION, facts.version.clone()),
    ];
    pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
