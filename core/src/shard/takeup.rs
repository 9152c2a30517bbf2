//! Becoming certain of channels that the view gives to this node.
//!
//! Channels are looked at in groups, by the node that owned them in the view before. Mostly that node says everything: it
//! sends what it has, and gives its word that there is no more. Where it can't, all members are asked, and the best of what
//! they keep is taken once no better can be anywhere.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    sync::Arc,
};

use foldhash::fast::FixedState;
use smallvec::SmallVec;

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
        slots::At,
        state::State,
    },
    time::Now,
};

/// How long copies wait for everything to go on, in milliseconds.
const COPYING_LATEST_MS: u64 = 200;

/// An owner and the most copies that rules can ask for.
const HOLDERS_MAX: usize = 4;

/// How far this node is with the channels of its view.
#[derive(Debug, Default)]
pub struct TakeUp {
    /// By the owner of the view before.
    pub groups: BTreeMap<NodeId, Group>,
    /// This node's word on what it owned in the view before: since when it knows every publish to its channels.
    pub word: Option<u64>,
    /// Channels whose state is looked for, by their owner in the view before.
    pub waiting: BTreeMap<Option<NodeId>, HashSet<At, FixedState>>,
    /// Owned, and not on every copy yet.
    pub uncopied: HashSet<At, FixedState>,
    pub told_served: bool,
    /// When the view came, in `Now::mono_ms`.
    pub since_ms: u64,
    /// Owned, with copies that are to be sent the state, for which nobody waits.
    pub behind: VecDeque<At>,
    /// Owned, with nodes that wait to be told how they go on.
    pub unanswered: HashSet<At, FixedState>,
    /// Nodes that have said what they hear, and are to be told when all of that goes on.
    pub to_tell: BTreeSet<NodeId>,
    /// Which shards of a node have told so.
    pub heard_resumed: BTreeMap<NodeId, Parts>,
    /// All goes on that is owned or heard here.
    pub resumed: bool,
    /// Since which view every publish to a channel of this node is known.
    pub since: u64,
    /// Channels that are heard here and have come to another owner with this view, which is to be told: sorted, by that owner.
    pub moved: BTreeMap<NodeId, Vec<At>>,
    /// Channels that this node has sealed in this view, by the node they are for.
    pub sealed: BTreeMap<NodeId, Vec<At>>,
    /// Channels owned here of which a node may not have said that it hears them: what is known of it comes from another
    /// owner, or from before a session that began anew.
    pub unsaid: HashSet<At, FixedState>,
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

impl TakeUp {
    /// How many channels wait.
    pub fn count_waiting(&self) -> usize {
        self.waiting.values().map(HashSet::len).sum()
    }

    pub fn waits_no_more(&mut self, at: At, group: Option<NodeId>) {
        if let Some(waiting) = self.waiting.get_mut(&group) {
            waiting.remove(&at);
        }
    }

    /// Whether places of channels are noted where nobody could say that they have become others.
    pub fn has_notes(&self) -> bool {
        !self.sealed.is_empty() || !self.behind.is_empty() || !self.moved.is_empty()
    }
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
        self.view.is_some() && self.takeup.count_waiting() == 0 && self.takeup.groups.values().all(certain)
    }

    /// Says once that all channels of this node are served, and on all their copies.
    pub(super) fn tell_served(&mut self, effects: &mut Vec<Effect>) {
        if !self.takeup.told_served && self.takeup.uncopied.is_empty() && self.is_complete() {
            self.takeup.told_served = true;
            effects.push(Effect::Served { view: self.view_number() });
        }
    }

    /// Tells every node, once it has said what it hears, when all of that goes on; and says once when all goes on that is heard
    /// here, from whomever.
    pub(super) fn tell_resumed(&mut self, effects: &mut Vec<Effect>) {
        let TakeUp { to_tell, unanswered, resumed, .. } = &self.takeup;
        if *resumed && to_tell.is_empty() || !unanswered.is_empty() || !self.is_complete() {
            return;
        }
        for peer in std::mem::take(&mut self.takeup.to_tell) {
            self.say_all(peer, SayAll::Resumed, effects);
        }
        let heard = |node: NodeId| self.takeup.heard_resumed.get(&node).is_some_and(Parts::all);
        let mut members = self.view.iter().flat_map(|view| &view.members).map(|member| member.id);
        if !self.takeup.resumed && members.all(|id| id == self.config.me() || heard(id)) {
            self.takeup.resumed = true;
            effects.push(Effect::Resumed { view: self.view_number() });
        }
    }

    /// When states are to be sent for which nobody waits, in `Now::mono_ms`: once everything goes on, but not much later.
    pub(super) fn copies_due_ms(&self) -> Option<u64> {
        let soonest_ms = if self.takeup.resumed { 0 } else { self.takeup.since_ms + COPYING_LATEST_MS };
        (!self.takeup.behind.is_empty()).then_some(soonest_ms)
    }

    /// Sends some of them.
    pub(super) fn send_behind(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.copies_due_ms().is_none_or(|due_ms| due_ms > now.mono_ms) {
            return;
        }
        for _ in 0..self.config.copying_max.max(1) {
            let Some(at) = self.takeup.behind.pop_front() else { break };
            if self.slots.get(at).is_some_and(|slot| slot.behind) {
                self.with(now, at, effects, |_, slot, cx| {
                    slot.behind = false;
                    if let Role::Owner(channel) = &mut slot.role {
                        channel.send_copies(true, cx);
                    }
                });
            }
        }
    }

    /// What is left to do before everything that the view gives to this node is served, and on all its copies.
    pub fn progress(&self) -> Progress {
        let (waiting, uncopied) = (self.takeup.count_waiting(), self.takeup.uncopied.len());
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

    pub(super) fn standing(&self, at: At) -> Standing {
        match self.group_of(at).and_then(|before| self.takeup.groups.get(&before)) {
            None | Some(Group::Certain) => Standing::Certain,
            Some(Group::Expected(_)) => Standing::Unknown,
            Some(Group::Lost(answered)) if !self.all_answered(answered) => Standing::Unknown,
            Some(Group::Lost(answered)) if self.is_covered(at, answered) => Standing::Certain,
            Some(Group::Lost(_)) => Standing::Uncovered,
        }
    }

    /// Who owned the channel in the view before.
    pub(super) fn group_of(&self, at: At) -> Option<NodeId> {
        self.open.last()?.owner(self.slots.key(at)?.point())
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
            SayAll::Resumed => self.takeup.heard_resumed.entry(from).or_default().add(part),
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
        let covered = match self.takeup.groups.get(&before) {
            Some(Group::Expected(_)) => return,
            Some(Group::Lost(answered)) if !self.all_answered(answered) => return,
            Some(Group::Lost(answered)) => self.all_covered(answered),
            Some(Group::Certain) | None => true,
        };
        let mut places: Vec<_> = self.takeup.waiting.get(&Some(before)).into_iter().flatten().copied().collect();
        // One after the other as they lie in memory.
        places.sort_unstable();
        for at in places {
            let standing = if covered { Standing::Certain } else { self.standing(at) };
            self.try_take_up(now, at, standing, effects);
            self.end_some(now, effects);
        }
    }

    pub(super) fn try_all(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let groups: Vec<_> = self.takeup.groups.keys().copied().collect();
        groups.into_iter().for_each(|before| self.try_group(now, before, effects));
    }

    pub(super) fn try_take_up(&mut self, now: Now, at: At, standing: Standing, effects: &mut Vec<Effect>) {
        match standing {
            Standing::Unknown => return,
            Standing::Uncovered => return self.tell_uncertain(now, at, effects),
            Standing::Certain => {}
        }
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(at).map(|(_, slot)| &mut slot.role) else { return };
        let group = waiting.group.and_then(|before| self.takeup.groups.get(&before));
        if !matches!(group, Some(Group::Lost(_))) {
            // The owner before has given its word: what it did not send is not there any more.
            (waiting.own, waiting.haves) = (None, Vec::new());
        }
        let best = waiting.haves.iter().max_by_key(|have| have.rank()).copied();
        match (best, &waiting.own) {
            (Some(best), own) if own.as_ref().is_none_or(|own| own.rank() < best.rank()) => {
                self.fetch(now, at, best.node, effects);
            }
            (_, Some(_)) => self.take_up_own(now, at, effects),
            (_, None) => self.take_up(now, at, None, None, effects),
        }
    }

    fn fetch(&mut self, now: Now, at: At, node: NodeId, effects: &mut Vec<Effect>) {
        self.with(now, at, effects, |key, slot, cx| {
            if let Role::Waiting(waiting) = &mut slot.role
                && cx.streams.is_on(node)
                && waiting.fetching != Some(node)
            {
                waiting.fetching = Some(node);
                cx.say(node, key, Say::Move(Move::Fetch));
            }
        });
    }

    fn take_up_own(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        let Some(copied) = self.slots.key(at).map(|key| self.rules(key).redundancy > 0) else { return };
        let (epoch, number) = (self.next_epoch(), self.view_number());
        let Some(Role::Waiting(waiting)) = self.slots.get_mut(at).map(|(_, slot)| &mut slot.role) else { return };
        let Some(Kept { mut state, sealed, .. }) = waiting.own.take().map(|kept| *kept) else { return };
        let haves = std::mem::take(&mut waiting.haves);
        let owners_heard = self.owners_heard(at, &haves);
        let all_known = copied && state.redundancy > 0 && self.holders_heard(at, &haves);
        // Only who it was sealed for could have gone on in the same epoch: an owner since, so heard as well.
        if !owners_heard || sealed.is_none() {
            state.fork(epoch);
            // Without copies, or where all that had them are gone, others may have accepted what nobody here knows of.
            if !all_known {
                state.known_since = number;
            }
            self.moves.taken_up += 1;
        } else {
            // Another owner may have counted changes of presence on in the same epoch that are not known here.
            state.presence_version = state.presence_version.max(number << 32);
        }
        self.take_up(now, at, Some(state), None, effects);
    }

    /// The channel's state is certain: what was asked meanwhile is done now. `giver`: who has sealed it in this view.
    pub(super) fn take_up(
        &mut self,
        now: Now,
        at: At,
        state: Option<Box<State>>,
        giver: Option<NodeId>,
        effects: &mut Vec<Effect>,
    ) {
        let Some((_, slot)) = self.slots.get_mut(at) else { return };
        let (held, dropped) = match std::mem::take(&mut slot.role) {
            Role::Waiting(waiting) => {
                self.takeup.waits_no_more(at, waiting.group);
                (waiting.held, waiting.dropped)
            }
            Role::None | Role::Owner(_) | Role::Kept(_) => Default::default(),
        };
        if let Some(state) = state {
            let Some(rules) = self.slots.key(at).map(|key| self.rules(key)) else { return };
            let living: SmallVec<[NodeId; 8]> = self.alive.iter().copied().chain(self.streams.on()).collect();
            let listens = |(from, ask): &(NodeId, ToOwner)| matches!(ask, ToOwner::Listen { .. }).then_some(*from);
            // Who has asked more than could be held has not said that it hears nothing, and is to say it anew.
            let listening: SmallVec<[NodeId; 8]> =
                held.iter().filter_map(listens).chain(dropped.iter().copied()).collect();
            let (me, listened) = (self.config.me(), &self.listened);
            let all_listened = listened.iter().filter(|(_, parts)| parts.all()).map(|(node, _)| *node);
            let silent: SmallVec<[NodeId; 8]> =
                all_listened.chain([me]).filter(|node| !listening.contains(node)).collect();
            let mut unsaid = false;
            self.with(now, at, effects, |key, slot, cx| {
                let mut channel = Channel::new(key.clone(), rules, *state, giver, cx);
                silent.iter().for_each(|node| channel.listened(*node));
                unsaid = channel.is_unsaid_anywhere();
                channel.lost(|node| living.contains(&node), cx);
                slot.role = Role::Owner(Box::new(channel));
            });
            if unsaid {
                self.takeup.unsaid.insert(at);
            }
        }
        self.with(now, at, effects, |key, _, cx| {
            held.into_iter().for_each(|(from, ask)| cx.own.push_back((from, at, Say::Owner(ask))));
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
        self.takeup.to_tell.insert(from);
        // To look at all channels of this node would cost as much as most views do.
        let mut places = Vec::new();
        let Shard { takeup, slots, .. } = self;
        takeup.unsaid.retain(|at| {
            let Some(Role::Owner(channel)) = slots.get(*at).map(|slot| &slot.role) else { return false };
            if channel.is_unsaid_at(from) {
                places.push(*at);
            }
            channel.is_unsaid_anywhere()
        });
        for at in places {
            self.with(now, at, effects, |_, slot, _| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.listened(from);
                }
            });
        }
    }

    fn tell_uncertain(&mut self, now: Now, at: At, effects: &mut Vec<Effect>) {
        self.with(now, at, effects, |key, slot, cx| {
            if let Role::Waiting(waiting) = &mut slot.role {
                let nodes: BTreeSet<_> = waiting.held.iter().map(|(from, _)| *from).collect();
                nodes.into_iter().for_each(|node| waiting.tell_uncertain(node, key, cx));
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
    fn is_covered(&self, at: At, answered: &BTreeMap<NodeId, Parts>) -> bool {
        let Some(key) = self.slots.key(at) else { return false };
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
    fn owners_heard(&self, at: At, haves: &[Have]) -> bool {
        self.is_heard_of_each(at, 1, haves)
    }

    /// Whether of each view since the last settled one the owner or the first copy has said what it has.
    fn holders_heard(&self, at: At, haves: &[Have]) -> bool {
        self.is_heard_of_each(at, 2, haves)
    }

    fn is_heard_of_each(&self, at: At, first: usize, haves: &[Have]) -> bool {
        let Some(Group::Lost(answered)) = self.group_of(at).and_then(|before| self.takeup.groups.get(&before)) else {
            return true;
        };
        let Some(point) = self.slots.key(at).map(ChannelKey::point) else { return true };
        let heard = |owner| self.is_heard(owner, answered) || haves.iter().any(|have| have.node == owner);
        self.open.iter().all(|view| view.nearest(point).take(first).any(heard))
    }

    /// Whether a node has said what it has, and can still be asked for it.
    fn is_heard(&self, node: NodeId, answered: &BTreeMap<NodeId, Parts>) -> bool {
        node == self.config.me() || !self.gone.contains(&node) && answered.get(&node).is_some_and(Parts::all)
    }

    pub(super) fn next_epoch(&mut self) -> Epoch {
        let Config { node, generation, index, count, .. } = self.config;
        let counter = self.counters.epochs * count + index;
        self.counters.epochs += 1;
        Epoch { view: self.aside_of.unwrap_or(self.view_number()), node, generation, counter }
    }
}
