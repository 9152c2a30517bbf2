//! The channels that one slice of a node has a part in: those that it owns, those that it keeps copies of, and those
//! that its sessions hear or publish to, whoever owns them.
//!
//! A shard takes one input at a time. What a turn brought to a channel is gathered and goes out when the turn ends
//! ([`Shard::end_turn`]). `docs/ownership.md` explains the protocol between the shards of several nodes.

mod cx;
pub mod delivery;
pub mod history;
mod hubs;
mod install;
mod keep;
mod keys;
mod moves;
mod owner;
pub mod peer;
mod presence;
mod receive;
mod relay;
pub mod request;
mod senders;
mod session;
pub mod sides;
mod slot;
mod slots;
mod state;
mod streams;
pub mod takeup;
mod turn;
mod wakeups;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;

pub use self::cx::Moves;
use crate::{
    channel::{ChannelKey, HubId},
    cluster::view::{self, ClusterId, NodeId, View},
    code::ErrorCode,
    message::Message,
    serial::{Epoch, Serial},
    session::{event::Member, record},
    settings::hub::{Hub, Rules},
    shard::{
        cx::{Counters, Cx, Settled},
        history::HistoryBounds,
        peer::{Part, Say},
        request::{Ask, Effect, Request},
        slot::{Role, Slot},
        slots::{At, Slots},
        streams::Streams,
        takeup::{Parts, TakeUp},
        wakeups::Wakeups,
    },
    time::Now,
};

/// What a shard is made with.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// This node, and its generation: greater after each restart.
    pub node: u64,
    pub generation: u64,
    /// This shard among those of the node, and how many there are.
    pub index: u64,
    pub count: u64,
    /// Chance from outside, against names made to collide.
    pub seed: u64,
    pub history: HistoryBounds,
    /// How long a retained message is kept, in milliseconds.
    pub retain_ms: u64,
    /// How long a channel that nobody uses stays open, in milliseconds.
    pub close_ms: u64,
    /// The shortest time between two occupancy counts of a channel, in milliseconds.
    pub occupancy_ms: u64,
    /// How long a request waits for an owner that can't be reached or is not certain, in milliseconds.
    pub hold_ms: u64,
    /// How long a session of a lost node stays present, in milliseconds.
    pub restore_ms: u64,
    /// Publishes of one channel that wait for a store or for copies at a time.
    pub waiting_max: usize,
    /// Publishes of this node to one channel that the owner has not answered.
    pub held_max: usize,
    /// Channels.
    pub channels_max: usize,
    /// States that a turn sends to new copies for which nobody waits.
    pub copying_max: usize,
}

impl Config {
    pub fn me(&self) -> NodeId {
        NodeId { node: self.node, generation: self.generation }
    }

    fn part(&self) -> Part {
        Part { index: self.index, count: self.count }
    }
}

/// A channel as its owner has it.
#[derive(Clone, Debug)]
pub struct Inspection {
    pub current: Serial,
    /// The epochs that its own goes on from, oldest first.
    pub ancestors: Vec<Epoch>,
    /// The messages that are still kept, oldest first.
    pub messages: Vec<Arc<Message>>,
    pub members: Arc<[Member]>,
    /// Subscribed sessions of all nodes.
    pub occupancy: u64,
}

/// One slice of a node's channels.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    view: Option<Arc<View>>,
    /// Of a side shard: the number of the agreed view.
    aside_of: Option<u64>,
    /// The views since the last one in which everything was in its place, oldest first; the view before the one in
    /// force is always among them.
    open: Vec<Arc<View>>,
    takeup: TakeUp,
    settled: Settled,
    /// This node has come from view to view since this one, and has dropped nothing that it was asked.
    since: u64,
    streams: Streams,
    /// Nodes whose sessions have ended or begun in this turn, as far as that may concern anybody.
    changed: BTreeSet<NodeId>,
    /// Channels of which such nodes wanted something.
    strangers: Vec<At>,
    /// Channels owned here in which somebody is in doubt, and leaves if nothing is heard of them.
    doubtful: HashSet<At, FixedState>,
    /// Those that lived when all channels were last searched for nodes that do not.
    looked_for: BTreeSet<NodeId>,
    /// Which shards of a node have said in this session what they hear.
    listened: BTreeMap<NodeId, Parts>,
    alive: BTreeSet<NodeId>,
    gone: BTreeSet<NodeId>,
    hubs: HashMap<HubId, Arc<Hub>, FixedState>,
    slots: Slots,
    /// Channels with something to send at the end of the turn.
    touched: Vec<At>,
    wakeups: Wakeups,
    counters: Counters,
    own: VecDeque<(NodeId, At, Say)>,
    accepted: u64,
    moves: Moves,
}

impl Shard {
    /// A shard that knows no view yet: what is asked waits for one.
    pub fn new(config: Config) -> Self {
        Shard {
            config,
            view: None,
            aside_of: None,
            open: Vec::new(),
            takeup: TakeUp::default(),
            settled: Settled::default(),
            since: 0,
            streams: Streams::default(),
            changed: BTreeSet::new(),
            strangers: Vec::new(),
            doubtful: HashSet::default(),
            looked_for: BTreeSet::new(),
            listened: BTreeMap::new(),
            alive: BTreeSet::from([config.me()]),
            gone: BTreeSet::new(),
            hubs: HashMap::with_hasher(FixedState::with_seed(config.seed)),
            slots: Slots::new(config.seed),
            touched: Vec::new(),
            wakeups: Wakeups::default(),
            counters: Counters::default(),
            own: VecDeque::new(),
            accepted: 0,
            moves: Moves::default(),
        }
    }

    /// A shard of a node that has no others.
    pub fn alone(now: Now, config: Config) -> Self {
        let mut shard = Shard::new(config);
        let cluster = ClusterId { founded_ms: now.unix_ms, chance: config.seed };
        let members = vec![view::Member { id: config.me(), points: 1 }];
        // Nothing is kept yet, so nothing follows from it.
        shard.install(now, Arc::new(View::new(cluster, 1, members)), Vec::new(), &mut Vec::new());
        shard
    }

    /// What a worker of this node asks.
    pub fn handle(&mut self, now: Now, request: Request, effects: &mut Vec<Effect>) {
        let Request { from, key, ask } = request;
        let opens = opens(&ask);
        let at = match self.slots.find(&key) {
            Some(at) => at,
            None if !opens => return,
            None if self.slots.len() < self.config.channels_max => self.enter(&key),
            None => return relay::refuse(&key, from, &ask, ErrorCode::TryAgain, effects),
        };
        let presence = self.rules(&key).presence;
        self.with(now, at, effects, |key, slot, cx| {
            if opens || slot.relay.is_some() {
                slot.relay.get_or_insert_default().ask(key, from, ask, presence, cx);
            }
        });
        self.hear_own(now, effects);
    }

    /// The answer to [`Effect::Store`].
    pub fn stored(&mut self, now: Now, key: &ChannelKey, ticket: u64, ok: bool, effects: &mut Vec<Effect>) {
        if let Some(at) = self.slots.find(key) {
            self.with(now, at, effects, |_, slot, cx| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.stored(ticket, ok, cx);
                }
            });
        }
        self.hear_own(now, effects);
    }

    /// How many messages were numbered since the shard began.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How its channels changed their owners.
    pub fn moves(&self) -> Moves {
        let Counters { epochs, uncopied, .. } = self.counters;
        Moves { epochs, uncopied, waiting: self.takeup.count_waiting() as u64, ..self.moves }
    }

    /// How many channels this shard has a part in.
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// The view in force; 0 before the first.
    pub fn view_number(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.number)
    }

    /// What this shard has of a channel that it owns and is certain of.
    pub fn inspect(&self, key: &ChannelKey) -> Option<Inspection> {
        match &self.slots.get(self.slots.find(key)?)?.role {
            Role::Owner(channel) => Some(channel.inspect()),
            Role::None | Role::Waiting(_) | Role::Kept(_) => None,
        }
    }

    /// The rules in force for a channel. Of a hub that is not known here nothing is allowed.
    fn rules(&self, key: &ChannelKey) -> Rules {
        let rules = match self.hubs.get(&key.hub) {
            Some(hub) => rules_of(hub, key),
            None => Rules::CLOSED,
        };
        match self.aside_of {
            // A node that asks here knows rules without copies, and it is this one's that are late.
            Some(_) => Rules { redundancy: 0, redundancy_required: false, ..rules },
            None => rules,
        }
    }

    /// The place of a channel. One that is not there yet begins, and goes when the turn ends if nothing comes of it.
    fn enter(&mut self, key: &ChannelKey) -> At {
        let at = match self.hubs.get_key_value(&key.hub) {
            // All channels of a hub share its name.
            Some((hub, _)) => self.slots.find_or_insert(key, hub),
            None => self.slots.find_or_insert(key, &key.hub),
        };
        if let Some((_, slot)) = self.slots.get_mut(at)
            && !std::mem::replace(&mut slot.touched, true)
        {
            self.touched.push(at);
        }
        at
    }

    /// Lets one channel take a step, and has it looked at when the turn ends.
    fn with<T>(
        &mut self,
        now: Now,
        at: At,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&ChannelKey, &mut Slot, &mut Cx<'_>) -> T,
    ) -> Option<T> {
        let (slots, touched, mut cx) = self.parts(now, at, effects);
        let (key, slot) = slots.get_mut(at)?;
        if !std::mem::replace(&mut slot.touched, true) {
            touched.push(at);
        }
        slot.place(&mut cx);
        Some(step(key, slot, &mut cx))
    }

    /// The same without another look.
    fn quietly<T>(
        &mut self,
        now: Now,
        at: At,
        effects: &mut Vec<Effect>,
        step: impl FnOnce(&ChannelKey, &mut Slot, &mut Cx<'_>) -> T,
    ) -> Option<T> {
        let (slots, _, mut cx) = self.parts(now, at, effects);
        let (key, slot) = slots.get_mut(at)?;
        slot.place(&mut cx);
        Some(step(key, slot, &mut cx))
    }

    /// The channels, those that are touched, and what the channel at that place needs of all the rest.
    fn parts<'a>(
        &'a mut self,
        now: Now,
        at: At,
        effects: &'a mut Vec<Effect>,
    ) -> (&'a mut Slots, &'a mut Vec<At>, Cx<'a>) {
        let cx = Cx {
            now,
            at,
            config: &self.config,
            view: self.view.as_deref(),
            settled: self.settled,
            aside_of: self.aside_of,
            streams: &mut self.streams,
            strangers: &mut self.strangers,
            effects,
            own: &mut self.own,
            counters: &mut self.counters,
        };
        (&mut self.slots, &mut self.touched, cx)
    }

    fn places(&self, which: impl Fn(&ChannelKey, &Slot) -> bool) -> Vec<At> {
        self.slots.iter().filter(|(_, key, slot)| which(key, slot)).map(|(at, ..)| at).collect()
    }
}

/// Whether a relay is needed for it.
fn opens(ask: &Ask) -> bool {
    match ask {
        Ask::Publish(_) | Ask::Subscribe(_) | Ask::ReadPresence { .. } | Ask::Keep { .. } | Ask::Take { .. } => true,
        Ask::Enter { .. } | Ask::Unsubscribe { .. } => false,
    }
}

/// A place for a session has rules of its own: nobody hears it, and one other node keeps it too.
fn rules_of(hub: &Hub, key: &ChannelKey) -> Rules {
    match record::restore_key(key) {
        Some(_) => Rules { redundancy: 1, ..Rules::CLOSED },
        None => hub.rules(&key.channel),
    }
}
