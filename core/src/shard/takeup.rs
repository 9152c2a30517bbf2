//! Becoming certain of channels that the view gives to this node.
//!
//! Channels are looked at in groups, by the node that owned them in the view before. Mostly that node says everything: it
//! sends what it has, and gives its word that there is no more. Where it can't, all members are asked, and the best of what
//! they keep is taken once no better can be anywhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use foldhash::fast::FixedState;

use super::{Config, Shard};
use crate::{
    channel::ChannelKey,
    cluster::view::{NodeId, View},
    serial::Epoch,
    shard::{
        owner::Channel,
        peer::{Move, Part, Say, SayAll, ToOwner, ToRelay},
        request::Effect,
        slot::{Have, Kept, Role},
        state::State,
    },
    time::Now,
};

/// An owner and the most copies that rules can ask for.
const HOLDERS_MAX: usize = 4;

/// How far this node is with the channels of its view.
#[derive(Debug, Default)]
pub struct TakeUp {
    /// By the owner of the view before.
    pub groups: BTreeMap<NodeId, Group>,
    /// This node's word on what it owned in the view before: since when it knows every publish to its channels.
    pub word: Option<u64>,
    pub waiting: HashSet<ChannelKey, FixedState>,
    /// Owned, and not on every copy yet.
    pub uncopied: HashSet<ChannelKey, FixedState>,
    pub told_served: bool,
    /// Since which view every publish to a channel of this node is known.
    pub since: u64,
    /// Channels that this node has sealed in this view, by the node they are for.
    pub sealed: BTreeMap<NodeId, Vec<ChannelKey>>,
    /// Channels owned here of which a node may not have said that it hears them: what is known of it comes from another
    /// owner, or from before a session that began anew.
    pub unsaid: HashSet<ChannelKey, FixedState>,
}

/// The channels that one node owned in the view before and this node owns now.
#[derive(Debug)]
pub enum Group {
    /// Its owner has sent all it had, or is this node.
    Certain,
    /// Its owner is expected to say what it has.
    Expected(Parts),
    /// Its owner can't say: all members are asked. By node, what has answered.
    Lost(BTreeMap<NodeId, Parts>),
}

/// Which of a node's shards have said something.
#[derive(Debug, Default)]
pub struct Parts {
    heard: BTreeSet<u64>,
    count: u64,
}

/// What is left to do before everything is in its place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Channels whose state is not certain yet.
    pub waiting: usize,
    /// Channels that are not on all their copies yet.
    pub uncopied: usize,
    /// Nodes that are still to say what they have.
    pub unheard: BTreeSet<NodeId>,
    /// Whether nodes that are not members may have something better.
    pub uncovered: bool,
}

/// What is known of a channel without a state here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What this node has been sent is all that there is.
    Certain,
    /// Somebody who may have something is still to be heard.
    Unknown,
    /// All members were heard, and somebody who is no longer one may have something better.
    Uncovered,
}

impl Parts {
    fn add(&mut self, part: Part) {
        self.heard.insert(part.index);
        self.count = part.count;
    }

    fn all(&self) -> bool {
        self.count > 0 && self.heard.len() as u64 >= self.count
    }
}

impl Shard {
    /// Whether this node is certain of every channel that the view gives to it, also of those that do not exist.
    pub(super) fn is_complete(&self) -> bool {
        let certain = |group: &Group| match group {
            Group::Certain => true,
            Group::Expected(_) => false,
            Group::Lost(answered) => self.all_answered(answered) && self.all_covered(answered),
        };
        self.view.is_some() && self.takeup.waiting.is_empty() && self.takeup.groups.values().all(certain)
    }

    /// Says once that all channels of this node are served, and on all their copies.
    pub(super) fn tell_served(&mut self, effects: &mut Vec<Effect>) {
        if !self.takeup.told_served && self.takeup.uncopied.is_empty() && self.is_complete() {
            self.takeup.told_served = true;
            effects.push(Effect::Served { view: self.view_number() });
        }
    }

    /// What is left to do before everything that the view gives to this node is served, and on all its copies.
    pub fn progress(&self) -> Progress {
        let (waiting, uncopied) = (self.takeup.waiting.len(), self.takeup.uncopied.len());
        let mut progress = Progress { waiting, uncopied, ..Progress::default() };
        for (before, group) in &self.takeup.groups {
            match group {
                Group::Certain => {}
                Group::Expected(_) => progress.unheard.extend([*before]),
                Group::Lost(answered) => {
                    let members = self.view.iter().flat_map(|view| &view.members).map(|member| member.id);
                    progress.unheard.extend(members.filter(|member| !self.is_heard(*member, answered)));
                    progress.uncovered |= !self.all_covered(answered);
                }
            }
        }
        progress
    }

    pub(super) fn standing(&self, key: &ChannelKey) -> Standing {
        match self.group_of(key).and_then(|before| self.takeup.groups.get(&before)) {
            None | Some(Group::Certain) => Standing::Certain,
            Some(Group::Expected(_)) => Standing::Unknown,
            Some(Group::Lost(answered)) if !self.all_answered(answered) => Standing::Unknown,
            Some(Group::Lost(answered)) if self.is_covered(key, answered) => Standing::Certain,
            Some(Group::Lost(_)) => Standing::Uncovered,
        }
    }

    /// Who owned the channel in the view before.
    pub(super) fn group_of(&self, key: &ChannelKey) -> Option<NodeId> {
        self.open.last()?.owner(key.point())
    }

    /// What a node says of all channels of a group.
    pub(super) fn take_all(&mut self, now: Now, from: NodeId, part: Part, say: SayAll, effects: &mut Vec<Effect>) {
        match say {
            SayAll::End { known_since } => self.ended(now, from, part, known_since, effects),
            SayAll::Ask { before } => self.tell_haves(from, part, before, effects),
            SayAll::Answered { before, asker } if asker == self.config.index => {
                if let Some(Group::Lost(answered)) = self.takeup.groups.get_mut(&before) {
                    answered.entry(from).or_default().add(part);
                    self.try_group(now, before, effects);
                }
            }
            SayAll::Answered { .. } => {}
            SayAll::Begin { .. } => {}
            SayAll::Listened => self.has_listened(now, from, part, effects),
        }
    }

    /// A node that owned channels in the view before has sent all of them.
    fn ended(&mut self, now: Now, from: NodeId, part: Part, known_since: Option<u64>, effects: &mut Vec<Effect>) {
        let Some(Group::Expected(parts)) = self.takeup.groups.get_mut(&from) else { return };
        let Some(known_since) = known_since else { return self.lose_group(now, from, effects) };
        parts.add(part);
        let all = parts.all();
        self.takeup.since = self.takeup.since.max(known_since);
        if all {
            self.takeup.groups.insert(from, Group::Certain);
            self.try_group(now, from, effects);
        }
    }

    /// A group's owner can't say what it had: everybody is asked.
    pub(super) fn lose_group(&mut self, now: Now, before: NodeId, effects: &mut Vec<Effect>) {
        self.takeup.groups.insert(before, Group::Lost(BTreeMap::new()));
        self.takeup.since = self.view_number();
        for peer in self.streams.on().collect::<Vec<_>>() {
            self.say_all(peer, SayAll::Ask { before }, effects);
        }
        self.try_group(now, before, effects);
    }

    /// Tries to become certain of the channels of a group that wait.
    pub(super) fn try_group(&mut self, now: Now, before: NodeId, effects: &mut Vec<Effect>) {
        match self.takeup.groups.get(&before) {
            Some(Group::Expected(_)) => return,
            Some(Group::Lost(answered)) if !self.all_answered(answered) => return,
            Some(Group::Lost(_) | Group::Certain) | None => {}
        }
        let of_group = |key: &&ChannelKey| self.group_of(key) == Some(before);
        let keys: Vec<_> = self.takeup.waiting.iter().filter(of_group).cloned().collect();
        keys.iter().for_each(|key| self.try_take_up(now, key, effects));
    }

    pub(super) fn try_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let groups: Vec<_> = self.takeup.groups.keys().copied().collect();
        groups.into_iter().for_each(|before| self.try_group(now, before, effects));
    }

    pub(super) fn try_take_up(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        match self.standing(key) {
            Standing::Unknown => return,
            Standing::Uncovered => return self.tell_uncertain(now, key, effects),
            Standing::Certain => {}
        }
        let lost =
            self.group_of(key).is_some_and(|before| matches!(self.takeup.groups.get(&before), Some(Group::Lost(_))));
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(key).map(|slot| &mut slot.role) else { return };
        if !lost {
            // The owner before has given its word: what it did not send is not there any more.
            (waiting.own, waiting.haves) = (None, Vec::new());
        }
        let best = waiting.haves.iter().max_by_key(|have| have.rank()).copied();
        match (best, &waiting.own) {
            (Some(best), own) if own.as_ref().is_none_or(|own| own.rank() < best.rank()) => {
                self.fetch(now, key, best.node, effects);
            }
            (_, Some(_)) => self.take_up_own(now, key, effects),
            (_, None) => self.take_up(now, key, None, None, effects),
        }
    }

    fn fetch(&mut self, now: Now, key: &ChannelKey, node: NodeId, effects: &mut Vec<Effect>) {
        self.with(now, key, effects, |slot, cx| {
            if let Role::Waiting(waiting) = &mut slot.role
                && cx.streams.is_on(node)
                && waiting.fetching != Some(node)
            {
                waiting.fetching = Some(node);
                cx.say(node, key, Say::Move(Move::Fetch));
            }
        });
    }

    fn take_up_own(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        let (epoch, number, copied) = (self.next_epoch(), self.view_number(), self.rules(key).redundancy > 0);
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(key).map(|slot| &mut slot.role) else { return };
        let Some(Kept { mut state, sealed, .. }) = waiting.own.take().map(|kept| *kept) else { return };
        let haves = std::mem::take(&mut waiting.haves);
        let owners_heard = self.owners_heard(key, &haves);
        let all_known = copied && state.redundancy > 0 && self.holders_heard(key, &haves);
        // Only who it was sealed for could have gone on in the same epoch: an owner since, so heard as well.
        if !owners_heard || sealed.is_none() {
            state.fork(epoch);
            // Without copies, or where all that had them are gone, others may have accepted what nobody here knows of.
            if !all_known {
                state.known_since = number;
            }
            self.moves.taken_up += 1;
        }
        self.take_up(now, key, Some(state), None, effects);
    }

    /// The channel's state is certain: what was asked meanwhile is done now. `giver`: who has sealed it in this view.
    pub(super) fn take_up(
        &mut self,
        now: Now,
        key: &ChannelKey,
        state: Option<Box<State>>,
        giver: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(slot) = self.slots.get_mut(key) else { return };
        let (held, dropped) = match std::mem::take(&mut slot.role) {
            Role::Waiting(waiting) => (waiting.held, waiting.dropped),
            Role::None | Role::Owner(_) | Role::Kept(_) => Default::default(),
        };
        self.takeup.waiting.remove(key);
        if let Some(state) = state {
            let (rules, living) = (self.rules(key), self.living());
            let listens = |(from, ask): &(NodeId, ToOwner)| matches!(ask, ToOwner::Listen { .. }).then_some(*from);
            // Who has asked more than could be held has not said that it hears nothing, and is to say it anew.
            let listening: BTreeSet<_> = held.iter().filter_map(listens).chain(dropped.iter().copied()).collect();
            let (me, listened) = (self.config.me(), &self.listened);
            let silent: Vec<_> = listened.iter().filter(|(_, parts)| parts.all()).map(|(node, _)| *node).collect();
            let silent: Vec<_> = silent.into_iter().chain([me]).filter(|node| !listening.contains(node)).collect();
            let mut unsaid = false;
            self.with(now, key, effects, |slot, cx| {
                let mut channel = Channel::new(key.clone(), rules, *state, giver, cx);
                silent.iter().for_each(|node| channel.listened(*node));
                unsaid = channel.is_unsaid_anywhere();
                channel.lost(|node| living.contains(&node), cx);
                slot.role = Role::Owner(Box::new(channel));
            });
            if unsaid {
                self.takeup.unsaid.insert(key.clone());
            }
        }
        self.with(now, key, effects, |_, cx| {
            held.into_iter().for_each(|(from, ask)| cx.own.push_back((from, key.clone(), Say::Owner(ask))));
            dropped.into_iter().for_each(|node| cx.say(node, key, Say::Relay(ToRelay::Again)));
        });
    }

    /// A node has said all that it hears: what it does not name it has left.
    fn has_listened(&mut self, now: Now, from: NodeId, part: Part, effects: &mut Vec<Effect>) {
        let parts = self.listened.entry(from).or_default();
        parts.add(part);
        if !parts.all() {
            return;
        }
        // To look at all channels of this node would cost as much as most views do.
        let mut keys = Vec::new();
        let Shard { takeup, slots, .. } = self;
        takeup.unsaid.retain(|key| {
            let Some(Role::Owner(channel)) = slots.get(key).map(|slot| &slot.role) else { return false };
            if channel.is_unsaid_at(from) {
                keys.push(key.clone());
            }
            channel.is_unsaid_anywhere()
        });
        for key in keys {
            self.with(now, &key, effects, |slot, _| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.listened(from);
                }
            });
        }
    }

    fn tell_uncertain(&mut self, now: Now, key: &ChannelKey, effects: &mut Vec<Effect>) {
        self.with(now, key, effects, |slot, cx| {
            if let Role::Waiting(waiting) = &slot.role {
                let nodes: BTreeSet<_> = waiting.held.iter().map(|(from, _)| *from).collect();
                nodes.into_iter().for_each(|node| cx.say(node, key, Say::Relay(ToRelay::Uncertain)));
            }
        });
    }

    /// Every other member has said what it has.
    fn all_answered(&self, answered: &BTreeMap<NodeId, Parts>) -> bool {
        let others = self.view.iter().flat_map(|view| &view.members).filter(|member| member.id != self.config.me());
        others.into_iter().all(|member| answered.get(&member.id).is_some_and(Parts::all))
    }

    /// Whether whatever was acknowledged in this channel is known. In each view it was on its owner and its copies, so one
    /// of them that was heard is enough. Nodes of which nobody will ever hear again have nothing.
    fn is_covered(&self, key: &ChannelKey, answered: &BTreeMap<NodeId, Parts>) -> bool {
        let heard = |node: &NodeId| self.is_heard(*node, answered);
        let covers = |view: &Arc<View>| {
            // Two of them are sure to have it, whatever the redundancy was; more may.
            let holders = view.holders(key.point(), HOLDERS_MAX);
            holders.iter().take(2).any(heard) || holders.iter().all(|node| heard(node) || self.gone.contains(node))
        };
        self.rules(key).redundancy == 0 || self.open.iter().all(covers)
    }

    /// The same for every channel that there may be.
    fn all_covered(&self, answered: &BTreeMap<NodeId, Parts>) -> bool {
        self.open.iter().all(|view| {
            let holders = view.members.iter().filter(|member| member.points > 0);
            let unheard: Vec<_> = holders.clone().filter(|member| !self.is_heard(member.id, answered)).collect();
            let all_gone = unheard.iter().all(|member| self.gone.contains(&member.id));
            all_gone || unheard.len() == 1 && holders.count() > 1
        })
    }

    /// Whether every owner since the last settled view has said what it has. One that has not may have forked the channel in a
    /// view whose copies never had it: what counts now has to be the later epoch.
    fn owners_heard(&self, key: &ChannelKey, haves: &[Have]) -> bool {
        self.is_heard_of_each(key, 1, haves)
    }

    /// Whether of each view since the last settled one the owner or the first copy has said what it has.
    fn holders_heard(&self, key: &ChannelKey, haves: &[Have]) -> bool {
        self.is_heard_of_each(key, 2, haves)
    }

    fn is_heard_of_each(&self, key: &ChannelKey, first: usize, haves: &[Have]) -> bool {
        let Some(Group::Lost(answered)) = self.group_of(key).and_then(|before| self.takeup.groups.get(&before)) else {
            return true;
        };
        let heard = |owner| self.is_heard(owner, answered) || haves.iter().any(|have| have.node == owner);
        self.open.iter().all(|view| view.nearest(key.point()).take(first).any(heard))
    }

    fn is_heard(&self, node: NodeId, answered: &BTreeMap<NodeId, Parts>) -> bool {
        node == self.config.me() || answered.get(&node).is_some_and(Parts::all)
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        let Config { node, generation, index, count, .. } = self.config;
        let counter = self.counters.epochs * count + index;
        self.counters.epochs += 1;
        Epoch { view: self.aside_of.unwrap_or(self.view_number()), node, generation, counter }
    }
}
