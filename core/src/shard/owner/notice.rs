//! What listeners hear: messages, who came and left, and how many there are.

use std::sync::Arc;

use super::Channel;
use crate::{
    session::event::PresenceChange,
    shard::{
        cx::Cx,
        delivery::Delivery,
        peer::{Say, ToRelay},
        request::Notice,
    },
    time::Now,
};

/// The occupancy that listeners know, and since when.
#[derive(Clone, Copy, Debug, Default)]
pub struct Told {
    occupancy: u64,
    at_ms: Option<u64>,
    /// A subscriber began with another count than the others know.
    uneven: bool,
}

impl Told {
    /// Another owner told something that is not known here. The nodes need a moment to say how many hear the channel.
    pub fn from_the_past(now: Now) -> Told {
        Told { occupancy: 0, at_ms: Some(now.mono_ms), uneven: true }
    }
}

impl Channel {
    pub fn occupancy(&self) -> u64 {
        self.listeners.iter().map(|listening| listening.subscribers).sum()
    }

    pub(super) fn deliver(&mut self, cx: &mut Cx<'_>) {
        let messages = std::mem::take(&mut self.accepted);
        let Some(first) = messages.first().map(|message| message.serial) else { return };
        if self.listeners.is_empty() {
            return;
        }
        let (key, epoch) = (self.key.clone(), first.epoch);
        let delivery = Arc::new(Delivery { key, epoch, first: first.sequence, messages });
        for listening in self.listeners.iter().filter(|listening| listening.hears) {
            cx.say(listening.node, &self.key, Say::Relay(ToRelay::Deliver(delivery.clone())));
        }
    }

    pub(super) fn tell_presence(&mut self, cx: &mut Cx<'_>) {
        let Some(members) = &mut self.state.members else { return };
        members.expire(cx.now.mono_ms);
        let changes = members.changes();
        if !self.rules.presence {
            self.state.members = None;
        }
        for (change, members) in [(PresenceChange::Leave, changes.left), (PresenceChange::Join, changes.joined)] {
            if !members.is_empty() {
                self.state.presence_version += 1;
                self.notify(Notice::Presence { change, members: members.into() }, cx);
            }
        }
    }

    pub(super) fn tell_occupancy(&mut self, cx: &mut Cx<'_>) {
        if self.occupancy_is_due() && self.occupancy_due_ms(cx) <= cx.now.mono_ms {
            let count = self.occupancy();
            self.told = Told { occupancy: count, at_ms: Some(cx.now.mono_ms), uneven: false };
            self.notify(Notice::Occupancy(count), cx);
        }
    }

    /// The count with which new subscribers begin, where the rules have one.
    pub(super) fn first_occupancy(&mut self) -> Option<u64> {
        let count = self.occupancy();
        self.told.uneven |= count != self.told.occupancy;
        self.rules.occupancy.then_some(count)
    }

    pub(super) fn occupancy_is_due(&self) -> bool {
        let told = self.told.occupancy == self.occupancy() && !self.told.uneven;
        self.rules.occupancy && !self.listeners.is_empty() && !told
    }

    pub(super) fn occupancy_due_ms(&self, cx: &Cx<'_>) -> u64 {
        self.told.at_ms.map_or(cx.now.mono_ms, |at_ms| at_ms + cx.config.occupancy_ms)
    }

    fn notify(&self, notice: Notice, cx: &mut Cx<'_>) {
        for listening in self.listeners.iter().filter(|listening| listening.hears) {
            let say = ToRelay::Notice { notice: notice.clone(), presence: self.state.presence_version };
            cx.say(listening.node, &self.key, Say::Relay(say));
        }
    }
}
