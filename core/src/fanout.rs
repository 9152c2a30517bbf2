//! Who hears which channel on one worker. A worker listens to a channel once, however many of its sessions subscribe.
//!
//! All subscribers of a channel stand at the same position, the channel's own, so a delivery costs no look-up and no
//! comparison for each of them. One that could not take a delivery is put aside with the position that it has reached;
//! it is told of the gap when it can take something again.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use foldhash::fast::FixedState;

use crate::{channel::ChannelKey, serial::Serial, shard::delivery::Delivery};

/// A session of this worker, as the shell knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Subscriber {
    pub slot: u32,
    pub generation: u32,
}

/// The subscribers of one worker, by channel.
#[derive(Debug)]
pub struct Fanout {
    channels: HashMap<ChannelKey, Channel, FixedState>,
}

#[derive(Debug)]
struct Channel {
    position: Serial,
    level: Subscribers,
    /// Those that a delivery did not reach, with what they have.
    behind: Vec<(Subscriber, Serial)>,
}

/// What became of a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Delivered,
    /// Nobody here subscribes to the channel.
    Nobody,
    /// The delivery does not follow what came before, which is this.
    OutOfOrder(Serial),
}

impl Fanout {
    /// The seed is chance from outside, against names made to collide.
    pub fn new(seed: u64) -> Self {
        Fanout { channels: HashMap::with_hasher(FixedState::with_seed(seed)) }
    }

    /// Adds a subscriber that has everything up to `position`. The owner's answer travels in order with its deliveries,
    /// so that is also where this worker stands; the first subscriber brings the position along.
    pub fn attach(&mut self, key: &ChannelKey, subscriber: Subscriber, position: Serial) {
        let channel = self.channels.entry(key.clone()).or_insert_with(|| Channel {
            position,
            level: Subscribers::default(),
            behind: Vec::new(),
        });
        channel.remove(subscriber);
        if channel.position == position {
            channel.level.insert(subscriber);
        } else {
            channel.behind.push((subscriber, position));
        }
    }

    /// Removes a subscriber and returns the position that it has reached; `None` if it was not there.
    pub fn detach(&mut self, key: &ChannelKey, subscriber: Subscriber) -> Option<Serial> {
        let channel = self.channels.get_mut(key)?;
        let reached = channel.remove(subscriber);
        if channel.level.is_empty() && channel.behind.is_empty() {
            self.channels.remove(key);
        }
        reached
    }

    /// What a subscriber has of a channel.
    pub fn position(&self, key: &ChannelKey, subscriber: Subscriber) -> Option<Serial> {
        let channel = self.channels.get(key)?;
        let behind = channel.behind.iter().find(|(other, _)| *other == subscriber);
        behind.map(|(_, reached)| *reached).or_else(|| channel.level.contains(subscriber).then_some(channel.position))
    }

    /// Hands a delivery to every subscriber that has all before it. `take` says whether it could be taken.
    pub fn deliver(&mut self, delivery: &Delivery, mut take: impl FnMut(Subscriber) -> bool) -> Outcome {
        let Some(channel) = self.channels.get_mut(&delivery.key) else { return Outcome::Nobody };
        if delivery.follows() != channel.position {
            return Outcome::OutOfOrder(channel.position);
        }
        let (before, behind) = (channel.position, &mut channel.behind);
        channel.level.retain(|subscriber| {
            let taken = take(subscriber);
            if !taken {
                behind.push((subscriber, before));
            }
            taken
        });
        channel.position = delivery.last();
        Outcome::Delivered
    }

    /// All subscribers of a channel, for what has no number.
    pub fn subscribers(&self, key: &ChannelKey) -> impl Iterator<Item = Subscriber> {
        let channel = self.channels.get(key);
        channel.into_iter().flat_map(|channel| {
            channel.level.members.iter().copied().chain(channel.behind.iter().map(|(subscriber, _)| *subscriber))
        })
    }

    /// Puts everybody aside, because something did not arrive here, and goes on from a new position.
    pub fn jump(&mut self, key: &ChannelKey, position: Serial) -> Vec<Subscriber> {
        let Some(channel) = self.channels.get_mut(key) else { return Vec::new() };
        let level = std::mem::take(&mut channel.level).members;
        channel.behind.extend(level.iter().map(|subscriber| (*subscriber, channel.position)));
        channel.position = position;
        level
    }

    /// Everybody who is level goes on from a new position. Returns them, so that they can be told.
    pub fn reposition(&mut self, key: &ChannelKey, position: Serial) -> Vec<Subscriber> {
        let Some(channel) = self.channels.get_mut(key) else { return Vec::new() };
        channel.position = position;
        channel.level.members.clone()
    }

    /// How many channels have a subscriber here.
    pub fn len(&self) -> usize {
        self.channels.len()
    }

    pub fn is_empty(&self) -> bool {
        self.channels.is_empty()
    }
}

impl Channel {
    fn remove(&mut self, subscriber: Subscriber) -> Option<Serial> {
        if self.level.remove(subscriber) {
            return Some(self.position);
        }
        let index = self.behind.iter().position(|(other, _)| *other == subscriber)?;
        Some(self.behind.swap_remove(index).1)
    }
}

/// A set that is walked far more often than it is searched: a list, with an index beside it once it is long.
#[derive(Debug, Default)]
struct Subscribers {
    members: Vec<Subscriber>,
    index: Option<HashMap<Subscriber, u32, FixedState>>,
}

/// Up to here, walking the list is as fast as a hash.
const UNINDEXED_MAX: usize = 32;

impl Subscribers {
    fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    fn find(&self, subscriber: Subscriber) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&subscriber).map(|at| *at as usize),
            None => self.members.iter().position(|other| *other == subscriber),
        }
    }

    fn contains(&self, subscriber: Subscriber) -> bool {
        self.find(subscriber).is_some()
    }

    /// The caller knows that it is not in yet.
    fn insert(&mut self, subscriber: Subscriber) {
        self.members.push(subscriber);
        match &mut self.index {
            Some(index) => {
                index.insert(subscriber, (self.members.len() - 1) as u32);
            }
            None if self.members.len() > UNINDEXED_MAX => self.build_index(),
            None => {}
        }
    }

    fn remove(&mut self, subscriber: Subscriber) -> bool {
        let Some(at) = self.find(subscriber) else { return false };
        self.members.swap_remove(at);
        if let Some(index) = &mut self.index {
            index.remove(&subscriber);
            if let Some(moved) = self.members.get(at) {
                index.insert(*moved, at as u32);
            }
        }
        // A list that was long once does not hold on to its memory.
        if self.members.len() < UNINDEXED_MAX / 2 && self.members.capacity() > 2 * UNINDEXED_MAX {
            self.index = None;
            self.members.shrink_to_fit();
        }
        true
    }

    fn retain(&mut self, keep: impl FnMut(Subscriber) -> bool) {
        let before = self.members.len();
        let mut keep = keep;
        self.members.retain(|subscriber| keep(*subscriber));
        if self.members.len() != before && self.index.is_some() {
            self.build_index();
        }
    }

    fn build_index(&mut self) {
        let pairs = self.members.iter().enumerate().map(|(at, subscriber)| (*subscriber, at as u32));
        let mut index = HashMap::with_capacity_and_hasher(self.members.len(), FixedState::default());
        index.extend(pairs);
        self.index = Some(index);
    }
}
