//! What the owner says, on its way to the workers.

use std::sync::Arc;

use super::{Ahead, Relay, UNTOLD_MAX};
use crate::{
    channel::ChannelKey,
    code::ErrorCode,
    message::Message,
    serial::Serial,
    session::event::PresenceChange,
    shard::{
        cx::Cx,
        delivery::Delivery,
        peer::{Resume, ToRelay},
        request::{Effect, Notice, Reply, Start},
    },
};

impl Relay {
    pub fn hear(&mut self, key: &ChannelKey, say: ToRelay, cx: &mut Cx<'_>) {
        match say {
            ToRelay::Resume(resume) => self.resume(key, *resume, cx),
            ToRelay::Deliver(delivery) => {
                if self.ahead.is_some_and(|ahead| ahead.position == delivery.follows()) {
                    self.go_ahead(key, cx);
                }
                self.deliver(key, delivery, cx);
            }
            ToRelay::Notice { notice, presence } => self.notice(key, notice, presence, cx),
            ToRelay::Published { counter, outcome } => self.published(key, counter, outcome, cx),
            ToRelay::Taken { counter, record } => self.taken(counter, record),
            // Taken by the shard: there may be no relay.
            ToRelay::LetGo | ToRelay::Confirm | ToRelay::Again => {}
            ToRelay::Subscribed { number, outcome, presence } => self.subscribed(key, number, outcome, presence, cx),
            ToRelay::Presence { number, outcome } => {
                if let Some(asked) = self.take_ask(number) {
                    asked.answer(key, Reply::Presence(outcome), cx);
                }
            }
            ToRelay::Uncertain => {
                if !std::mem::replace(&mut self.told_uncertain, true) {
                    self.tell(cx, |to| Effect::Notify { to, key: key.clone(), notice: Notice::Uncertain });
                }
            }
        }
    }

    /// Nothing that does not follow is passed on: what lies between comes with the owner's answer to `Listen`.
    fn deliver(&mut self, key: &ChannelKey, delivery: Arc<Delivery>, cx: &mut Cx<'_>) {
        if self.position != Some(delivery.follows()) {
            return;
        }
        self.tell_epoch(key, cx);
        self.position = Some(delivery.last());
        self.unseen = true;
        self.tell(cx, |to| Effect::Deliver { to, delivery: delivery.clone() });
    }

    fn notice(&mut self, key: &ChannelKey, notice: Notice, presence: u64, cx: &mut Cx<'_>) {
        if self.position.is_some() && self.astray == 0 {
            self.presence = presence;
            self.tell(cx, |to| Effect::Notify { to, key: key.clone(), notice: notice.clone() });
        }
    }

    fn subscribed(
        &mut self,
        key: &ChannelKey,
        number: u64,
        outcome: Result<Box<Start>, ErrorCode>,
        presence: u64,
        cx: &mut Cx<'_>,
    ) {
        let Some(asked) = self.take_ask(number) else { return };
        match outcome {
            Ok(start) => {
                // All subscribers stand at the same place.
                self.go_ahead(key, cx);
                self.tell_epoch(key, cx);
                self.told_uncertain = false;
                // Whoever was to begin with this answer may have left meanwhile.
                if self.position.is_none() && number > self.emptied {
                    (self.position, self.presence) = (Some(start.current), presence);
                }
                asked.answer(key, Reply::Subscribed(Ok(start)), cx);
            }
            Err(code) => self.refuse_ask(key, asked, code, cx),
        }
    }

    fn resume(&mut self, key: &ChannelKey, resume: Resume, cx: &mut Cx<'_>) {
        let Resume { from, copied, astray, missed, current, forks, known, members, presence, occupancy } = resume;
        if self.position != Some(from) || self.astray != astray {
            return;
        }
        (self.presence, self.told_uncertain, self.astray) = (presence, false, 0);
        self.ahead = None;
        match missed {
            Some(_) if !copied => {
                let ahead = Ahead { position: current, forks, view: cx.view_number() };
                self.ahead = (current != from).then_some(ahead);
            }
            Some(missed) => self.catch_up(key, &missed, current, forks, cx),
            None => {
                self.tell_epoch(key, cx);
                self.reposition(key, current, false, known, cx);
            }
        }
        if let Some(members) = members {
            let notice = Notice::Presence { change: PresenceChange::List, members };
            self.tell(cx, |to| Effect::Notify { to, key: key.clone(), notice: notice.clone() });
        }
        if let Some(count) = occupancy {
            self.tell(cx, |to| Effect::Notify { to, key: key.clone(), notice: Notice::Occupancy(count) });
        }
    }

    /// Passes on what was missed, each epoch by itself.
    fn catch_up(&mut self, key: &ChannelKey, missed: &[Arc<Message>], current: Serial, forks: u8, cx: &mut Cx<'_>) {
        for run in missed.chunk_by(|a, b| a.serial.epoch == b.serial.epoch) {
            let first = run[0].serial;
            self.enter_epoch(key, Serial { sequence: first.sequence - 1, ..first }, forks, cx);
            let (epoch, messages) = (first.epoch, run.to_vec());
            let delivery = Arc::new(Delivery { key: key.clone(), epoch, first: first.sequence, messages });
            self.deliver(key, delivery, cx);
        }
        self.enter_epoch(key, current, forks, cx);
    }

    /// Goes on in the epoch in which the owner has.
    pub(super) fn go_ahead(&mut self, key: &ChannelKey, cx: &mut Cx<'_>) {
        if let Some(Ahead { position, forks, .. }) = self.ahead.take() {
            self.enter_epoch(key, position, forks, cx);
        }
    }

    /// The number is the same in both epochs. `forks`: at most so many lie between.
    fn enter_epoch(&mut self, key: &ChannelKey, position: Serial, forks: u8, cx: &mut Cx<'_>) {
        if self.position.is_none_or(|before| before.epoch == position.epoch) {
            return;
        }
        self.position = Some(position);
        self.untold = self.untold.saturating_add(forks.max(1));
        if self.untold >= UNTOLD_MAX {
            self.tell_epoch(key, cx);
        }
    }

    /// Tells the subscribers in which epoch this node stands, if they do not know.
    pub(super) fn tell_epoch(&mut self, key: &ChannelKey, cx: &mut Cx<'_>) {
        if let Some(position) = self.position.filter(|_| self.untold > 0) {
            self.reposition(key, position, true, None, cx);
        }
    }

    fn reposition(
        &mut self,
        key: &ChannelKey,
        position: Serial,
        recovered: bool,
        known: Option<Serial>,
        cx: &mut Cx<'_>,
    ) {
        // In another epoch with the same number nothing has arrived that the owner does not know of.
        self.untold = 0;
        let before = self.position.replace(position);
        self.unseen |= before.is_none_or(|before| before.sequence != position.sequence);
        self.tell(cx, |to| Effect::Reposition { to, key: key.clone(), position, recovered, known });
    }
}
