//! A few nodes' shards, with every message between them held in a queue that the test empties, or loses, at will.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    cluster::view::{ClusterId, Member, NodeId, View},
    fanout::Subscriber,
    message::{Form, Payload},
    session::event,
    settings::hub::{Hub, Rules},
    shard::{
        Config,
        peer::{Body, PeerMessage, Say},
        request::{Ask, Effect, Listener, Publish, Request, Subscribe, Token},
        sides::Sides,
    },
    time::Now,
};

use crate::hubs::{self, HUB, Switches};

/// Nodes have these names, and one worker each.
pub fn id(node: u64) -> NodeId {
    NodeId { node, generation: 1 }
}

/// A message on its way.
#[derive(Debug)]
pub struct Letter {
    pub from: NodeId,
    pub to: NodeId,
    pub message: PeerMessage,
}

#[derive(Debug)]
pub struct Nodes {
    pub now: Now,
    shards: BTreeMap<NodeId, Sides>,
    letters: VecDeque<Letter>,
    /// Everything else that shards wanted, by their node.
    pub told: Vec<(NodeId, Effect)>,
    /// Every message that was ever sent.
    pub sent: Vec<(NodeId, NodeId, PeerMessage)>,
}

/// A view of these nodes, all with the same share.
pub fn view(number: u64, members: &[u64]) -> Arc<View> {
    let members = members.iter().map(|node| Member { id: id(*node), points: 64 }).collect();
    Arc::new(View::new(ClusterId { founded_ms: 1, chance: 1 }, number, members))
}

/// A channel for which that is so.
pub fn channel(is: impl Fn(&ChannelKey) -> bool) -> ChannelKey {
    let keys = (0..10_000_u32).map(|number| ChannelKey::new(HUB, number.to_string()));
    keys.into_iter().find(is).expect("some channel is like that")
}

pub fn hub(redundancy: u8, switches: Switches) -> Arc<Hub> {
    let hub = switches.hub();
    Arc::new(Hub { default_rules: Rules { redundancy, ..hub.default_rules }, ..hub })
}

impl Nodes {
    /// So many nodes that have not met, and know of each other that they live.
    pub fn new(count: u64, redundancy: u8) -> Nodes {
        Nodes::with(count, redundancy, Switches::PLAIN)
    }

    pub fn with(count: u64, redundancy: u8, switches: Switches) -> Nodes {
        let hub = hub(redundancy, switches);
        let mut nodes = Nodes {
            now: Now { mono_ms: 1_000, unix_ms: 1_000 },
            shards: BTreeMap::new(),
            letters: VecDeque::new(),
            told: Vec::new(),
            sent: Vec::new(),
        };
        for node in 1..=count {
            let config = Config { node, generation: 1, ..hubs::shard_config() };
            nodes.shards.insert(id(node), Sides::new(config));
            nodes.act(node, |shard, now, effects| {
                shard.set_hub(now, hub.clone(), effects);
                shard.set_alive(now, (1..=count).map(id), effects);
            });
        }
        nodes
    }

    /// Lets a node take an input, to the end of its turn.
    pub fn act(&mut self, node: u64, input: impl FnOnce(&mut Sides, Now, &mut Vec<Effect>)) {
        let mut effects = Vec::new();
        let shard = self.shards.get_mut(&id(node)).expect("the node is there");
        input(shard, self.now, &mut effects);
        shard.end_turn(self.now, &mut effects);
        for effect in effects {
            match effect {
                Effect::Send { to, message } => {
                    self.sent.push((id(node), to, message.clone()));
                    self.letters.push_back(Letter { from: id(node), to, message });
                }
                effect => self.told.push((id(node), effect)),
            }
        }
    }

    pub fn shard(&self, node: u64) -> &Sides {
        &self.shards[&id(node)]
    }

    /// All of these install the view; all sessions end with the one before, and what was under way is lost.
    pub fn install(&mut self, view: &Arc<View>, open: &[Arc<View>], nodes: &[u64]) {
        self.letters.clear();
        for node in nodes {
            self.act(*node, |shard, now, effects| shard.install(now, view.clone(), open.to_vec(), effects));
        }
    }

    /// A session of two nodes begins at both ends.
    pub fn link(&mut self, a: u64, b: u64) {
        for (node, peer) in [(a, b), (b, a)] {
            self.act(node, |shard, now, effects| shard.session(now, id(peer), Some(1), effects));
        }
    }

    /// Sessions of all these pairs begin, and everything arrives.
    pub fn link_all(&mut self, pairs: &[(u64, u64)]) {
        pairs.iter().for_each(|(a, b)| self.link(*a, *b));
        self.settle();
    }

    /// It ends, and what was under way is lost.
    pub fn unlink(&mut self, a: u64, b: u64) {
        self.letters.retain(|letter| ![(id(a), id(b)), (id(b), id(a))].contains(&(letter.from, letter.to)));
        for (node, peer) in [(a, b), (b, a)] {
            self.act(node, |shard, now, effects| shard.session(now, id(peer), None, effects));
        }
    }

    /// So many messages from one to the other arrive, of those that are under way.
    pub fn arrive(&mut self, from: u64, to: u64, count: usize) {
        for _ in 0..count {
            let of_both = |letter: &Letter| (letter.from, letter.to) == (id(from), id(to));
            let at = self.letters.iter().position(of_both).expect("so many are under way");
            let letter = self.letters.remove(at).expect("it is there");
            self.take(letter);
        }
    }

    /// The next message from one to the other is lost in the middle of a session, as no link loses any.
    pub fn lose_next(&mut self, from: u64, to: u64) {
        let at = self.letters.iter().position(|letter| (letter.from, letter.to) == (id(from), id(to)));
        drop(self.letters.remove(at.expect("something is under way")));
    }

    /// Everything arrives, and what follows from it.
    pub fn settle(&mut self) {
        while let Some(letter) = self.letters.pop_front() {
            self.take(letter);
        }
    }

    /// Everything arrives that is on its way before such a message is the next.
    pub fn settle_until(&mut self, is: impl Fn(&Letter) -> bool) {
        while let Some(letter) = self.letters.pop_front_if(|letter| !is(letter)) {
            self.take(letter);
        }
        assert!(!self.letters.is_empty(), "there is no such message");
    }

    /// Everything arrives that is on its way between the two.
    pub fn settle_between(&mut self, a: u64, b: u64) {
        let of_both = |letter: &Letter| [(id(a), id(b)), (id(b), id(a))].contains(&(letter.from, letter.to));
        while let Some(at) = self.letters.iter().position(of_both) {
            let letter = self.letters.remove(at).expect("it is there");
            self.take(letter);
        }
    }

    fn take(&mut self, Letter { from, to, message }: Letter) {
        self.act(to.node, |shard, now, effects| shard.receive(now, from, message, effects));
    }

    /// Lets so much time pass at once.
    pub fn wait(&mut self, ms: u64) {
        (self.now.mono_ms, self.now.unix_ms) = (self.now.mono_ms + ms, self.now.unix_ms + ms);
        for node in self.shards.keys().copied().collect::<Vec<_>>() {
            self.act(node.node, |shard, now, effects| shard.tick(now, effects));
        }
        self.settle();
    }

    /// A node ends; the others know, and keep its sessions no longer.
    pub fn lose(&mut self, node: u64) {
        self.letters.retain(|letter| ![letter.from, letter.to].contains(&id(node)));
        self.shards.remove(&id(node));
        let others: Vec<_> = self.shards.keys().copied().collect();
        for other in &others {
            self.act(other.node, |shard, now, effects| {
                shard.session(now, id(node), None, effects);
                shard.set_alive(now, others.clone(), effects);
            });
        }
    }

    pub fn ask(&mut self, node: u64, key: &ChannelKey, ask: Ask) {
        let request = Request { from: Listener { node, worker: 0 }, key: key.clone(), ask };
        self.act(node, |shard, now, effects| shard.handle(now, request, effects));
    }

    pub fn subscribe(&mut self, node: u64, key: &ChannelKey, number: i64) {
        let member = event::Member { session_id: format!("{node}.{number}").into(), identity: None, since_ms: 1 };
        let subscribe = Subscribe { token: token(number), member, attachment: 1, recover: None };
        self.ask(node, key, Ask::Subscribe(subscribe));
    }

    pub fn publish(&mut self, node: u64, key: &ChannelKey, number: i64) {
        let (event, payload) = ("e".into(), Payload { bytes: number.to_string().into(), form: Form::Text });
        let publish = Publish {
            token: token(number),
            ack: true,
            event,
            payload,
            store: false,
            push: false,
            retain: false,
            key: None,
        };
        self.ask(node, key, Ask::Publish(publish));
    }

    /// What a node's worker was told of since the last time it was asked.
    pub fn told_at(&mut self, node: u64) -> Vec<Effect> {
        let (here, others) = std::mem::take(&mut self.told).into_iter().partition(|(at, _)| *at == id(node));
        self.told = others;
        let here: Vec<(NodeId, Effect)> = here;
        here.into_iter().map(|(_, effect)| effect).collect()
    }

    /// What was said of channels from one to the other since it was asked last.
    pub fn said(&mut self, from: u64, to: u64) -> Vec<Say> {
        let (here, others) =
            std::mem::take(&mut self.sent).into_iter().partition(|(a, b, _)| (*a, *b) == (id(from), id(to)));
        self.sent = others;
        let here: Vec<(NodeId, NodeId, PeerMessage)> = here;
        let say = |(_, _, message): (_, _, PeerMessage)| match message.body {
            Body::Channel { say, .. } => Some(say),
            Body::All { .. } => None,
        };
        here.into_iter().filter_map(say).collect()
    }
}

/// A node that hears a channel of the other one.
pub fn hearing() -> (Nodes, ChannelKey) {
    let both = view(1, &[1, 2]);
    let key = channel(|key| both.owner(key.point()) == Some(id(2)));
    let mut nodes = Nodes::new(2, 0);
    nodes.install(&both, &[], &[1, 2]);
    nodes.link(1, 2);
    nodes.settle();
    nodes.subscribe(1, &key, 1);
    nodes.settle();
    (nodes, key)
}

pub fn token(number: i64) -> Token {
    Token { subscriber: Subscriber { slot: 0, generation: 0 }, number }
}

/// The numbers of the messages that were delivered, in order.
pub fn delivered(effects: &[Effect]) -> Vec<u64> {
    let numbers = effects.iter().filter_map(|effect| match effect {
        Effect::Deliver { delivery, .. } => Some(delivery.messages.iter().map(|message| message.serial.sequence)),
        _ => None,
    });
    numbers.flatten().collect()
}
