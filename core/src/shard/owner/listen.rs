//! Who hears a channel, as its owner sees it: nodes, which begin, go on after a change, and leave.

use std::sync::Arc;

use super::{Channel, Listening};
use crate::{
    cluster::view::NodeId,
    code::ErrorCode,
    message::Message,
    serial::Serial,
    session::{event::Member, request::Recover},
    shard::{
        cx::Cx,
        delivery::Delivery,
        peer::{Resume, Say, ToRelay},
        request::Start,
    },
};

/// A subscriber of a node that is answered when the turn ends.
#[derive(Debug)]
pub struct Waiting {
    pub from: NodeId,
    number: u64,
    recover: Option<Recover>,
    /// The question that the copies have to answer first.
    mark: u64,
}

/// A node that goes on hearing the channel, and is answered when the turn ends.
#[derive(Debug)]
pub struct Resuming {
    pub node: NodeId,
    position: Serial,
    presence: u64,
    astray: u64,
    uncertain: bool,
}

/// What a node says that it has heard of the channel, as in [`crate::shard::peer::ToOwner::Listen`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Heard {
    pub position: Option<Serial>,
    pub presence: u64,
    pub astray: u64,
    pub uncertain: bool,
}

impl Channel {
    pub(super) fn listen(&mut self, from: NodeId, heard: Heard, subscribers: u64, members: Vec<(Member, u32)>) {
        let Heard { position, presence, astray, uncertain } = heard;
        self.set_subscribers(from, subscribers);
        self.note_astray(from, astray);
        if self.rules.presence {
            self.state.members.get_or_insert_default().replace(from, members);
        }
        self.resuming.retain(|resuming| resuming.node != from);
        let listening = self.listeners.iter_mut().find(|listening| listening.node == from);
        // Whoever was told meanwhile where it stands hears all that follows, and goes on from there.
        let hears = listening.as_ref().is_some_and(|listening| listening.hears);
        if let Some(listening) = listening {
            listening.lost = false;
            if let Some(position) = position.filter(|_| !hears) {
                listening.seen = position.sequence;
            }
        }
        if let Some(position) = position.filter(|_| !hears) {
            self.resuming.push(Resuming { node: from, position, presence, astray, uncertain });
        }
    }

    pub(super) fn subscribe(
        &mut self,
        from: NodeId,
        number: u64,
        recover: Option<Recover>,
        enters: Option<(Member, u32)>,
        subscribers: u64,
        cx: &mut Cx<'_>,
    ) {
        self.set_subscribers(from, subscribers);
        if let Some((member, attachment)) = enters {
            self.enter(from, member, attachment);
        }
        // Who has what is not known here may come from an owner that has taken over without this node's knowing.
        let doubtful = matches!(recover, Some(Recover::Serial(serial)) if self.state.shared(serial).is_none());
        let mark = if doubtful { self.ask_copies(cx) } else { 0 };
        self.waiting.push(Waiting { from, number, recover, mark });
    }

    /// Whether a subscriber waits for an answer of the copies.
    pub(super) fn waits_for_copies(&self) -> bool {
        self.waiting.iter().any(|waiting| waiting.mark > 0)
    }

    pub(super) fn enter(&mut self, from: NodeId, member: Member, attachment: u32) {
        if self.rules.presence {
            self.state.members.get_or_insert_default().enter(member, attachment, from);
        }
    }

    /// `leaves_ms`: of a session that goes on at another node, when it leaves if nobody says where.
    pub(super) fn leave(
        &mut self,
        from: NodeId,
        session_id: &str,
        attachment: u32,
        leaves_ms: Option<u64>,
        subscribers: u64,
    ) {
        if let Some(members) = &mut self.state.members {
            match leaves_ms {
                Some(leaves_ms) => members.move_on(session_id, attachment, leaves_ms),
                None => members.leave(session_id, attachment),
            }
        }
        self.set_subscribers(from, subscribers);
    }

    pub(super) fn read_presence(&self, from: NodeId, number: u64, cx: &mut Cx<'_>) {
        let members = self.state.members.as_ref().map_or_else(|| Arc::from([]), |members| members.list());
        cx.say(from, &self.key, Say::Relay(ToRelay::Presence { number, outcome: Ok(members) }));
    }

    pub(super) fn seen(&mut self, from: NodeId, serial: Serial) {
        let Some(listening) = self.listeners.iter_mut().find(|listening| listening.node == from) else { return };
        if listening.hears {
            listening.seen = listening.seen.max(serial.sequence);
        }
    }

    /// Answers those that go on, from where they stand. All that this turn brought is delivered to the others by now. Before every
    /// copy has the state only those to whom nothing is new: what others hear may be lost with this node.
    pub(super) fn answer_resuming(&mut self, cx: &mut Cx<'_>) {
        let copied = self.is_copied();
        for resuming in std::mem::take(&mut self.resuming) {
            let Resuming { node, position, presence, astray, uncertain } = resuming;
            let missed = self.state.after(position);
            if !copied && missed.as_ref().is_none_or(|missed| !missed.is_empty()) {
                self.resuming.push(resuming);
                continue;
            }
            let same_presence = position.epoch == self.state.epoch && presence == self.state.presence_version;
            let known = if missed.is_none() { self.state.shared(position) } else { None };
            let whole = if missed.is_none() && known.is_none() { self.whole_aside(cx) } else { None };
            let (current, occupancy) = (self.state.current(), self.first_occupancy());
            self.set_hears(node, true);
            // Most nodes of most changes of owner: what they are not told costs nothing.
            if position == current && same_presence && astray == 0 && !uncertain && occupancy.is_none() {
                continue;
            }
            let resume = Resume {
                from: position,
                copied,
                astray,
                missed,
                forks: self.state.forks_since(position.epoch),
                current: Serial { sequence: if whole.is_some() { 0 } else { current.sequence }, ..current },
                known,
                members: self.members().filter(|_| !same_presence),
                presence: self.state.presence_version,
                occupancy,
            };
            cx.say(node, &self.key, Say::Relay(ToRelay::Resume(Box::new(resume))));
            if let Some(messages) = whole.filter(|messages| !messages.is_empty()) {
                let (key, epoch) = (self.key.clone(), current.epoch);
                let delivery = Delivery { key, epoch, first: 1, messages };
                cx.say(node, &self.key, Say::Relay(ToRelay::Deliver(Arc::new(delivery))));
            }
        }
    }

    /// All that was ever published to a channel in a side view: what waited for it is numbered before anybody listens, and is
    /// meant for all that come with the side view.
    fn whole_aside(&self, cx: &Cx<'_>) -> Option<Vec<Arc<Message>>> {
        cx.aside_of?;
        self.state.after(Serial { sequence: 0, ..self.state.current() })
    }

    /// The messages of the turn are delivered by now, so a new subscriber begins after them.
    pub(super) fn answer_subscribers(&mut self, cx: &mut Cx<'_>) {
        let (waiting, later): (Vec<_>, _) = std::mem::take(&mut self.waiting).into_iter().partition(|waiting| {
            let lost = self.listeners.iter().any(|listening| listening.node == waiting.from && listening.lost);
            !lost && self.copies_answered(waiting.mark)
        });
        self.waiting = later;
        if waiting.is_empty() {
            return;
        }
        self.state.retained.take_if(|retained| retained.until_ms <= cx.now.mono_ms);
        let (members, occupancy) = (self.members(), self.first_occupancy());
        for Waiting { from, number, recover, .. } in waiting {
            let start = Box::new(self.start(recover, members.clone(), occupancy));
            self.set_hears(from, true);
            let presence = self.state.presence_version;
            cx.say(from, &self.key, Say::Relay(ToRelay::Subscribed { number, outcome: Ok(start), presence }));
        }
    }

    /// The channel goes, with everybody who waits for it.
    pub fn abandon(&mut self, code: ErrorCode, cx: &mut Cx<'_>) {
        self.abandon_pipeline(code, cx);
        for Waiting { from, number, .. } in std::mem::take(&mut self.waiting) {
            cx.say(from, &self.key, Say::Relay(ToRelay::Subscribed { number, outcome: Err(code), presence: 0 }));
        }
    }

    fn start(&self, recover: Option<Recover>, members: Option<Arc<[Member]>>, occupancy: Option<u64>) -> Start {
        let current = self.state.current();
        let missed = recover.and_then(|recover| self.missed(recover));
        let recovered = recover.map(|_| missed.is_some());
        let missed = missed.unwrap_or_default();
        let known = match recover {
            Some(Recover::Serial(serial)) if recovered == Some(false) => self.state.shared(serial),
            _ => None,
        };
        let position = match recover {
            Some(Recover::Serial(serial)) if recovered == Some(true) => serial,
            _ => missed.first().map_or(current, |first| Serial { sequence: first.serial.sequence - 1, ..first.serial }),
        };
        let retained = self.state.retained.as_ref().map(|retained| retained.message.clone());
        Start {
            position,
            recovered,
            known,
            missed,
            current,
            // One that lacks nothing has the retained message, or gets it among what it missed.
            retained: retained.filter(|_| recovered != Some(true)),
            members,
            occupancy,
        }
    }

    fn missed(&self, recover: Recover) -> Option<Vec<Arc<Message>>> {
        match recover {
            Recover::Serial(serial) => self.state.after(serial),
            Recover::Timestamp(unix_ms) => self.state.history.since(unix_ms),
            Recover::BadSerial | Recover::Unknown => None,
        }
    }

    fn members(&self) -> Option<Arc<[Member]>> {
        self.state.members.as_ref().map(|members| members.list())
    }

    fn set_subscribers(&mut self, node: NodeId, subscribers: u64) {
        match self.listeners.iter_mut().position(|listening| listening.node == node) {
            Some(at) if subscribers == 0 => drop(self.listeners.swap_remove(at)),
            Some(at) => (self.listeners[at].subscribers, self.listeners[at].says) = (subscribers, true),
            None if subscribers == 0 => {}
            None => {
                let seen = self.state.sequence;
                let (says, hears, lost, astray) = (true, false, false, 0);
                self.listeners.push(Listening { node, subscribers, says, hears, lost, seen, astray });
            }
        }
    }

    /// The node was told by another where it stands, so it does not go on from what it heard here. It may say so again before
    /// it has the answer, and hears what follows that from then on.
    fn note_astray(&mut self, node: NodeId, astray: u64) {
        let listening = self.listeners.iter_mut().find(|listening| listening.node == node);
        if let Some(listening) = listening.filter(|listening| listening.astray < astray) {
            (listening.hears, listening.astray) = (false, astray);
        }
    }

    /// From the answer on a node hears all that follows, and what it was told counts as under way.
    fn set_hears(&mut self, node: NodeId, hears: bool) {
        if let Some(listening) = self.listeners.iter_mut().find(|listening| listening.node == node) {
            listening.hears = hears;
        }
    }
}
