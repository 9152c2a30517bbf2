//! How often each rare path of the protocol was taken, judged from the messages and effects that the world sees. What a
//! node says to itself is no message, so paths between a node and itself are counted less than they are taken.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    cluster::{
        view::{NodeId, View},
        views::message::Effect as ViewEffect,
    },
    code::ErrorCode,
    serial::Epoch,
    shard::{
        peer::{Body, Confirm, Move, PeerMessage, Say, SayAll, ToCopy, ToOwner, ToRelay},
        request::{Effect, Notice, Reply},
    },
};

use crate::world::World;

/// Everything that is counted here, in the order in which it is shown.
pub const PATHS: [&str; 33] = [
    "taken up from a seal",
    "seals ignored",
    "kept by the owner into the next view",
    "groups whose owner can't say what it had",
    "shards that said they were not certain",
    "children of an own copy",
    "children of another's copy",
    "same epoch from an own seal",
    "same epoch from another's seal",
    "fresh channels in a lost group",
    "states fetched",
    "uncovered channels",
    "workers told uncertain",
    "views jumped over",
    "messages of another view dropped",
    "copies that lacked something",
    "states sent again after that",
    "doubtful answers that asked the copies",
    "publishes sent again to an owner",
    "repeats answered again",
    "repeats answered by one that did not number them",
    "keys answered with their first number",
    "nodes told to say everything again",
    "publishes to try again",
    "publishes refused for want of nodes",
    "gaps told to nodes",
    "idle closes",
    "idle copies that asked",
    "side views stood at",
    "gaps told to nodes in a side view",
    "publishes answered in a side view",
    "publishes doubted in a side view",
    "publishes doubted after a side view",
];

/// What was seen, where it counts once, or where what follows depends on it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fact {
    /// The node serves the channel in that view.
    Owned(NodeId, u64, ChannelKey),
    Sealed(NodeId, u64, ChannelKey),
    Fetched(NodeId, u64, ChannelKey),
    /// The node asks everybody for what the other had.
    Lost(NodeId, u64, NodeId),
    Uncertain(NodeId, u64),
    Uncovered(u64, ChannelKey),
    Asked(NodeId, u64, ChannelKey, u64),
    Lacking(NodeId, NodeId, ChannelKey),
    Idle(NodeId, NodeId, ChannelKey),
    Closed(NodeId, ChannelKey, Epoch),
    Answered(NodeId, u64, ChannelKey),
    Numbered(ChannelKey, Epoch, u64),
}

#[derive(Debug, Default)]
pub struct Counting {
    facts: BTreeSet<Fact>,
    /// By process: the number of its view, the view before, and whether it had that.
    views: BTreeMap<NodeId, (u64, Option<Arc<View>>, bool)>,
    /// By publish: the owner that first sent it to a copy.
    numbered: BTreeMap<(NodeId, u64, ChannelKey), NodeId>,
}

/// A message that has arrived, to be looked at again when the receiver has taken it.
pub struct Arrival(Option<Fact>);

impl World {
    fn once(&mut self, fact: Fact, what: &'static str) {
        if self.counting.facts.insert(fact) {
            self.count(what);
        }
    }

    /// What a process wants done for its views.
    pub fn watch_views(&mut self, node: u64, effect: &ViewEffect) {
        let ViewEffect::Install { view, open } = effect else { return };
        let Some(me) = self.processes.get(&node).map(|process| process.id) else { return };
        let had = self.counting.views.get(&me).map(|(number, ..)| *number);
        let direct = had.is_some() && open.last().map(|before| before.number) == had;
        if had.is_some() && !direct {
            self.count("views jumped over");
        }
        self.counting.views.insert(me, (view.number, open.last().cloned(), direct));
    }

    /// What a shard wants done.
    pub fn watch(&mut self, node: u64, effect: &Effect) {
        let Some(me) = self.processes.get(&node).map(|process| process.id) else { return };
        match effect {
            Effect::Send { to, message } if message.side => self.watch_side(&message.body),
            Effect::Send { to, message } => match &message.body {
                Body::Channel { key, say } => self.watch_say(me, *to, message.view, key, say),
                Body::All { say, .. } => self.watch_say_all(me, message.view, say),
            },
            Effect::Answer { key, reply, .. } => self.watch_answer(me, key, reply),
            Effect::Notify { key, notice: Notice::Uncertain, .. } => {
                self.count("workers told uncertain");
                let view = self.view_of(me);
                self.once(Fact::Uncovered(view, key.clone()), "uncovered channels");
            }
            _ => {}
        }
    }

    /// Before a process takes a message.
    pub fn watch_arrival(&mut self, node: u64, from: NodeId, message: &PeerMessage) -> Arrival {
        let Some(process) = self.processes.get(&node) else { return Arrival(None) };
        let (me, view) = (process.id, process.view_number());
        if message.side {
            return Arrival(None);
        }
        if message.view != view {
            self.count("messages of another view dropped");
            return Arrival(None);
        }
        let Body::Channel { key, say } = &message.body else { return Arrival(None) };
        let fact = match say {
            Say::Confirm(Confirm::Lacks) => {
                self.count("copies that lacked something");
                self.counting.facts.insert(Fact::Lacking(me, from, key.clone()));
                return Arrival(None);
            }
            Say::Confirm(Confirm::Idle(_)) => {
                self.count("idle copies that asked");
                || Fact::Idle(me, from, key.clone())
            }
            Say::Move(Move::Fetched { .. }) if !self.serves(node, key) => {
                self.counting.facts.insert(Fact::Fetched(me, view, key.clone()));
                return Arrival(None);
            }
            Say::Move(Move::Seal(_)) => return self.seal_arrives(me, view, key),
            _ => return Arrival(None),
        };
        self.counting.facts.insert(fact());
        Arrival(Some(fact()))
    }

    fn seal_arrives(&mut self, me: NodeId, view: u64, key: &ChannelKey) -> Arrival {
        if self.serves(me.node, key) {
            self.count("seals ignored");
            return Arrival(None);
        }
        self.counting.facts.insert(Fact::Sealed(me, view, key.clone()));
        Arrival(Some(Fact::Sealed(me, view, key.clone())))
    }

    /// After the process has taken it.
    pub fn watch_taken(&mut self, Arrival(fact): Arrival) {
        match fact {
            Some(Fact::Sealed(me, _, ref key)) if self.serves(me.node, key) => {}
            Some(fact @ Fact::Sealed(..)) => {
                self.counting.facts.remove(&fact);
                self.count("seals ignored");
            }
            Some(fact) => drop(self.counting.facts.remove(&fact)),
            None => {}
        }
    }

    fn watch_say_all(&mut self, me: NodeId, view: u64, say: &SayAll) {
        match say {
            SayAll::Ask { before } => {
                self.once(Fact::Lost(me, view, *before), "groups whose owner can't say what it had");
            }
            SayAll::End { known_since: None } => {
                self.once(Fact::Uncertain(me, view), "shards that said they were not certain");
            }
            _ => {}
        }
    }

    fn watch_say(&mut self, me: NodeId, to: NodeId, view: u64, key: &ChannelKey, say: &Say) {
        match say {
            Say::Copy(say) => self.watch_copy(me, to, view, key, say),
            Say::Relay(say) => self.watch_relay(me, to, view, key, say),
            Say::Owner(ToOwner::Publish { repeated_since: Some(sent), .. }) => {
                self.count("publishes sent again to an owner");
                if sent.side {
                    self.count("publishes doubted after a side view");
                }
            }
            Say::Move(Move::Fetch) => self.count("states fetched"),
            _ => {}
        }
    }

    /// What a side shard says.
    fn watch_side(&mut self, body: &Body) {
        let Body::Channel { say: Say::Relay(say), .. } = body else { return };
        match say {
            ToRelay::Resume(resume) if resume.missed.is_none() => self.count("gaps told to nodes in a side view"),
            ToRelay::Published { outcome: Ok(_), .. } => self.count("publishes answered in a side view"),
            ToRelay::Published { outcome: Err(ErrorCode::TryAgain), .. } => {
                self.count("publishes doubted in a side view");
            }
            _ => {}
        }
    }

    fn watch_copy(&mut self, me: NodeId, to: NodeId, view: u64, key: &ChannelKey, say: &ToCopy) {
        match say {
            ToCopy::State(state) => {
                if self.counting.facts.remove(&Fact::Lacking(me, to, key.clone())) {
                    self.count("states sent again after that");
                }
                self.owns(me, view, key, state.epoch, !state.lineage.is_empty());
            }
            ToCopy::Entries { entries, mark, .. } => {
                if entries.is_empty() {
                    self.once(Fact::Asked(me, view, key.clone(), *mark), "doubtful answers that asked the copies");
                }
                for entry in entries {
                    let publish = (entry.sender, entry.counter, key.clone());
                    self.counting.numbered.entry(publish).or_insert(me);
                }
            }
            // An idle copy that is none any more is told so too.
            ToCopy::Drop { epoch } if !self.counting.facts.contains(&Fact::Idle(me, to, key.clone())) => {
                self.once(Fact::Closed(me, key.clone(), *epoch), "idle closes");
            }
            _ => {}
        }
    }

    fn watch_relay(&mut self, me: NodeId, to: NodeId, view: u64, key: &ChannelKey, say: &ToRelay) {
        match say {
            ToRelay::Resume(resume) => {
                if resume.missed.is_none() {
                    self.count("gaps told to nodes");
                }
                self.sees_owned(me, view, key, resume.current.epoch);
            }
            ToRelay::Published { counter, outcome: Ok(serial) } => {
                let numbered_by = self.counting.numbered.get(&(to, *counter, key.clone()));
                if numbered_by.is_some_and(|owner| *owner != me) {
                    self.count("repeats answered by one that did not number them");
                }
                if !self.counting.facts.insert(Fact::Answered(to, *counter, key.clone())) {
                    self.count("repeats answered again");
                }
                self.sees_numbered(me, view, key, serial.epoch);
            }
            ToRelay::Published { outcome: Err(ErrorCode::TryAgain), .. } => self.count("publishes to try again"),
            ToRelay::Subscribed { outcome: Ok(start), .. } => self.sees_owned(me, view, key, start.current.epoch),
            ToRelay::Again => self.count("nodes told to say everything again"),
            ToRelay::Uncertain => self.once(Fact::Uncovered(view, key.clone()), "uncovered channels"),
            _ => {}
        }
    }

    fn watch_answer(&mut self, me: NodeId, key: &ChannelKey, reply: &Reply) {
        let view = self.view_of(me);
        match reply {
            Reply::Published(Ok(serial)) => {
                if !self.counting.facts.insert(Fact::Numbered(key.clone(), serial.epoch, serial.sequence)) {
                    self.count("keys answered with their first number");
                }
                self.sees_numbered(me, view, key, serial.epoch);
            }
            Reply::Subscribed(Ok(start)) if self.serves(me.node, key) => {
                self.sees_owned(me, view, key, start.current.epoch);
            }
            _ => {}
        }
    }

    /// A number of an epoch that this node has begun in this view: it owns the channel.
    fn sees_numbered(&mut self, me: NodeId, view: u64, key: &ChannelKey, epoch: Epoch) {
        if began(me, view, epoch) {
            self.sees_owned(me, view, key, epoch);
        }
    }

    fn sees_owned(&mut self, me: NodeId, view: u64, key: &ChannelKey, epoch: Epoch) {
        if self.counting.facts.contains(&Fact::Owned(me, view, key.clone())) {
            return;
        }
        // Numbers go on in a child, so it has more than were given in it.
        let child = self.inspect(me.node, key).is_some_and(|channel| {
            let own = channel.messages.iter().filter(|message| message.serial.epoch == epoch).count();
            channel.current.sequence > own as u64
        });
        self.owns(me, view, key, epoch, child);
    }

    /// The first sign that a node serves a channel in a view: from what has it taken it up?
    fn owns(&mut self, me: NodeId, view: u64, key: &ChannelKey, epoch: Epoch, builds: bool) {
        if !self.counting.facts.insert(Fact::Owned(me, view, key.clone())) {
            return;
        }
        let has = |fact| self.counting.facts.contains(&fact);
        let sealed = has(Fact::Sealed(me, view, key.clone()));
        let fetched = has(Fact::Fetched(me, view, key.clone()));
        let (lost, new) = (self.is_lost(me, view, key), began(me, view, epoch));
        let what = match (lost, new) {
            _ if sealed => "taken up from a seal",
            (false, false) => "kept by the owner into the next view",
            (false, true) => return,
            (true, true) if fetched => "children of another's copy",
            (true, true) if builds => "children of an own copy",
            (true, true) => "fresh channels in a lost group",
            (true, false) if fetched => "same epoch from another's seal",
            (true, false) => "same epoch from an own seal",
        };
        self.count(what);
    }

    /// Whether the channel's owner of the view before could not say what it had.
    fn is_lost(&self, me: NodeId, view: u64, key: &ChannelKey) -> bool {
        let Some((_, Some(before), direct)) = self.counting.views.get(&me) else { return false };
        let Some(owner) = before.owner(key.point()) else { return false };
        let now = self.processes.get(&me.node).and_then(|process| process.views.view());
        let outside = now.is_some_and(|now| !now.contains(owner));
        outside || owner == me && !direct || self.counting.facts.contains(&Fact::Lost(me, view, owner))
    }

    fn view_of(&self, me: NodeId) -> u64 {
        self.counting.views.get(&me).map_or(0, |(number, ..)| *number)
    }

    fn inspect(&self, node: u64, key: &ChannelKey) -> Option<appsockets_core::shard::Inspection> {
        let shards = &self.processes.get(&node)?.shards;
        shards[(key.point() % shards.len() as u64) as usize].inspect(key)
    }

    pub fn serves(&self, node: u64, key: &ChannelKey) -> bool {
        self.inspect(node, key).is_some()
    }
}

/// Whether the epoch is of a side view.
pub fn is_side(epoch: Epoch) -> bool {
    epoch.counter >= 1 << 40
}

/// Whether that node began the epoch in that view.
fn began(me: NodeId, view: u64, epoch: Epoch) -> bool {
    (epoch.view, epoch.node, epoch.generation) == (view, me.node, me.generation) && !is_side(epoch)
}
