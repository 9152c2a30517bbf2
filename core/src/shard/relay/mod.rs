//! A channel at a node that hears it or publishes to it: between the workers of this node and the channel's owner.
//!
//! The owner may be this node itself. What is asked of it stays here until it is answered, and is asked again whenever a
//! session with the owner begins.

mod ask;
mod hear;
mod publish;

use std::{collections::BTreeMap, sync::Arc};

use smallvec::SmallVec;

use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    code::ErrorCode,
    fanout::Subscriber,
    serial::Serial,
    session::event::Member,
    shard::{
        cx::Cx,
        peer::{Say, SessionOp, Submission, ToOwner},
        relay::{ask::Asked, publish::Publishes},
        request::{Ask, Effect, Listener, Reply, Subscribe, Token},
        state::LINEAGE_MAX,
    },
};

/// Epochs without a message of which subscribers are not told: of so many the owner knows where they part from its own, should
/// a subscriber come back from one.
const UNTOLD_MAX: u8 = LINEAGE_MAX as u8 / 2;

/// For what is answered to nobody.
const NO_TOKEN: Token = Token { subscriber: Subscriber { slot: u32::MAX, generation: 0 }, number: 0 };

/// What this node has to do with a channel.
#[derive(Debug, Default)]
pub struct Relay {
    /// Most often one.
    workers: SmallVec<[Hearing; 1]>,
    members: BTreeMap<Arc<str>, (Member, u32)>,
    /// What the workers' subscribers have; none before the first is answered.
    position: Option<Serial>,
    /// The owner has gone on from there before its copies had the state: this node goes on with the next message, or when the
    /// view is known to be settled.
    ahead: Option<Ahead>,
    /// Epochs that this node has passed since the subscribers were told of one. They are told with the next message.
    untold: u8,
    /// The changes of presence that they have heard.
    presence: u64,
    publishes: Publishes,
    asks: Vec<Asked>,
    /// When the last subscriber left: answers to what was asked before begin nothing.
    emptied: u64,
    /// The owner has not been told what has arrived.
    unseen: bool,
    /// The workers were told that the channel's state is not certain.
    told_uncertain: bool,
    /// Not 0: it has come from a shard with another owner, and this one has not yet told where the subscribers stand. What it
    /// believes of that is no longer true, and what it tells builds on it.
    astray: u64,
}

/// An epoch in which the owner goes on with the same number.
#[derive(Clone, Copy, Debug)]
struct Ahead {
    position: Serial,
    /// How many epochs later that is.
    forks: u8,
    /// In which it was told.
    view: u64,
}

/// A worker that hears the channel, and for how many sessions.
#[derive(Clone, Copy, Debug)]
struct Hearing {
    listener: Listener,
    subscribers: u64,
}

impl Relay {
    /// Nothing is left to do for this node in the channel.
    pub fn is_empty(&self) -> bool {
        self.workers.is_empty() && !self.waits()
    }

    /// Whether something was asked and not answered.
    pub fn waits(&self) -> bool {
        !self.publishes.is_empty() || !self.asks.is_empty()
    }

    /// What a worker asks for one of its sessions.
    pub fn ask(&mut self, key: &ChannelKey, from: Listener, ask: Ask, presence: bool, cx: &mut Cx<'_>) {
        match ask {
            Ask::Publish(publish) => self.publish(key, from, publish, cx),
            Ask::Subscribe(subscribe) => self.subscribe(key, from, subscribe, presence, cx),
            Ask::Enter { member, attachment } => self.enter(key, member, attachment, presence, cx),
            Ask::Unsubscribe { session_id, attachment, moved } => {
                self.unsubscribe(key, from, session_id, attachment, moved, cx)
            }
            Ask::ReadPresence { token } => self.read_presence(key, from, token, cx),
            Ask::Keep { record } => {
                self.submit(key, from, NO_TOKEN, false, Submission::Session(SessionOp::Keep(record)), cx);
            }
            Ask::Take { token } => self.submit(key, from, token, true, Submission::Session(SessionOp::Take), cx),
        }
    }

    /// The owner may know nothing, or what is no longer true: it hears everything, also that nobody listens, and what was asked
    /// in the order in which it was asked.
    pub fn say_anew(&mut self, key: &ChannelKey, owner: NodeId, cx: &mut Cx<'_>) {
        // In the same view an answer that builds on the parent may be under way.
        if self.ahead.is_some_and(|ahead| ahead.view < cx.view_number() && cx.settled.contains(ahead.view)) {
            self.go_ahead(key, cx);
        }
        self.say_heard(key, owner, cx);
        self.ask_again(key, owner, cx);
    }

    fn say_heard(&self, key: &ChannelKey, owner: NodeId, cx: &mut Cx<'_>) {
        let say = ToOwner::Listen {
            position: self.position,
            presence: self.presence,
            subscribers: self.subscribers(),
            members: self.members.values().cloned().collect(),
            astray: self.astray,
            uncertain: self.told_uncertain,
        };
        cx.say(owner, key, Say::Owner(say));
    }

    fn ask_again(&mut self, key: &ChannelKey, owner: NodeId, cx: &mut Cx<'_>) {
        let mut says: Vec<_> = self.publishes.again(cx.sent_in());
        says.extend(self.asks.iter().map(|asked| (asked.number, asked.again(self.subscribers()))));
        says.sort_by_key(|(number, _)| *number);
        says.into_iter().for_each(|(_, say)| cx.say(owner, key, Say::Owner(say)));
    }

    /// Tells the owner what has arrived, so that it need not keep it for this node.
    pub fn end_turn(&mut self, key: &ChannelKey, cx: &mut Cx<'_>) {
        if !std::mem::take(&mut self.unseen) {
            return;
        }
        let Some(position) = self.position else { return };
        if let Some(owner) = cx.owner_to_tell(key).filter(|owner| *owner != cx.me()) {
            cx.say(owner, key, Say::Owner(ToOwner::Seen(position)));
        }
    }

    /// The hub is gone: whoever waits is told so.
    pub fn abandon(&mut self, key: &ChannelKey, code: ErrorCode, cx: &mut Cx<'_>) {
        self.publishes.give_up(u64::MAX).into_iter().for_each(|publish| publish.refuse(key, code, cx));
        std::mem::take(&mut self.asks).into_iter().for_each(|asked| asked.refuse(key, code, cx));
    }

    /// It has come to a shard with another owner.
    pub fn stray(&mut self, cx: &mut Cx<'_>) {
        self.ahead = None;
        self.astray = self.position.map_or(0, |_| cx.next_request());
    }

    /// Presence is no longer told in this channel.
    pub fn forget_members(&mut self) {
        self.members.clear();
    }

    fn subscribers(&self) -> u64 {
        self.workers.iter().map(|hearing| hearing.subscribers).sum()
    }

    fn tell(&self, cx: &mut Cx<'_>, effect: impl Fn(Listener) -> Effect) {
        cx.effects.extend(self.workers.iter().map(|hearing| effect(hearing.listener)));
    }
}

/// Refuses what was not asked of any owner.
pub fn refuse(key: &ChannelKey, to: Listener, ask: &Ask, code: ErrorCode, effects: &mut Vec<Effect>) {
    let (token, reply): (Token, Reply) = match ask {
        Ask::Publish(publish) => (publish.token, Reply::Published(Err(code))),
        Ask::Subscribe(Subscribe { token, .. }) => (*token, Reply::Subscribed(Err(code))),
        Ask::ReadPresence { token } => (*token, Reply::Presence(Err(code))),
        Ask::Take { token } => (*token, Reply::Taken(Err(code))),
        Ask::Enter { .. } | Ask::Unsubscribe { .. } | Ask::Keep { .. } => return,
    };
    effects.push(Effect::Answer { to, key: key.clone(), token, reply });
}
