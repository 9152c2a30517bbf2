//! A channel at its owner: it numbers, keeps, delivers, and knows who is there.

mod close;
mod copies;
mod listen;
mod notice;
mod pipeline;
mod publish;
mod session;

use std::{collections::VecDeque, sync::Arc};

use smallvec::SmallVec;

use crate::{
    channel::ChannelKey,
    cluster::view::NodeId,
    message::Message,
    serial::{Epoch, Serial},
    settings::hub::Rules,
    shard::{
        Inspection,
        cx::Cx,
        keys::Repeat,
        owner::{
            copies::CopyAt,
            listen::{Heard, Resuming, Waiting},
            notice::Told,
            pipeline::Pipeline,
        },
        peer::{Confirm, Entry, Say, SentIn, ToOwner, ToRelay},
        state::{Keeping, State},
        streams::Voice,
    },
};

/// A channel that this node owns by its view, and of whose state it is certain.
#[derive(Debug)]
pub struct Channel {
    key: ChannelKey,
    rules: Rules,
    state: State,
    pipeline: Option<Box<Pipeline>>,
    /// Numbered, and not on every copy yet.
    unconfirmed: VecDeque<Entry>,
    /// Those of the next nodes of the ring: most often one, which needs no room of its own then.
    copies: SmallVec<[CopyAt; 1]>,
    /// Of the last question to the copies.
    mark: u64,
    /// Successes of publishes that are told once every copy has the state.
    untold: Vec<(Repeat, Serial)>,
    listeners: SmallVec<[Listening; 1]>,
    /// What became certain since listeners were told.
    accepted: Vec<Arc<Message>>,
    waiting: Vec<Waiting>,
    resuming: Vec<Resuming>,
    /// When the state came from another owner, or from a copy.
    taken_up_ms: Option<u64>,
    /// When the node of a kept session was last asked for it.
    checked_ms: u64,
    used_ms: u64,
    told: Told,
}

/// A node that hears the channel, and for how many sessions.
#[derive(Clone, Copy, Debug)]
struct Listening {
    node: NodeId,
    subscribers: u64,
    /// Whether it has said in this session that it listens.
    says: bool,
    /// Whether it has been told where it stands in this session, and hears all that follows.
    hears: bool,
    /// Something that it was told was lost: nothing more is told before it has said what it has.
    lost: bool,
    /// What has arrived there.
    seen: u64,
    /// As it last said in [`ToOwner::Listen`].
    astray: u64,
}

impl Channel {
    /// Begins with a state that is certain. Whoever listens tells so. The node that has given it, if one has, still has it.
    pub fn new(key: ChannelKey, rules: Rules, mut state: State, giver: Option<NodeId>, cx: &mut Cx<'_>) -> Channel {
        let giver = giver.filter(|_| state.redundancy == rules.redundancy);
        state.redundancy = rules.redundancy;
        let copies = giver.map(|giver| CopyAt::with(giver, state.sequence)).into_iter().collect();
        let mut channel = Channel {
            key,
            rules,
            state,
            pipeline: None,
            unconfirmed: VecDeque::new(),
            copies,
            mark: 0,
            untold: Vec::new(),
            listeners: SmallVec::new(),
            accepted: Vec::new(),
            waiting: Vec::new(),
            resuming: Vec::new(),
            taken_up_ms: Some(cx.now.mono_ms),
            checked_ms: cx.now.mono_ms,
            used_ms: cx.now.mono_ms,
            told: Told::from_the_past(cx.now),
        };
        channel.place_copies(cx);
        channel
    }

    /// A channel of which nothing is known.
    pub fn fresh(key: ChannelKey, rules: Rules, epoch: Epoch, known_since: u64, cx: &mut Cx<'_>) -> Channel {
        let state = State::new(cx.now, epoch, rules.redundancy, known_since);
        let mut channel = Channel::new(key, rules, state, None, cx);
        (channel.told, channel.taken_up_ms) = (Told::default(), None);
        channel
    }

    /// What the new rules no longer allow is dropped. Who is present when presence begins, the nodes tell.
    pub fn set_rules(&mut self, rules: Rules, cx: &mut Cx<'_>) {
        if !rules.retain {
            self.state.retained = None;
        }
        if let Some(members) = self.state.members.as_mut().filter(|_| !rules.presence) {
            members.leave_all();
        }
        if rules.occupancy && !self.rules.occupancy {
            self.told = Told::default();
        }
        let asked = |rules: Rules| (rules.redundancy, rules.redundancy_required);
        let copies_change = asked(rules) != asked(self.rules);
        if rules.presence && !self.rules.presence {
            self.ask_listeners(cx);
        }
        self.rules = rules;
        self.state.redundancy = rules.redundancy;
        if copies_change {
            self.place_copies(cx);
        }
        self.used_ms = self.used_ms.max(cx.now.mono_ms);
    }

    pub fn inspect(&self) -> Inspection {
        Inspection {
            current: self.state.current(),
            ancestors: self.state.lineage.iter().map(|fork| fork.epoch).collect(),
            messages: self.state.history.all().cloned().collect(),
            members: self.state.members.as_ref().map_or_else(|| [].into(), |members| members.list()),
            occupancy: self.occupancy(),
        }
    }

    /// What a node that hears the channel says.
    pub fn hear(&mut self, from: NodeId, say: ToOwner, cx: &mut Cx<'_>) {
        self.used_ms = cx.now.mono_ms;
        cx.came_of(from);
        match say {
            ToOwner::Listen { position, presence, subscribers, members, astray, uncertain } => {
                self.listen(from, Heard { position, presence, astray, uncertain }, subscribers, members);
            }
            ToOwner::Publish { counter, after, oldest, repeated_since, what } => {
                let place = crate::shard::senders::Place { sender: from, counter, after, oldest };
                // Of a node that is out of session others may know that it is gone, and have forgotten what it was answered.
                let uncertain = repeated_since.is_some_and(|sent| self.is_unknown(sent, cx) || !cx.hears(from));
                self.publish(place, uncertain, what, cx);
            }
            ToOwner::Subscribe { number, recover, enters, subscribers } => {
                self.subscribe(from, number, recover, enters, subscribers, cx);
            }
            ToOwner::Enter { member, attachment } => self.enter(from, member, attachment),
            ToOwner::Leave { session_id, attachment, moved, subscribers } => {
                let leaves_ms = moved.then_some(cx.now.mono_ms + cx.config.restore_ms);
                self.leave(from, &session_id, attachment, leaves_ms, subscribers);
            }
            ToOwner::ReadPresence { number } => self.read_presence(from, number, cx),
            ToOwner::Seen(serial) => self.seen(from, serial),
        }
    }

    /// Whether somebody may have accepted what was sent there, of whom nothing is known here. What is done in a side view is
    /// never known in another.
    fn is_unknown(&self, sent: SentIn, cx: &Cx<'_>) -> bool {
        sent.side != cx.aside_of.is_some() || sent.view < self.state.known_since
    }

    /// What a copy says.
    pub fn confirmed(&mut self, from: NodeId, say: Confirm, cx: &mut Cx<'_>) {
        match say {
            Confirm::Copied { serial, mark } => self.copied(from, serial, mark),
            Confirm::Lacks => self.lacks(from, cx),
            Confirm::Idle(epoch) => self.reassure(from, epoch, cx),
            Confirm::Again => self.copy_anew(from, cx),
        }
    }

    /// Sends what the turn brought, in the order in which a listener must hear it: messages, then who left and came and
    /// how many there are, then the answers to those who begin or go on, who so begin after all of it. Returns how many
    /// messages were accepted.
    pub fn end_turn(&mut self, cx: &mut Cx<'_>) -> u64 {
        self.advance_pipeline(cx);
        if let Some(session) = &mut self.state.session {
            session.expire(cx.now.mono_ms);
        }
        self.apply_confirmed(cx);
        if !self.is_copied() && self.accepted.is_empty() {
            self.tell_presence(cx);
            self.tell_occupancy(cx);
            self.answer_resuming(cx);
        }
        self.send_copies(self.is_waited_for(), cx);
        let accepted = self.accepted.len() as u64;
        if self.is_copied() {
            std::mem::take(&mut self.untold).into_iter().for_each(|(from, serial)| self.answer(from, Ok(serial), cx));
            self.deliver(cx);
            self.tell_presence(cx);
            self.tell_occupancy(cx);
            self.answer_resuming(cx);
            self.answer_subscribers(cx);
        }
        self.send_members(cx);
        accepted
    }

    /// Whether somebody waits for the copies to have the state.
    pub fn is_waited_for(&self) -> bool {
        let messages = !self.unconfirmed.is_empty() || !self.accepted.is_empty();
        messages || !self.untold.is_empty() || !self.waiting.is_empty() || self.is_resuming()
    }

    /// Whether a node waits to be told how it goes on.
    pub fn is_resuming(&self) -> bool {
        !self.resuming.is_empty()
    }

    /// The owner and its copies.
    pub fn holders(&self) -> u8 {
        self.rules.redundancy.saturating_add(1)
    }

    /// Whether the node hears the channel, or somebody is present by way of it.
    pub fn is_heard_at(&self, node: NodeId) -> bool {
        let present = || self.state.members.as_ref().is_some_and(|members| members.any_at(node));
        self.listeners.iter().any(|listening| listening.node == node) || present()
    }

    /// Whether anything changes here with a session with that node.
    pub fn concerns(&self, node: NodeId) -> bool {
        let asks = || {
            self.waiting.iter().any(|waiting| waiting.from == node)
                || self.resuming.iter().any(|resuming| resuming.node == node)
                || self.untold.iter().any(|(from, _)| from.sender == node)
        };
        let kept = || self.state.session.as_ref().is_some_and(|session| session.node == Some(node));
        self.is_copied_at(node) || self.is_heard_at(node) || asks() || kept()
    }

    /// A session with a node begins that does not go on from one before: it says anew what it wants.
    pub fn session(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        for listening in self.listeners.iter_mut().filter(|listening| listening.node == peer) {
            (listening.says, listening.hears, listening.lost) = (false, false, false);
        }
        self.forget_asked(peer);
        self.copy_anew(peer, cx);
    }

    /// What a node asks is to be said by it anew.
    fn forget_asked(&mut self, peer: NodeId) {
        self.untold.retain(|(from, _)| from.sender != peer);
        self.waiting.retain(|waiting| waiting.from != peer);
        self.resuming.retain(|resuming| resuming.node != peer);
    }

    /// Something that was said to the node as to one that hears the channel was lost: it is asked where it stands.
    pub fn tell_anew(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        for listening in self.listeners.iter_mut().filter(|listening| listening.node == peer) {
            (listening.hears, listening.lost) = (false, true);
        }
        self.forget_asked(peer);
        cx.say(peer, &self.key, Say::Relay(ToRelay::Again));
    }

    /// Everybody else who hears the channel is asked who is present there.
    fn ask_listeners(&mut self, cx: &mut Cx<'_>) {
        for listening in self.listeners.iter().filter(|listening| listening.node != cx.config.me()) {
            cx.say(listening.node, &self.key, Say::Relay(ToRelay::Again));
        }
    }

    /// Everybody else who hears the channel is asked anew when the next session begins.
    pub fn forget_listeners(&self, cx: &mut Cx<'_>) {
        for listening in self.listeners.iter().filter(|listening| listening.node != cx.config.me()) {
            cx.streams.note(listening.node, &self.key, Voice::Owner);
        }
    }

    /// Whether [`Channel::lost`] would change anything.
    pub fn minds(&self, lives: impl Fn(NodeId) -> bool) -> bool {
        let session = || self.state.session.as_ref().is_some_and(|session| session.minds(|node| !lives(node)));
        self.listeners.iter().any(|listening| !lives(listening.node))
            || self.state.members.as_ref().is_some_and(|members| members.mind(|node| !lives(node)))
            || session()
    }

    /// Nodes that neither live nor are in session hear nothing, and who was present there leaves after a while.
    pub fn lost(&mut self, lives: impl Fn(NodeId) -> bool, cx: &mut Cx<'_>) {
        self.listeners.retain(|listening| {
            let stays = lives(listening.node);
            if !stays {
                cx.streams.begin_anew(listening.node, &self.key);
            }
            stays
        });
        if let Some(members) = &mut self.state.members {
            members.doubt(|node| !lives(node), cx.now.mono_ms + cx.config.restore_ms);
        }
        if let Some(session) = &mut self.state.session {
            session.doubt(|node| !lives(node), cx.now.mono_ms + cx.config.restore_ms);
        }
    }

    /// The node has said all that it hears: if this channel was not named, it has left it.
    pub fn listened(&mut self, node: NodeId) {
        if self.is_unsaid_at(node) {
            self.listen(node, Heard::default(), 0, Vec::new());
        }
    }

    /// Whether the node hears the channel, or somebody is present by way of it, and it has not said so.
    pub fn is_unsaid_at(&self, node: NodeId) -> bool {
        let says = self.listeners.iter().any(|listening| listening.node == node && listening.says);
        !says && self.is_heard_at(node)
    }

    /// The same of any node.
    pub fn is_unsaid_anywhere(&self) -> bool {
        let says = |node| self.listeners.iter().any(|listening| listening.node == node && listening.says);
        self.listeners.iter().any(|listening| !listening.says)
            || self.state.members.as_ref().is_some_and(|members| !members.all_at(says))
    }

    /// A node that never comes back repeats nothing.
    pub fn gone(&mut self, node: NodeId) {
        self.state.senders.retain(|sender| sender != node);
    }

    fn keeping(&self, cx: &Cx<'_>) -> Keeping {
        let others = self.listeners.iter().filter(|listening| listening.node != cx.me());
        let seen = others.map(|listening| listening.seen).min().unwrap_or(u64::MAX);
        // After a change of owner the nodes need a moment to say what they have.
        let all_known = self.taken_up_ms.is_none_or(|at_ms| at_ms + cx.config.hold_ms <= cx.now.mono_ms);
        let (history, retain_ms) = (cx.config.history, cx.config.retain_ms);
        Keeping { history, retain_ms, seen: if all_known { seen } else { 0 } }
    }
}
