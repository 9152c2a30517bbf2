//! A new view: what this node gives away, what it gets, and what it goes on with.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::Shard;
use crate::{
    channel::ChannelKey,
    cluster::view::{Difference, NodeId, View},
    shard::{
        cx::Cx,
        peer::{Confirm, Opening, Part, Say, SayAll, ToRelay},
        relay::Relay,
        request::Effect,
        slot::{Kept, Role, Sealed, Slot},
        slots::At,
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
    /// To that view.
    difference: Difference,
}

/// What changes for one channel.
enum Concern {
    None,
    Copies,
    Channel,
}

impl Shard {
    /// Takes over a view. `open`: the views before it since the last settled one, oldest first, in any case the one right
    /// before. All sessions end with the view before.
    pub fn install(&mut self, now: Now, view: Arc<View>, open: Vec<Arc<View>>, effects: &mut Vec<Effect>) {
        let direct = self.view.is_some() && open.last().map(|view| view.number) == Some(self.view_number());
        let certain = direct && self.is_complete();
        let before = self.view.as_ref().filter(|_| direct);
        let difference = before.map(|before| view.difference(before)).unwrap_or_default();
        let step = Step { view: view.clone(), direct, certain, difference };
        self.looked_for.extend(self.streams.on());
        self.streams.end_all();
        for (owner, places) in std::mem::take(&mut self.takeup.moved) {
            let keys = places.into_iter().filter_map(|at| self.slots.key(at));
            keys.for_each(|key| self.streams.note(owner, key, Voice::Relay));
        }
        // Whatever waits for an owner takes a step below.
        self.changed.retain(|peer| !self.alive.contains(peer));
        // What was asked of a channel that waits is dropped, and where views are skipped, all that was known of others.
        if !direct || self.takeup.count_waiting() > 0 {
            self.since = view.number;
        }
        self.listened.clear();
        self.own.clear();
        self.takeup.word = certain.then_some(self.takeup.since);
        self.takeup.groups = self.groups(&step, open.last());
        self.takeup.waiting.clear();
        self.takeup.sealed.clear();
        self.takeup.uncopied.clear();
        self.takeup.unanswered.clear();
        for at in std::mem::take(&mut self.takeup.behind) {
            self.quietly(now, at, effects, |_, slot, _| slot.behind = false);
        }
        self.takeup.to_tell.clear();
        self.takeup.heard_resumed.clear();
        (self.takeup.told_served, self.takeup.resumed, self.takeup.since_ms) = (false, false, now.mono_ms);
        let lost = self.takeup.groups.values().any(|group| matches!(group, Group::Lost(_)));
        let since = if certain { self.takeup.since } else { 0 };
        self.takeup.since = if lost { view.number } else { since };
        (self.view, self.open) = (Some(view), open);
        for at in self.concerned(&step) {
            self.step_into(now, at, &step, effects);
            self.end_some(now, effects);
        }
        self.try_all(now, effects);
        self.hear_own(now, effects);
    }

    /// A session with another node begins, which has so many shards, or it ends.
    pub fn session(&mut self, now: Now, peer: NodeId, shards: Option<u64>, effects: &mut Vec<Effect>) {
        self.listened.remove(&peer);
        self.takeup.to_tell.remove(&peer);
        self.takeup.heard_resumed.remove(&peer);
        if shards.is_none() || !self.alive.contains(&peer) {
            self.changed.insert(peer);
        }
        let Some(shards) = shards else { return self.end_session(peer) };
        let begin = self.streams.begin(peer, shards, self.since);
        self.say_all(peer, begin, effects);
        for at in self.takeup.waiting.values().flatten() {
            if let Some(Role::Waiting(waiting)) = self.slots.get_mut(*at).map(|(_, slot)| &mut slot.role) {
                waiting.fetching.take_if(|from| *from == peer);
            }
        }
        self.begin_session(now, peer, effects);
        self.try_all(now, effects);
        self.hear_own(now, effects);
    }

    fn end_session(&mut self, peer: NodeId) {
        // It lived until now.
        self.looked_for.extend(self.streams.is_on(peer).then_some(peer));
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
            Some(meeting @ (Meeting::First | Meeting::Anew)) => {
                self.take_moved(peer, part);
                self.say_anew(now, peer, part, meeting == Meeting::First, effects);
            }
            Some(Meeting::GoesOn(lost)) => {
                let moved = self.take_moved(peer, part);
                for (key, voices) in lost {
                    let has_moved = self.slots.find(&key).is_some_and(|at| moved.binary_search(&at).is_ok());
                    let voices = if has_moved { voices.without(Voice::Relay) } else { voices };
                    self.make_good(now, peer, &key, voices, effects);
                    self.end_some(now, effects);
                }
                // They stay as they are.
                for at in moved {
                    self.quietly(now, at, effects, |key, slot, cx| slot.say_anew(key, peer, cx));
                }
            }
        }
        if self.streams.all_met(peer) {
            self.say_all(peer, SayAll::Listened, effects);
        }
    }

    /// The channels that are heard here and came to that node with this view, as far as that shard of it has them; sorted.
    fn take_moved(&mut self, peer: NodeId, part: Part) -> Vec<At> {
        let moved = self.takeup.moved.remove(&peer).unwrap_or_default();
        let is_its = |at: &At| self.slots.key(*at).is_some_and(|key| key.point() % part.count.max(1) == part.index);
        let (its, others): (Vec<_>, Vec<_>) = moved.into_iter().partition(is_its);
        if !others.is_empty() {
            self.takeup.moved.insert(peer, others);
        }
        its
    }

    /// Says all that a shard of another node has to know, and forgets what it has said before. `first`: it has said nothing.
    fn say_anew(&mut self, now: Now, peer: NodeId, part: Part, first: bool, effects: &mut Vec<Effect>) {
        let Some(view) = self.view.clone() else { return };
        let is_owner = |key: &ChannelKey| view.owner(key.point()) == Some(peer);
        // What every copy has is on none of a node that was never heard of, and what is sent to copies later it was not sent yet.
        let comes_later = |slot: &Slot| slot.copied || slot.behind && !slot.waited;
        let is_known = |slot: &Slot| !first || slot.touched || !comes_later(slot);
        let concerns = |key: &ChannelKey, slot: &Slot| {
            is_known(slot) && slot.concerns(peer) || slot.relay.is_some() && is_owner(key) && slot.asks_another()
        };
        for at in self.places(|key, slot| key.point() % part.count.max(1) == part.index && concerns(key, slot)) {
            // A relay stays as it is.
            self.quietly(now, at, effects, |key, slot, cx| {
                if let Role::Waiting(waiting) = &mut slot.role {
                    waiting.forget(peer);
                }
                if let Some(relay) = slot.relay.as_mut().filter(|_| is_owner(key)) {
                    relay.say_anew(key, peer, cx);
                }
            });
            if self.owns(at) {
                self.begin_anew(now, at, peer, effects);
            }
            self.end_some(now, effects);
        }
    }

    /// A channel of this node begins a session with a node that says all anew.
    fn begin_anew(&mut self, now: Now, at: At, peer: NodeId, effects: &mut Vec<Effect>) {
        let unsaid = self.with(now, at, effects, |_, slot, cx| match &mut slot.role {
            Role::Owner(channel) => {
                channel.session(peer, cx);
                channel.is_unsaid_at(peer)
            }
            Role::None | Role::Waiting(_) | Role::Kept(_) => false,
        });
        if unsaid == Some(true) {
            self.takeup.unsaid.insert(at);
        }
    }

    /// Something that was said of the channel was lost.
    fn make_good(&mut self, now: Now, peer: NodeId, key: &ChannelKey, voices: Voices, effects: &mut Vec<Effect>) {
        let owner = self.view.as_ref().and_then(|view| view.owner(key.point()));
        let (mine, theirs) = (owner == Some(self.config.me()), owner == Some(peer));
        let at = self.enter(key);
        self.with(now, at, effects, |key, slot, cx| {
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
        if living == self.looked_for {
            return;
        }
        let lives = |node: NodeId| living.contains(&node);
        // Where nobody is lost, only those matter who were in doubt.
        let places = match self.looked_for.is_subset(&living) {
            true => self.doubtful.iter().chain(&self.touched).copied().collect(),
            false => self.places(|_, slot| matches!(&slot.role, Role::Owner(channel) if channel.minds(lives))),
        };
        for at in places {
            self.lose(now, at, lives, effects);
        }
        self.looked_for = living;
    }

    fn lose(&mut self, now: Now, at: At, lives: impl Fn(NodeId) -> bool + Copy, effects: &mut Vec<Effect>) {
        let minds = |slot: &Slot| matches!(&slot.role, Role::Owner(channel) if channel.minds(lives));
        if !self.slots.get(at).is_some_and(minds) {
            return;
        }
        self.with(now, at, effects, |_, slot, cx| {
            if let Role::Owner(channel) = &mut slot.role {
                channel.lost(lives, cx);
            }
        });
    }

    /// Sessions have ended or begun: somebody may be lost by that, or not any more, and what waits for an owner out of
    /// reach does not wait for ever.
    pub(super) fn note_changed(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if !self.strangers.is_empty() {
            let living = self.living();
            for at in std::mem::take(&mut self.strangers) {
                self.lose(now, at, |node| living.contains(&node), effects);
            }
        }
        let changed = std::mem::take(&mut self.changed);
        if changed.iter().any(|peer| !self.alive.contains(peer)) {
            self.look_for_lost(now, effects);
        }
        let Some(view) = self.view.clone().filter(|_| !changed.is_empty()) else { return };
        let of_them = |key: &ChannelKey| view.owner(key.point()).is_some_and(|owner| changed.contains(&owner));
        for at in self.places(|key, slot| slot.may_wait() && of_them(key)) {
            self.with(now, at, effects, |_, _, _| {});
        }
    }

    /// A node will never be heard of again: what only it had is gone.
    pub fn gone(&mut self, now: Now, node: NodeId, effects: &mut Vec<Effect>) {
        self.gone.insert(node);
        if !self.streams.is_on(node) {
            self.streams.forget(node);
        }
        for (_, _, slot) in self.slots.iter_mut() {
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

    /// The channels that take a step into the view. Where this node hears one that has another owner now, that one is to be told;
    /// and where it owns one that has only other copies, they are placed when there is need of them.
    fn concerned(&mut self, step: &Step) -> Vec<At> {
        let me = self.config.me();
        let Shard { slots, takeup, .. } = self;
        let mut places = Vec::new();
        for (at, key, slot) in slots.iter_mut() {
            let point = key.point();
            if step.direct
                && step.difference.first(point) == 0
                && slot.asks_another()
                && let Some(owner) = step.view.owner(point).filter(|owner| *owner != me)
            {
                takeup.moved.entry(owner).or_default().push(at);
            }
            match slot.concern(step, point, me) {
                Concern::None => {}
                Concern::Copies => {
                    (slot.misplaced, slot.copied, slot.behind) = (true, false, true);
                    takeup.uncopied.insert(at);
                    takeup.behind.push_back(at);
                }
                Concern::Channel => places.push(at),
            }
        }
        places
    }

    /// One channel's step into the view.
    fn step_into(&mut self, now: Now, at: At, step: &Step, effects: &mut Vec<Effect>) {
        let me = self.config.me();
        let Some(owner) = self.slots.key(at).map(|key| step.view.owner(key.point())) else { return };
        let mine = owner == Some(me);
        let (mut seals, mut waits) = (false, false);
        self.with(now, at, effects, |_, slot, cx| {
            seals = matches!(slot.role, Role::Owner(_)) && !mine && step.direct;
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
            waits = mine && slot.kept().is_some();
        });
        if let Some(owner) = owner.filter(|_| seals) {
            self.takeup.sealed.entry(owner).or_default().push(at);
            self.moves.handed_over += 1;
        }
        if waits {
            self.begin_waiting(now, at, effects);
        }
        self.with(now, at, effects, |key, slot, cx| {
            let goes_on = matches!(slot.role, Role::Owner(_));
            if let Some(relay) = slot.relay.as_mut().filter(|_| mine && !goes_on) {
                relay.say_anew(key, me, cx);
            }
        });
        self.hear_own(now, effects);
    }
}

impl Slot {
    /// What changes with the view but for sessions.
    fn concern(&self, step: &Step, point: u64, me: NodeId) -> Concern {
        let mine = || step.view.owner(point) == Some(me);
        let channel = |is_concerned| if is_concerned { Concern::Channel } else { Concern::None };
        match &self.role {
            Role::Owner(_) if step.direct && self.copied && !self.touched => match step.difference.first(point) {
                0 => Concern::Channel,
                first if first >= usize::from(self.holders) => Concern::None,
                _ if self.waited => Concern::Channel,
                _ => Concern::Copies,
            },
            Role::Owner(owned) => {
                channel(!step.direct || !mine() || !owned.is_placed(&step.view, point, me) || !owned.is_copied())
            }
            Role::Waiting(_) => Concern::Channel,
            Role::None | Role::Kept(_) => channel(self.may_wait() || mine()),
        }
    }

    /// Takes over the copies of the view in force, if that was put off.
    pub(super) fn place(&mut self, cx: &mut Cx<'_>) {
        if std::mem::take(&mut self.misplaced)
            && let Role::Owner(channel) = &mut self.role
        {
            channel.place_copies(cx);
        }
    }

    /// Whether this node waits for an answer of the owner.
    pub fn relay_waits(&self) -> bool {
        self.relay.as_ref().is_some_and(|relay| relay.waits())
    }

    /// The same without a look into the channel.
    fn may_wait(&self) -> bool {
        if self.touched { self.relay_waits() } else { self.waits }
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
            copying_max: 100,
        });
        let spec = HubSpec { default_public: true, allow_anonymous: true, ..HubSpec::default() };
        let mut hub = Hub::with_spec("shop", &spec);
        hub.default_rules = Rules { redundancy: 0, ..hub.default_rules };
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
        let listen = ToOwner::Listen {
            position: None,
            presence: 0,
            subscribers: 1,
            members: Vec::new(),
            astray: 0,
            uncertain: true,
        };
        let heard = Body::Channel { key: keys[0].clone(), say: Say::Owner(listen) };
        let with = vec![Opening { number: 1, ..Opening::default() }];
        let all = |say| Body::All { from: Part { index: 0, count: 1 }, say };
        for body in [all(SayAll::Begin { with }), heard, all(SayAll::Listened)] {
            shard.receive(NOW, OTHER, PeerMessage { view: 1, side: false, body }, &mut effects);
        }
        assert_eq!(shard.touched, [shard.slots.find(&keys[0]).expect("it is there")]);
        shard.end_turn(NOW, &mut effects);
        shard.session(NOW, OTHER, None, &mut effects);
        shard.note_changed(NOW, &mut effects);
        assert_eq!(shard.touched, [shard.slots.find(&keys[0]).expect("it is there")]);
    }
}
