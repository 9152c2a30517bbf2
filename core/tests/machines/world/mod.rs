//! A node in miniature: workers with their sessions, one shard on worker 0, and queues between them.
//!
//! What one worker sends to another arrives when the test says so, and always in the order in which it was sent.

pub mod acts;
mod clock;
mod letters;
mod sessions;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use appsockets_core::{
    bucket::SharedBucket,
    channel::{ChannelKey, ChannelName},
    code::ErrorCode,
    fanout::{Fanout, Subscriber},
    identity::Identity,
    message::Message,
    serial::Serial,
    session::{
        self, Context, Opening, Session,
        request::{Request, SubscribeInfo},
    },
    settings::hub::Hub,
    shard::{self, Shard, request::Effect as ShardEffect},
    time::Now,
};

use crate::{
    broken::Fault,
    client::Client,
    hubs::{self, HUB},
    ledger::Ledger,
    verdict::Notices,
    world::letters::Letter,
};

/// Where a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub worker: usize,
    pub subscriber: Subscriber,
}

/// A session on its worker.
#[derive(Debug)]
pub struct Held {
    pub session: Session,
    /// None once the connection is gone, whether the worker has noticed or not.
    pub client: Option<usize>,
    key: Arc<str>,
    /// The inbox takes no delivery.
    full: bool,
    /// Channels of which the inbox could not take something.
    lagging: BTreeSet<ChannelName>,
    parked: Option<Parked>,
}

#[derive(Debug)]
struct Parked {
    until_ms: u64,
    positions: Vec<(ChannelName, Serial)>,
}

#[derive(Debug)]
pub struct Worker {
    pub fanout: Fanout,
    pub held: BTreeMap<Subscriber, Held>,
    /// The newest settings that this worker knows; the next ones wait.
    hub: Option<Arc<Hub>>,
    to_learn: VecDeque<Option<Arc<Hub>>>,
}

#[derive(Debug)]
pub struct World {
    pub now: Now,
    pub config: session::Config,
    pub shard: Shard,
    pub workers: Vec<Worker>,
    pub clients: Vec<Client>,
    pub ledger: Ledger,
    pub notices: Notices,
    /// What the shard wants stored and was not answered.
    pub stores: VecDeque<(ChannelKey, u64, Vec<Arc<Message>>)>,
    /// The outcomes of authentications that are under way.
    pub auths: VecDeque<(At, Result<Arc<Identity>, ErrorCode>)>,
    /// Every effect of the shard, for examples.
    pub said: Vec<ShardEffect>,
    /// What went against what clients may rely on.
    pub mistakes: Vec<String>,
    pub fault: Fault,
    meter: SharedBucket,
    links: BTreeMap<(usize, usize), VecDeque<Letter>>,
    keys: BTreeMap<Arc<str>, At>,
    made: u32,
}

impl World {
    pub fn new(workers: usize, clients: usize, hub: Hub) -> World {
        World::with(workers, clients, hub, hubs::session_config(), hubs::shard_config())
    }

    pub fn with(workers: usize, clients: usize, hub: Hub, config: session::Config, shard: shard::Config) -> World {
        let worker = |_| Worker { fanout: Fanout::new(1), held: BTreeMap::new(), hub: None, to_learn: VecDeque::new() };
        let now = Now { mono_ms: 1_000_000, unix_ms: 1_700_000_000_000 };
        let mut world = World {
            now,
            config,
            shard: Shard::alone(now, shard),
            workers: (0..workers).map(worker).collect(),
            clients: (0..clients).map(|_| Client::default()).collect(),
            ledger: Ledger::default(),
            notices: Notices::default(),
            stores: VecDeque::new(),
            auths: VecDeque::new(),
            said: Vec::new(),
            mistakes: Vec::new(),
            fault: Fault::default(),
            meter: SharedBucket::default(),
            links: BTreeMap::new(),
            keys: BTreeMap::new(),
            made: 0,
        };
        world.set_hub(Some(hub));
        world.learn_all();
        world
    }

    /// Changes the hub; `None` removes it. The shard knows at once, the workers when they learn.
    pub fn set_hub(&mut self, hub: Option<Hub>) {
        let hub = hub.map(Arc::new);
        self.notices.rules_changed();
        match &hub {
            Some(hub) => {
                let mut effects = Vec::new();
                self.shard.set_hub(self.now, hub.clone(), &mut effects);
                self.route(effects);
            }
            None => {
                let mut effects = Vec::new();
                self.shard.remove_hub(self.now, HUB, &mut effects);
                self.route(effects);
                self.ledger.remove_hub();
            }
        }
        self.workers.iter_mut().for_each(|worker| worker.to_learn.push_back(hub.clone()));
    }

    /// Lets a worker take over the next settings that wait for it.
    pub fn learn(&mut self, worker: usize) {
        let Some(hub) = self.workers[worker].to_learn.pop_front() else { return };
        self.workers[worker].hub = hub.clone();
        for subscriber in self.subscribers(worker) {
            let hub = hub.clone();
            self.step(At { worker, subscriber }, |session, cx| session.hub_changed(hub, cx));
        }
    }

    pub fn learn_all(&mut self) {
        for worker in 0..self.workers.len() {
            while !self.workers[worker].to_learn.is_empty() {
                self.learn(worker);
            }
        }
    }

    /// Connects a client that has no connection.
    pub fn connect(&mut self, client: usize, worker: usize, identity: Option<Arc<Identity>>) {
        self.open(client, worker, identity, false, Vec::new());
    }

    pub fn open(
        &mut self,
        client: usize,
        worker: usize,
        identity: Option<Arc<Identity>>,
        one_way: bool,
        channels: Vec<SubscribeInfo>,
    ) {
        let Some(hub) = self.workers[worker].hub.clone() else { return };
        self.made += 1;
        let at = At { worker, subscriber: Subscriber { slot: self.made, generation: 1 } };
        let key: Arc<str> = format!("key-{}", self.made).into();
        self.clients[client].at = Some(at);
        self.clients[client].expect(None, &channels);
        let opening = Opening {
            subscriber: at.subscriber,
            id: format!("session-{}", self.made).into(),
            restore_key: key.clone(),
            hub,
            identity,
            one_way,
            channels,
        };
        let mut effects = Vec::new();
        let mut cx = Context { now: self.now, config: &self.config, meter: &self.meter, effects: &mut effects };
        let session = Session::open(opening, &mut cx);
        let held = Held {
            session,
            client: Some(client),
            key: key.clone(),
            full: false,
            lagging: BTreeSet::new(),
            parked: None,
        };
        self.workers[worker].held.insert(at.subscriber, held);
        self.keys.insert(key, at);
        self.carry_out(at, effects);
    }

    /// The client sends a request, if it is connected.
    pub fn request(&mut self, client: usize, request: Request) {
        let Some(at) = self.clients[client].at else { return };
        self.clients[client].ask(&request);
        if let Request::Close = request {
            self.clients[client].forget();
            return self.leave(at);
        }
        self.step(at, |session, cx| session.request(request, cx));
    }

    /// The connection breaks. If the worker does not notice, it goes on sending.
    pub fn break_connection(&mut self, client: usize, noticed: bool) {
        let Some(at) = self.clients[client].at else { return };
        self.clients[client].disconnect();
        let Some(held) = self.workers[at.worker].held.get_mut(&at.subscriber) else { return };
        held.client = None;
        held.full = false;
        if noticed {
            self.park(at);
        }
    }

    /// From now on the client's inbox takes no delivery.
    pub fn fill(&mut self, client: usize) {
        if let Some(held) = self.held_by(client) {
            held.full = true;
        }
    }

    /// The client's inbox is empty again, so the session asks for what it missed.
    pub fn drain(&mut self, client: usize) {
        let Some(held) = self.held_by(client) else { return };
        held.full = false;
        let channels = std::mem::take(&mut held.lagging);
        let Some(at) = self.clients[client].at else { return };
        for channel in channels {
            let key = ChannelKey::new(HUB, channel.clone());
            let Some(reached) = self.workers[at.worker].fanout.position(&key, at.subscriber) else { continue };
            let outcome = self.clients[client].catch_up(&channel, reached);
            self.note(outcome);
            self.step(at, |session, cx| session.catch_up(&channel, reached, cx));
        }
    }

    /// Ends a session on purpose.
    pub fn leave(&mut self, at: At) {
        self.step(at, Session::leave_all);
        if let Some(held) = self.workers[at.worker].held.remove(&at.subscriber) {
            self.keys.remove(&held.key);
        }
    }

    /// Answers the oldest authentication.
    pub fn answer_auth(&mut self) {
        let Some((at, outcome)) = self.auths.pop_front() else { return };
        let outcome = outcome.map(|identity| (identity, "token".into()));
        self.step(at, |session, cx| session.authenticated(outcome, cx));
    }

    /// All sessions, parked ones too.
    pub fn sessions(&self) -> impl Iterator<Item = (At, &Held)> {
        let workers = self.workers.iter().enumerate();
        workers.flat_map(|(worker, held)| held.held.iter().map(move |(s, held)| (At { worker, subscriber: *s }, held)))
    }

    fn held_by(&mut self, client: usize) -> Option<&mut Held> {
        let at = self.clients[client].at?;
        self.workers[at.worker].held.get_mut(&at.subscriber)
    }

    fn subscribers(&self, worker: usize) -> Vec<Subscriber> {
        self.workers[worker].held.keys().copied().collect()
    }
}
