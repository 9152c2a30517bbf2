//! The copies of a channel, as its owner sees them. Nothing counts before every copy of this view has it.

use super::Channel;
use crate::{
    cluster::view::{NodeId, View},
    code::ErrorCode,
    serial::{Epoch, Serial},
    shard::{
        cx::Cx,
        keys::Repeat,
        peer::{Say, ToCopy},
        presence::MemberChanges,
        streams::Voice,
    },
};

/// A node that keeps a copy.
#[derive(Clone, Copy, Debug)]
pub struct CopyAt {
    node: NodeId,
    /// What it has confirmed in this epoch; none before it has the state.
    confirmed: Option<u64>,
    /// What it was sent in this session.
    sent: Option<u64>,
    /// The last question that it has answered in this view.
    marked: u64,
    /// It can't be told now, and is sent what it lacks when its next session begins.
    noted: bool,
}

impl CopyAt {
    /// A node that has everything up to this number.
    pub fn with(node: NodeId, sequence: u64) -> CopyAt {
        CopyAt { confirmed: Some(sequence), sent: Some(sequence), ..CopyAt::new(node) }
    }

    fn new(node: NodeId) -> CopyAt {
        CopyAt { node, confirmed: None, sent: None, marked: 0, noted: false }
    }
}

impl Channel {
    /// Takes over the copies of the view in force. One that was a copy before has what it has confirmed.
    pub fn place_copies(&mut self, cx: &mut Cx<'_>) {
        let Some(view) = cx.view else { return };
        let holders = view.nearest(self.key.point()).take(1 + usize::from(self.rules.redundancy));
        let before = std::mem::take(&mut self.copies);
        let known = |node| before.iter().find(|copy| copy.node == node).copied();
        let nodes = holders.filter(|node| *node != cx.me());
        self.copies = nodes.map(|node| known(node).unwrap_or(CopyAt::new(node))).collect();
        self.send_copies(self.waits_for_copies(), cx);
        if self.waits_for_copies() {
            self.copies.iter().for_each(|copy| self.send_entries(copy.node, self.last_number(), cx));
        }
        if self.lacks_nodes() {
            self.refuse_pending(cx);
        }
    }

    /// Whether the copies are where the view wants them.
    pub fn is_placed(&self, view: &View, point: u64, me: NodeId) -> bool {
        let holders = view.nearest(point).take(1 + usize::from(self.rules.redundancy));
        let mut nodes = holders.filter(|node| *node != me);
        self.copies.iter().all(|copy| nodes.next() == Some(copy.node)) && nodes.next().is_none()
    }

    /// Whether the view has too few nodes for the copies that the rules require. Nothing new counts then.
    pub(super) fn lacks_nodes(&self) -> bool {
        self.rules.redundancy_required && self.copies.len() < usize::from(self.rules.redundancy)
    }

    /// Whoever waits is told so, rather than to wait for a node that may never come. What has its number keeps it, and
    /// counts when the nodes are there: a repeat under its key is answered with it.
    fn refuse_pending(&self, cx: &mut Cx<'_>) {
        for (sender, counter) in self.state.senders.pending() {
            self.answer_now(Repeat { sender, counter }, Err(ErrorCode::TooFewNodes), cx);
        }
    }

    pub(super) fn is_copied_at(&self, node: NodeId) -> bool {
        self.copies.iter().any(|copy| copy.node == node)
    }

    /// Whether every copy has the state, and so all that was ever acknowledged.
    pub fn is_copied(&self) -> bool {
        self.copies.iter().all(|copy| copy.confirmed.is_some())
    }

    /// Whatever was on its way to the copy, or from there, may be lost.
    pub fn copy_anew(&mut self, peer: NodeId, cx: &mut Cx<'_>) {
        let Some(copy) = self.copies.iter_mut().find(|copy| copy.node == peer) else { return };
        (copy.sent, copy.noted) = (None, false);
        self.send_copies(self.waits_for_copies(), cx);
        if self.waits_for_copies() {
            self.send_entries(peer, self.last_number(), cx);
        }
        self.send_all_members(peer, cx);
    }

    /// Tells a copy that has the state who is attached: it may have missed some of that.
    fn send_all_members(&self, peer: NodeId, cx: &mut Cx<'_>) {
        let has_state = |copy: &CopyAt| copy.node == peer && copy.sent.is_some() && !self.lacks_state(copy);
        if let Some(members) = &self.state.members
            && self.copies.iter().any(has_state)
        {
            self.say_members(peer, true, members.said(), cx);
        }
    }

    fn say_members(&self, to: NodeId, whole: bool, changes: MemberChanges, cx: &mut Cx<'_>) {
        let (epoch, version) = (self.state.epoch, self.state.presence_version);
        cx.say(to, &self.key, Say::Copy(ToCopy::Members { epoch, version, whole, changes }));
    }

    /// Asks every copy whether it is still one. If all are, nobody has taken the channel over meanwhile: for that, one of
    /// them must have left this view.
    pub(super) fn ask_copies(&mut self, cx: &mut Cx<'_>) -> u64 {
        self.send_copies(true, cx);
        self.mark += 1;
        for at in 0..self.copies.len() {
            let CopyAt { node, sent, .. } = self.copies[at];
            if sent.is_some() {
                self.send_entries(node, self.last_number(), cx);
            }
        }
        self.mark
    }

    pub(super) fn copies_answered(&self, mark: u64) -> bool {
        self.copies.iter().all(|copy| copy.marked >= mark)
    }

    /// Whether a copy is to be sent the state, and nobody has tried.
    pub fn is_behind(&self) -> bool {
        self.copies.iter().any(|copy| copy.sent.is_none() && !copy.noted && self.lacks_state(copy))
    }

    fn lacks_state(&self, copy: &CopyAt) -> bool {
        copy.confirmed.is_none_or(|upto| upto < self.state.sequence)
    }

    /// Sends each copy what it has not been sent in this session. Without `states`, one that needs the whole state waits: while
    /// nobody waits for it there is more urgent work (`docs/decisions/0024`).
    pub fn send_copies(&mut self, states: bool, cx: &mut Cx<'_>) {
        let last = self.last_number();
        for at in 0..self.copies.len() {
            let copy = self.copies[at];
            let CopyAt { node, confirmed, sent, .. } = copy;
            if !states && sent.is_none() && self.lacks_state(&copy) {
                continue;
            }
            if !cx.reaches(node, &self.key) {
                if sent != Some(last) {
                    cx.streams.note(node, &self.key, Voice::OwnerToCopy);
                    self.copies[at].noted = true;
                }
                continue;
            }
            let from = match (sent, confirmed) {
                (Some(sent), _) => sent,
                (None, Some(confirmed)) if !self.lacks_state(&copy) => confirmed,
                _ => {
                    let state = self.state.for_another(cx.now);
                    cx.say(node, &self.key, Say::Copy(ToCopy::State(state)));
                    self.state.sequence
                }
            };
            self.copies[at].sent = Some(last);
            if from < last {
                self.send_entries(node, from, cx);
            }
        }
    }

    fn send_entries(&self, to: NodeId, after: u64, cx: &mut Cx<'_>) {
        let follows = |sequence: u64| sequence > after;
        let entries = self.unconfirmed.iter().filter(|entry| follows(entry.message.serial.sequence)).cloned().collect();
        let (epoch, seen, mark) = (self.state.epoch, self.keeping(cx).seen, self.mark);
        let say = ToCopy::Entries { epoch, entries, seen, mark };
        cx.say(to, &self.key, Say::Copy(say));
    }

    pub(super) fn copied(&mut self, from: NodeId, serial: Serial, mark: u64) {
        let Some(copy) = self.copies.iter_mut().find(|copy| copy.node == from) else { return };
        if serial.epoch == self.state.epoch {
            copy.confirmed = copy.confirmed.max(Some(serial.sequence));
            copy.marked = copy.marked.max(mark);
        }
    }

    pub(super) fn lacks(&mut self, from: NodeId, cx: &mut Cx<'_>) {
        let Some(copy) = self.copies.iter_mut().find(|copy| copy.node == from) else { return };
        (copy.confirmed, copy.sent) = (None, None);
        self.send_copies(true, cx);
    }

    /// Lets count what every copy has.
    pub(super) fn apply_confirmed(&mut self, cx: &mut Cx<'_>) {
        let Some(upto) = self.confirmed_upto() else { return };
        while let Some(entry) = self.unconfirmed.pop_front_if(|entry| entry.message.serial.sequence <= upto) {
            self.apply(entry, cx);
        }
    }

    fn confirmed_upto(&self) -> Option<u64> {
        if self.lacks_nodes() {
            return None;
        }
        self.copies.iter().map(|copy| copy.confirmed).try_fold(u64::MAX, |least, confirmed| Some(least.min(confirmed?)))
    }

    /// Tells the copies who is attached. Nobody waits for their answer: nodes say it again to the next owner.
    pub(super) fn send_members(&mut self, cx: &mut Cx<'_>) {
        let Some(members) = &mut self.state.members else { return };
        let changes = members.unsaid();
        if changes.is_empty() {
            return;
        }
        for copy in self.copies.iter().filter(|copy| copy.sent.is_some()) {
            self.say_members(copy.node, false, changes.clone(), cx);
        }
    }

    /// A copy has not heard of the channel for long.
    pub(super) fn reassure(&mut self, from: NodeId, epoch: Epoch, cx: &mut Cx<'_>) {
        let is_copy = self.copies.iter().any(|copy| copy.node == from);
        if !is_copy {
            cx.say(from, &self.key, Say::Copy(ToCopy::Drop { epoch }));
        }
    }

    pub(super) fn drop_copies(&self, cx: &mut Cx<'_>) {
        for copy in &self.copies {
            cx.say(copy.node, &self.key, Say::Copy(ToCopy::Drop { epoch: self.state.epoch }));
        }
    }
}
