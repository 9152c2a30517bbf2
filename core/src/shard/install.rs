//! A new view: what this node gives away, what it gets, and what it goes on with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Shard;
use crate::{
    channel::ChannelKey,
    cluster::view::{NodeId, View},
    shard::{
        cx::Cx,
        peer::{Confirm, Opening, Part, Say, SayAll, ToRelay},
        relay::Relay,
        request::Effect,
        slot::{Kept, Role, Sealed, Slot, Waiting},
        streams::{Meeting, Voice, Voices},
        takeup::{Group, Parts},
    },
    time::Now,
};

/// How this node comes to a view.
struct Step {
    view: Arc<View>,
    /// The view before was in force here.
    direct: bool,
    /// And this node was certain of all that it owned in it.
    certain: bool,
}

impl Shard {
    /// Takes over a view. `open`: the views before it since the last settled one, oldest first, in any case the one right
    /// before. All sessions end with the view before.
    pub fn install(&mut self, now: Now, view: Arc<View>, open: Vec<Arc<View>>, effects: &mut Vec<Effect>) {
        let direct = self.view.is_some() && open.last().map(|view| view.number) == Some(self.view_number());
        let certain = direct && self.is_complete();
        let step = Step { view: view.clone(), direct, certain };
        self.streams.end_all();
        // Whatever waits for an owner takes a step below.
        self.changed.retain(|peer| !self.alive.contains(peer));
        // What was asked of a channel that waits is dropped, and where views are skipped, all that was known of others.
        if !direct || !self.takeup.waiting.is_empty() {
            self.since = view.number;
        }
        self.listened.clear();
        self.own.clear();
        self.takeup.word = certain.then_some(self.takeup.since);
        self.takeup.groups = self.groups(&step, open.last());
        self.takeup.waiting.clear();
        self.takeup.sealed.clear();
        self.takeup.uncopied.clear();
        self.takeup.told_served = false;
        let lost = self.takeup.groups.values().any(|group| matches!(group, Group::Lost(_)));
        let since = if certain { self.takeup.since } else { 0 };
        self.takeup.since = if lost { view.number } else { since };
        (self.view, self.open) = (Some(view), open);
        for key in self.concerned(&step) {
            self.step_into(now, &key, &step, effects);
        }
        self.hear_own(now, effects);
        self.try_all(now, effects);
        self.hear_own(now, effects);
    }

    /// A session with another node begins, which has so many shards, or it ends.
    pub fn session(&mut self, now: Now, peer: NodeId, shards: Option<u64>, effects: &mut Vec<Effect>) {
        self.listened.remove(&peer);
        if shards.is_none() || !self.alive.contains(&peer) {
            self.changed.insert(peer);
        }
        let Some(shards) = shards else { return self.end_session(peer) };
        let begin = self.streams.begin(peer, shards, self.since);
        self.say_all(peer, begin, effects);
        for key in &self.takeup.waiting {
            if let Some(Role::Waiting(waiting)) = self.slots.get_mut(key).map(|slot| &mut slot.role) {
                waiting.fetching.take_if(|from| *from == peer);
            }
        }
        self.begin_session(now, peer, effects);
        self.try_all(now, effects);
        self.hear_own(now, effects);
    }

    fn end_session(&mut self, peer: NodeId) {
        self.streams.end(peer);
        if self.gone.contains(&peer) {
            self.streams.forget(peer);
        }
    }

    /// A shard of another node has begun the session, too, and either side knows what was lost of what it has said.
    pub(super) fn meet(&mut self, now: Now, peer: NodeId, part: Part, with: &[Opening], effects: &mut Vec<Effect>) {
        let theirs = usize::try_from(self.config.index).ok().and_then(|index| with.get(index));
        let meeting = theirs.and_then(|theirs| self.streams.meet(peer, part, theirs, self.view_number()));
        match meeting {
            None => return,
            Some(Meeting::Anew) => self.say_anew(now, peer, part, effects),
            Some(Meeting::GoesOn(lost)) => {
                lost.into_iter().for_each(|(key, voices)| self.make_good(now, peer, &key, voices, effects));
            }
        }
        if self.streams.all_met(peer) {
            self.say_all(peer, SayAll::Listened, effects);
        }
    }

    /// Says all that a shard of another node has to know, and forgets what it has said before.
    fn say_anew(&mut self, now: Now, peer: NodeId, part: Part, effects: &mut Vec<Effect>) {
        let Some(view) = self.view.clone() else { return };
        let is_owner = |slot: &Slot| view.owner(slot.point) == Some(peer);
        let concerns = |slot: &Slot| slot.concerns(peer) || slot.asks_another() && is_owner(slot);
        for key in self.keys(|_, slot| slot.point % part.count.max(1) == part.index && concerns(slot)) {
            let mut unsaid = false;
            self.with(now, &key, effects, |slot, cx| {
                match &mut slot.role {
                    Role::Owner(channel) => {
                        channel.session(peer, cx);
                        unsaid |= channel.is_unsaid_at(peer);
                    }
                    Role::Waiting(waiting) => waiting.forget(peer),
                    Role::None | Role::Kept(_) => {}
                }
                let is_owner = is_owner(slot);
                if let Some(relay) = slot.relay.as_mut().filter(|_| is_owner) {
                    relay.say_anew(&key, peer, cx);
                }
            });
            if unsaid {
                self.takeup.unsaid.insert(key);
            }
        }
    }

    /// Something that was said of the channel was lost.
    fn make_good(&mut self, now: Now, peer: NodeId, key: &ChannelKey, voices: Voices, effects: &mut Vec<Effect>) {
        let owner = self.view.as_ref().and_then(|view| view.owner(key.point()));
        let (mine, theirs) = (owner == Some(self.config.me()), owner == Some(peer));
        self.with(now, key, effects, |slot, cx| {
            if mine
                && voices.has(Voice::OwnerToCopy)
                && let Role::Owner(channel) = &mut slot.role
            {
                channel.copy_anew(peer, cx);
            }
            if mine && voices.has(Voice::Owner) {
                match &mut slot.role {
                    Role::Owner(channel) => channel.tell_anew(peer, cx),
                    _ => cx.say(peer, key, Say::Relay(ToRelay::Again)),
                }
            }
            if theirs && voices.has(Voice::Relay) {
                slot.say_anew(key, peer, cx);
            }
            if theirs && voices.has(Voice::Copy) {
                cx.say(peer, key, Say::Confirm(Confirm::Again));
            }
        });
    }

    /// The nodes that live, as far as is known. Sessions of the others are no longer there.
    pub fn set_alive(&mut self, now: Now, alive: impl IntoIterator<Item = NodeId>, effects: &mut Vec<Effect>) {
        self.alive = alive.into_iter().chain([self.config.me()]).collect();
        self.look_for_lost(now, effects);
        self.hear_own(now, effects);
    }

    /// Nodes that live or are in session.
    pub(super) fn living(&self) -> BTreeSet<NodeId> {
        self.alive.iter().copied().chain(self.streams.on()).collect()
    }

    fn look_for_lost(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let living = self.living();
        let lives = |node: NodeId| living.contains(&node);
        for key in self.keys(|_, slot| matches!(&slot.role, Role::Owner(channel) if channel.minds(lives))) {
            self.with(now, &key, effects, |slot, cx| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.lost(lives, cx);
                }
            });
        }
    }

    /// Sessions have ended or begun: somebody may be lost by that, or not any more, and what waits for an owner out of
    /// reach does not wait for ever.
    pub(super) fn note_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let changed = std::mem::take(&mut self.changed);
        if changed.iter().any(|peer| !self.alive.contains(peer)) {
            self.look_for_lost(now, effects);
        }
        let Some(view) = self.view.clone().filter(|_| !changed.is_empty()) else { return };
        let waits = |slot: &Slot| slot.relay.as_ref().is_some_and(|relay| relay.waits());
        let of_them = |slot: &Slot| view.owner(slot.point).is_some_and(|owner| changed.contains(&owner));
        for key in self.keys(|_, slot| waits(slot) && of_them(slot)) {
            self.with(now, &key, effects, |_, _| {});
        }
    }

    /// A node will never be heard of again: what only it had is gone.
    pub fn gone(&mut self, now: Now, node: NodeId, effects: &mut Vec<Effect>) {
        self.gone.insert(node);
        if !self.streams.is_on(node) {
            self.streams.forget(node);
        }
        for slot in self.slots.values_mut() {
            match &mut slot.role {
                Role::Owner(channel) => channel.gone(node),
                Role::Waiting(waiting) => waiting.haves.retain(|have| have.node != node),
                Role::None | Role::Kept(_) => {}
            }
        }
        self.try_all(now, effects);
        self.hear_own(now, effects);
    }

    fn begin_session(&mut self, now: Now, peer: NodeId, effects: &mut Vec<Effect>) {
        let Some(view) = self.view.clone() else { return };
        let owned_before = self.open.last().is_some_and(|before| before.contains(self.config.me()));
        if view.contains(peer) && owned_before {
            self.send_seals(now, peer, effects);
        }
        let lost = self.takeup.groups.iter().filter(|(_, group)| matches!(group, Group::Lost(_)));
        for before in lost.map(|(before, _)| *before).collect::<Vec<_>>() {
            self.say_all(peer, SayAll::Ask { before }, effects);
        }
    }

    fn groups(&self, step: &Step, before: Option<&Arc<View>>) -> BTreeMap<NodeId, Group> {
        let group = |node: NodeId| {
            if node == self.config.me() {
                if step.certain { Group::Certain } else { Group::Lost(BTreeMap::new()) }
            } else if step.view.contains(node) {
                Group::Expected(Parts::default())
            } else {
                Group::Lost(BTreeMap::new())
            }
        };
        let members = before.into_iter().flat_map(|view| &view.members).filter(|member| member.points > 0);
        members.map(|member| (member.id, group(member.id))).collect()
    }

    /// The channels for which anything changes here with the view. Where this node hears one that has another owner now,
    /// that one is to be told.
    fn concerned(&mut self, step: &Step) -> Vec<ChannelKey> {
        let me = self.config.me();
        let before = self.open.last().filter(|_| step.direct);
        let mut keys = Vec::new();
        for (key, slot) in &self.slots {
            let point = slot.point;
            let owner = step.view.owner(point);
            if let Some(owner) = owner.filter(|owner| *owner != me)
                && slot.asks_another()
                && before.is_some_and(|before| before.owner(point) != Some(owner))
            {
                self.streams.note(owner, key, Voice::Relay);
            }
            if slot.is_concerned(step, owner, me) {
                keys.push(key.clone());
            }
        }
        keys
    }

    /// One channel's step into the view.
    fn step_into(&mut self, now: Now, key: &ChannelKey, step: &Step, effects: &mut Vec<Effect>) {
        let me = self.config.me();
        let owner = step.view.owner(key.point());
        let mine = owner == Some(me);
        let owned = self.slots.get(key).is_some_and(|slot| matches!(slot.role, Role::Owner(_)));
        if let Some(owner) = owner.filter(|_| owned && !mine && step.direct) {
            self.takeup.sealed.entry(owner).or_default().push(key.clone());
            self.moves.handed_over += 1;
        }
        self.with(now, key, effects, |slot, cx| {
            slot.role = match std::mem::take(&mut slot.role) {
                Role::Owner(mut channel) if mine && step.direct => {
                    channel.place_copies(cx);
                    Role::Owner(channel)
                }
                Role::Owner(channel) => {
                    let word_in = step.direct.then_some(step.view.number);
                    let sealed = Some(Sealed { to: owner.unwrap_or(me), word_in });
                    let (state, used_ms) = (channel.into_state(cx), cx.now.mono_ms);
                    Role::Kept(Box::new(Kept { state, sealed, used_ms }))
                }
                Role::Waiting(waiting) => waiting.own.map_or(Role::None, Role::Kept),
                role @ (Role::None | Role::Kept(_)) => role,
            };
        });
        if mine && self.slots.get(key).is_some_and(|slot| slot.kept().is_some()) {
            self.begin_waiting(now, key, effects);
        }
        self.with(now, key, effects, |slot, cx| {
            let goes_on = matches!(slot.role, Role::Owner(_));
            if let Some(relay) = slot.relay.as_mut().filter(|_| mine && !goes_on) {
                relay.say_anew(key, me, cx);
            }
        });
    }
}

impl Slot {
    /// Whether anything changes with the view but for sessions. An owner that goes on with the same copies takes no step.
    fn is_concerned(&self, step: &Step, owner: Option<NodeId>, me: NodeId) -> bool {
        let mine = owner == Some(me);
        let relay = self.relay.as_ref();
        match &self.role {
            Role::Owner(channel) => {
                !mine || !step.direct || !channel.is_placed(&step.view, self.point, me) || !channel.is_copied()
            }
            Role::Waiting(_) => true,
            Role::None | Role::Kept(_) => mine || relay.is_some_and(|relay| relay.waits()),
        }
    }

    /// Whether what this node owns of the channel, or is to own, changes with a session with that node.
    fn concerns(&self, node: NodeId) -> bool {
        match &self.role {
            Role::Owner(channel) => channel.concerns(node),
            Role::Waiting(_) => true,
            Role::None | Role::Kept(_) => false,
        }
    }

    /// Says what this node wants of the channel's owner, also that it is nothing.
    pub fn say_anew(&mut self, key: &ChannelKey, owner: NodeId, cx: &mut Cx<'_>) {
        match &mut self.relay {
            Some(relay) => relay.say_anew(key, owner, cx),
            None => Relay::default().say_anew(key, owner, cx),
        }
    }

    /// Whether this node wants something of the channel's owner.
    fn asks_another(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| !relay.is_empty())
    }
}

impl Waiting {
    /// A node says anew what it wants.
    fn forget(&mut self, node: NodeId) {
        self.held.retain(|(from, _)| *from != node);
        self.dropped.remove(&node);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use crate::{
        channel::ChannelKey,
        cluster::view::{ClusterId, Member, NodeId, View},
        fanout::Subscriber,
        session::event,
        settings::{
            hub::{Hub, Rules},
            resource::HubSpec,
        },
        shard::{
            Config, Shard,
            history::HistoryBounds,
            peer::{Body, Opening, Part, PeerMessage, Say, SayAll, ToOwner},
            request::{Ask, Listener, Request, Subscribe, Token},
        },
        time::Now,
    };

    const NOW: Now = Now { mono_ms: 5, unix_ms: 5 };
    const ME: NodeId = NodeId { node: 1, generation: 1 };
    const OTHER: NodeId = NodeId { node: 2, generation: 1 };

    /// A shard that owns many channels without copies, all heard by a session of its own node.
    fn owner() -> (Shard, Vec<ChannelKey>) {
        let mut shard = Shard::new(Config {
            node: ME.node,
            generation: ME.generation,
            index: 0,
            count: 1,
            seed: 1,
            history: HistoryBounds { messages_max: 1, bytes_max: 1, unseen_max: 1 },
            retain_ms: 1,
            close_ms: 1_000,
            occupancy_ms: 1_000,
            hold_ms: 1_000,
            restore_ms: 1_000,
            waiting_max: 10,
            held_max: 10,
            channels_max: 10_000,
        });
        let spec = HubSpec { default_public: true, allow_anonymous: true, ..HubSpec::default() };
        let mut hub = Hub::with_spec("shop", &spec);
        hub.default_rules = Arc::new(Rules { redundancy: 0, ..*hub.default_rules });
        shard.set_hub(NOW, Arc::new(hub), &mut Vec::new());
        let members = [ME, OTHER].map(|id| Member { id, points: 64 }).to_vec();
        let view = View::new(ClusterId { founded_ms: 1, chance: 1 }, 1, members);
        let keys = (0..4_000).map(|number| ChannelKey::new("shop", number.to_string()));
        let keys: Vec<_> = keys.filter(|key| view.owner(key.point()) == Some(ME)).collect();
        shard.install(NOW, Arc::new(view), Vec::new(), &mut Vec::new());
        for key in &keys {
            let token = Token { subscriber: Subscriber { slot: 0, generation: 0 }, number: 1 };
            let member = event::Member { session_id: "s".into(), identity: None, since_ms: 1 };
            let ask = Ask::Subscribe(Subscribe { token, member, attachment: 1, recover: None });
            let from = Listener { node: ME.node, worker: 0 };
            shard.handle(NOW, Request { from, key: key.clone(), ask }, &mut Vec::new());
        }
        shard.end_turn(NOW, &mut Vec::new());
        (shard, keys)
    }

    #[test]
    fn a_session_of_nodes_costs_what_the_other_node_hears() {
        let (mut shard, keys) = owner();
        assert!(keys.len() > 1_000 && shard.len() == keys.len() && shard.touched.is_empty());
        let mut effects = Vec::new();
        shard.session(NOW, OTHER, Some(1), &mut effects);
        let listen = ToOwner::Listen { position: None, presence: 0, subscribers: 1, members: Vec::new(), astray: 0 };
        let heard = Body::Channel { key: keys[0].clone(), say: Say::Owner(listen) };
        let with = vec![Opening { number: 1, ..Opening::default() }];
        let all = |say| Body::All { from: Part { index: 0, count: 1 }, say };
        for body in [all(SayAll::Begin { with }), heard, all(SayAll::Listened)] {
            shard.receive(NOW, OTHER, PeerMessage { view: 1, side: false, body }, &mut effects);
        }
        assert_eq!(shard.touched, [keys[0].clone()]);
        shard.end_turn(NOW, &mut effects);
        shard.session(NOW, OTHER, None, &mut effects);
        shard.note_changed(NOW, &mut effects);
        assert_eq!(shard.touched, [keys[0].clone()]);
    }
}
