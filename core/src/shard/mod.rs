//! The channels that one slice of a node owns: numbering, history, retained messages, presence, occupancy.
//!
//! A shard takes one [`Request`] at a time. What a turn brought to a channel is gathered and goes out as one
//! [`Effect::Deliver`] for each listener when the turn ends ([`Shard::end_turn`]).

mod channel;
pub mod delivery;
pub mod history;
mod keys;
mod presence;
mod publish;
pub mod request;
mod subscribe;
mod wakeups;

use std::{collections::HashMap, sync::Arc};

use foldhash::fast::FixedState;

use crate::{
    channel::{ChannelKey, HubId},
    code::ErrorCode,
    serial::Epoch,
    settings::hub::Hub,
    shard::{
        channel::Channel,
        history::HistoryBounds,
        request::{Ask, Effect, Listener, Publish, Reply, Request, Token},
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
    /// Publishes of one channel that wait for a store at a time.
    pub waiting_max: usize,
    /// Open channels.
    pub channels_max: usize,
}

/// One slice of this node's channels.
#[derive(Debug)]
pub struct Shard {
    config: Config,
    view: u64,
    hubs: HashMap<HubId, Arc<Hub>, FixedState>,
    channels: HashMap<ChannelKey, Channel, FixedState>,
    /// Channels with something to send at the end of the turn.
    touched: Vec<ChannelKey>,
    wakeups: Wakeups,
    epochs: u64,
    tickets: u64,
    accepted: u64,
}

impl Shard {
    /// A shard of the only member of the view.
    pub fn new(config: Config, view: u64) -> Self {
        Shard {
            config,
            view,
            hubs: HashMap::with_hasher(FixedState::with_seed(config.seed)),
            channels: HashMap::with_hasher(FixedState::with_seed(config.seed)),
            touched: Vec::new(),
            wakeups: Wakeups::default(),
            epochs: 0,
            tickets: 0,
            accepted: 0,
        }
    }

    /// Takes over a hub's new settings, and holds every open channel of it to them.
    pub fn set_hub(&mut self, now: Now, hub: Arc<Hub>) {
        for (key, channel) in self.channels.iter_mut().filter(|(key, _)| key.hub == hub.id) {
            channel.set_rules(now, hub.rules(&key.channel));
            touch(&mut self.touched, key, channel);
        }
        self.hubs.insert(hub.id.clone(), hub);
    }

    /// Forgets a hub and all its channels. Whoever waits for an answer of one of them gets it.
    pub fn remove_hub(&mut self, hub: &str, effects: &mut Vec<Effect>) {
        self.hubs.remove(hub);
        for (key, mut channel) in self.channels.extract_if(|key, _| &*key.hub == hub) {
            channel.abandon(ErrorCode::HubNotFound, effects);
            self.wakeups.remove(&key, channel.wake_ms);
        }
    }

    pub fn handle(&mut self, now: Now, request: Request, effects: &mut Vec<Effect>) {
        let Request { view, from, key, ask } = request;
        if let Ask::ReadPresence { token } = ask {
            return self.read_presence(view, from, key, token, effects);
        }
        let opens = matches!(ask, Ask::Publish(_) | Ask::Subscribe(_));
        if let Err(code) = self.open(now, view, &key, opens) {
            return refuse(code, from, key, &ask, effects);
        }
        let Some(channel) = self.channels.get_mut(&key) else { return };
        channel.used_ms = now.mono_ms;
        match ask {
            Ask::Publish(publish) => channel.publish(now, from, publish, effects),
            Ask::Subscribe(subscribe) => channel.subscribe(from, subscribe),
            Ask::Enter { member, attachment } => channel.enter(member, attachment),
            Ask::Unsubscribe { session_id, attachment } => channel.unsubscribe(from, &session_id, attachment),
            // Answered above.
            Ask::ReadPresence { .. } => {}
        }
        touch(&mut self.touched, &key, channel);
    }

    /// The answer to [`Effect::Store`].
    pub fn stored(&mut self, now: Now, key: &ChannelKey, ticket: u64, ok: bool, effects: &mut Vec<Effect>) {
        if let Some(channel) = self.channels.get_mut(key) {
            channel.stored(now, ticket, ok, effects);
            touch(&mut self.touched, key, channel);
        }
    }

    /// Sends out what the turn brought.
    pub fn end_turn(&mut self, now: Now, effects: &mut Vec<Effect>) {
        for key in std::mem::take(&mut self.touched) {
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            channel.touched = false;
            self.accepted += channel.end_turn(now, &mut self.tickets, effects);
            let wake_ms = channel.next_wake_ms(now, &self.config);
            self.wakeups.set(&key, &mut channel.wake_ms, wake_ms);
        }
    }

    /// When [`Shard::tick`] is due, in `Now::mono_ms`.
    pub fn next_tick_ms(&mut self) -> Option<u64> {
        self.wakeups.next()
    }

    /// Does what is due: occupancy counts, and the closing of channels that nobody uses.
    pub fn tick(&mut self, now: Now) {
        while let Some(key) = self.wakeups.pop_due(now.mono_ms) {
            let Some(channel) = self.channels.get_mut(&key) else { continue };
            channel.wake_ms = None;
            if channel.is_idle(now, &self.config) {
                self.channels.remove(&key);
            } else {
                touch(&mut self.touched, &key, channel);
            }
        }
    }

    /// How many messages were numbered since the shard began.
    pub fn accepted(&self) -> u64 {
        self.accepted
    }

    /// How many channels are open.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }

    /// Answers at once: in a channel that is not open nobody is present.
    fn read_presence(&self, view: u64, to: Listener, key: ChannelKey, token: Token, effects: &mut Vec<Effect>) {
        if view != self.view {
            return refuse(ErrorCode::TryAgain, to, key, &Ask::ReadPresence { token }, effects);
        }
        let members = self.channels.get(&key).and_then(|channel| channel.members.as_ref());
        let members = members.map_or_else(|| Arc::from([]), |members| members.list());
        effects.push(Effect::Answer { to, key, token, reply: Reply::Presence(Ok(members)) });
    }

    /// Sees to it that the channel is open, if the request needs it.
    fn open(&mut self, now: Now, view: u64, key: &ChannelKey, opens: bool) -> Result<(), ErrorCode> {
        if view != self.view {
            return Err(ErrorCode::TryAgain);
        }
        if !opens || self.channels.contains_key(key) {
            return Ok(());
        }
        let hub = self.hubs.get(&key.hub).ok_or(ErrorCode::HubNotFound)?;
        if self.channels.len() >= self.config.channels_max {
            return Err(ErrorCode::TryAgain);
        }
        let rules = hub.rules(&key.channel).clone();
        let epoch = Epoch {
            view,
            node: self.config.node,
            generation: self.config.generation,
            counter: self.epochs * self.config.count + self.config.index,
        };
        self.epochs += 1;
        self.channels.insert(key.clone(), Channel::new(now, key.clone(), epoch, rules, &self.config));
        Ok(())
    }
}

fn touch(touched: &mut Vec<ChannelKey>, key: &ChannelKey, channel: &mut Channel) {
    if !channel.touched {
        channel.touched = true;
        touched.push(key.clone());
    }
}

fn refuse(code: ErrorCode, to: Listener, key: ChannelKey, ask: &Ask, effects: &mut Vec<Effect>) {
    let (token, reply): (Token, Reply) = match ask {
        Ask::Publish(Publish { token, .. }) => (*token, Reply::Published(Err(code))),
        Ask::Subscribe(subscribe) => (subscribe.token, Reply::Subscribed(Err(code))),
        Ask::ReadPresence { token } => (*token, Reply::Presence(Err(code))),
        Ask::Enter { .. } | Ask::Unsubscribe { .. } => return,
    };
    effects.push(Effect::Answer { to, key, token, reply });
}
