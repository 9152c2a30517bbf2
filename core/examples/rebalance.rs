//! What a change of view costs the shards of a cluster: three nodes own many channels, each with a subscriber and a copy; a
//! fourth node joins and ends, as often as is wanted. All of it is in one thread and without a network, but each message is encoded and decoded.
//! `cargo run --release -p appsockets-core --example rebalance -- [channels] [messages under way] [rounds]`

#![expect(
    clippy::disallowed_macros,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a command of a crate that does no I/O: it prints, and measures the time"
)]

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
    time::Duration,
};

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::{ClusterId, Member, NodeId, View},
    fanout::Subscriber,
    message::{Form, Payload},
    session::event,
    settings::{
        hub::{Hub, Rules},
        resource::HubSpec,
    },
    shard::{
        Config, Shard,
        history::HistoryBounds,
        request::{Ask, Effect, Listener, Publish, Request, Subscribe, Token},
    },
    time::Now,
};

const NOW: Now = Now { mono_ms: 1_000, unix_ms: 1_000 };
const POINTS: u16 = 128;
/// Messages that a node takes in one turn.
const BATCH: usize = 256;

fn main() {
    let number = |at: usize, otherwise| std::env::args().nth(at).map_or(otherwise, |text| text.parse().unwrap());
    let (channels, under_way) = (number(1, 100_000), number(2, 0));
    let mut cluster = Cluster::default();
    let keys: Vec<_> = (0..channels).map(|number| ChannelKey::new("shop", format!("orders-{number}"))).collect();
    (1..=3).for_each(|node| cluster.start(node));
    cluster.measure("founding", |cluster| cluster.go_to(&[1, 2, 3]));
    cluster.measure("subscribing", |cluster| {
        for node in 1..=3 {
            let own = (0u32..).zip(&keys).filter(|(number, _)| 1 + u64::from(number % 3) == node);
            let asks = own.map(|(number, key)| (key, subscribe(number)));
            asks.collect::<Vec<_>>().chunks(BATCH).for_each(|asks| cluster.ask(node, asks));
        }
    });
    for new in (4..).take(number(3, 1)) {
        cluster.start(new);
        cluster.publish(&keys[..under_way]);
        cluster.measure("a node joins", |cluster| join(cluster, new));
        cluster.publish(&keys[..under_way]);
        cluster.measure("a view without a change", |cluster| cluster.go_to(&[1, 2, 3, new]));
        cluster.publish(&keys[..under_way]);
        cluster.measure("it ends", |cluster| crash(cluster, new));
    }
}
#[inline(never)]
fn crash(cluster: &mut Cluster, new: u64) {
    cluster.end(new);
    cluster.go_to(&[1, 2, 3]);
}
#[inline(never)]
fn join(cluster: &mut Cluster, new: u64) {
    cluster.go_to(&[1, 2, 3, new])
}

/// The time that this thread was on a core, which other programs do not lengthen.
fn on_core() -> Duration {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(stat.split(' ').next().unwrap().parse().unwrap())
}

fn id(node: u64) -> NodeId {
    NodeId { node, generation: 1 }
}

fn subscribe(number: u32) -> Ask {
    let token = Token { subscriber: Subscriber { slot: number, generation: 0 }, number: 1 };
    let member = event::Member { session_id: format!("session-{number}").into(), identity: None, since_ms: 1 };
    Ask::Subscribe(Subscribe { token, member, attachment: 1, recover: None })
}

fn shard(node: u64) -> Shard {
    let mut shard = Shard::new(Config {
        node,
        generation: 1,
        index: 0,
        count: 1,
        seed: 1,
        history: HistoryBounds { messages_max: 100, bytes_max: 65_536, unseen_max: 1_000 },
        retain_ms: 60_000,
        close_ms: 60_000,
        occupancy_ms: 1_000,
        hold_ms: 5_000,
        restore_ms: 60_000,
        waiting_max: 100,
        held_max: 1_000,
        channels_max: 1_000_000,
        copying_max: 256,
    });
    let spec = HubSpec { default_public: true, allow_anonymous: true, ..HubSpec::default() };
    let mut hub = Hub::with_spec("shop", &spec);
    hub.default_rules = Rules { redundancy: 1, ..hub.default_rules };
    shard.set_hub(NOW, Arc::new(hub), &mut Vec::new());
    shard
}

/// Shards of several nodes, and what is under way between them.
#[derive(Default)]
struct Cluster {
    shards: BTreeMap<u64, Shard>,
    views: Vec<Arc<View>>,
    /// By sender and receiver, each all that a turn brought, in order.
    letters: VecDeque<(NodeId, NodeId, Vec<u8>)>,
    served: BTreeSet<u64>,
    bytes: usize,
    messages: usize,
    spent: BTreeMap<u64, Duration>,
    /// What all had spent when the last of them went on with everything.
    resumed: Duration,
}

impl Cluster {
    fn start(&mut self, node: u64) {
        self.shards.insert(node, shard(node));
        self.tell_alive();
    }

    fn end(&mut self, node: u64) {
        self.shards.remove(&node);
        self.each(|shard, effects| shard.gone(NOW, id(node), effects));
        self.each(|shard, effects| shard.session(NOW, id(node), None, effects));
        self.tell_alive();
    }

    fn tell_alive(&mut self) {
        let alive: Vec<_> = self.shards.keys().map(|node| id(*node)).collect();
        self.each(|shard, effects| shard.set_alive(NOW, alive.iter().copied(), effects));
    }

    fn ask(&mut self, node: u64, asks: &[(&ChannelKey, Ask)]) {
        let from = Listener { node, worker: 0 };
        self.step(node, |shard, effects| {
            for (key, ask) in asks.iter().cloned() {
                shard.handle(NOW, Request { from, key: key.clone(), ask }, effects);
            }
        });
    }

    /// Publishes that are under way when the next view comes.
    fn publish(&mut self, keys: &[ChannelKey]) {
        for (number, key) in (0u32..).zip(keys) {
            let token = Token { subscriber: Subscriber { slot: number, generation: 0 }, number: 2 };
            let payload = Payload { bytes: vec![7; 100].into(), form: Form::Binary };
            let ask = Ask::Publish(Publish {
                token,
                ack: true,
                event: "e".into(),
                payload,
                store: false,
                push: false,
                retain: false,
                key: None,
            });
            self.ask(1 + u64::from(number % 3), &[(key, ask)]);
        }
    }

    /// Every node comes to the next view, one after the other, and is in session with those that have it.
    fn go_to(&mut self, nodes: &[u64]) {
        let members = nodes.iter().map(|node| Member { id: id(*node), points: POINTS }).collect();
        let number = self.views.len() as u64 + 1;
        let view = Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members));
        let open: Vec<_> = self.views.last().cloned().into_iter().collect();
        self.served.clear();
        let all: Vec<_> = self.shards.keys().copied().collect();
        for node in all.iter().copied() {
            let others = || all.iter().copied().filter(move |other| *other != node);
            self.step(node, |shard, effects| {
                others().for_each(|other| shard.session(NOW, id(other), None, effects));
                shard.install(NOW, view.clone(), open.clone(), effects);
                let ready = others().filter(|other| *other < node);
                ready.for_each(|other| shard.session(NOW, id(other), Some(1), effects));
            });
            for other in others().filter(|other| *other < node) {
                self.step(other, |shard, effects| shard.session(NOW, id(node), Some(1), effects));
            }
        }
        self.views.push(view);
        self.deliver();
        assert!(nodes.iter().all(|node| self.served.contains(node)), "{:?} of {nodes:?}", self.served);
        self.each(|shard, _| shard.settled(number));
    }

    fn measure(&mut self, what: &str, act: impl FnOnce(&mut Cluster)) {
        (self.messages, self.bytes) = (0, 0);
        self.spent.clear();
        let began = on_core();
        act(self);
        self.deliver();
        let total = on_core() - began;
        let all: Duration = self.spent.values().sum();
        let most = self.spent.values().max().copied().unwrap_or_default();
        println!(
            "{what}: {:.0} ms of one core, {:.0} ms of it in shards, {:.0} ms until all went on, {:.0} ms at the busiest node, {} messages, {} bytes",
            total.as_secs_f64() * 1e3,
            all.as_secs_f64() * 1e3,
            self.resumed.as_secs_f64() * 1e3,
            most.as_secs_f64() * 1e3,
            self.messages,
            self.bytes
        );
    }

    fn deliver(&mut self) {
        while let Some((from, to, bytes)) = self.letters.pop_front() {
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                self.step(to.node, |shard, effects| {
                    for _ in 0..BATCH {
                        let Ok((message, behind)) = postcard::take_from_bytes(rest) else { break };
                        rest = behind;
                        shard.receive(NOW, from, message, effects);
                    }
                });
            }
        }
    }

    fn each(&mut self, mut input: impl FnMut(&mut Shard, &mut Vec<Effect>)) {
        for node in self.shards.keys().copied().collect::<Vec<_>>() {
            self.step(node, &mut input);
        }
    }

    fn step(&mut self, node: u64, input: impl FnOnce(&mut Shard, &mut Vec<Effect>)) {
        let Some(shard) = self.shards.get_mut(&node) else { return };
        let began = on_core();
        let (mut effects, mut sent) = (Vec::new(), BTreeMap::<_, Vec<u8>>::new());
        input(shard, &mut effects);
        shard.end_turn(NOW, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.messages += 1;
                    let bytes = sent.entry(to).or_default();
                    let before = bytes.len();
                    postcard::to_io(&message, &mut *bytes).unwrap();
                    self.bytes += bytes.len() - before;
                }
                Effect::Resumed { .. } => self.resumed = self.spent.values().sum(),
                Effect::Served { view } if view == self.views.len() as u64 + 1 => drop(self.served.insert(node)),
                Effect::Served { view } if view == self.views.len() as u64 => drop(self.served.insert(node)),
                _ => {}
            }
        }
        self.letters.extend(sent.into_iter().map(|(to, bytes)| (id(node), to, bytes)));
        *self.spent.entry(node).or_default() += on_core() - began;
    }
}
