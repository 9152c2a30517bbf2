//! Subscribing, leaving, and asking who is present, by way of this node.

use std::sync::Arc;

use super::{Hearing, Relay};
use crate::{
    channel::ChannelKey,
    code::ErrorCode,
    session::{event::Member, request::Recover},
    shard::{
        cx::Cx,
        peer::{Say, ToOwner},
        request::{Effect, Listener, Reply, Subscribe, Token},
    },
};

/// A request that the owner has not answered.
#[derive(Debug)]
pub struct Asked {
    pub number: u64,
    pub since_ms: u64,
    from: Listener,
    token: Token,
    what: What,
}

#[derive(Debug)]
enum What {
    Subscribe {
        recover: Option<Recover>,
        session_id: Arc<str>,
        attachment: u32,
        /// The session has left meanwhile.
        left: bool,
    },
    ReadPresence,
}

impl Asked {
    /// The same again, after the owner was told who is here.
    pub fn again(&self, subscribers: u64) -> ToOwner {
        match &self.what {
            What::Subscribe { recover, .. } => {
                ToOwner::Subscribe { number: self.number, recover: *recover, enters: None, subscribers }
            }
            What::ReadPresence => ToOwner::ReadPresence { number: self.number },
        }
    }

    pub fn refuse(self, key: &ChannelKey, code: ErrorCode, cx: &mut Cx<'_>) {
        let reply = match self.what {
            What::Subscribe { .. } => Reply::Subscribed(Err(code)),
            What::ReadPresence => Reply::Presence(Err(code)),
        };
        self.answer(key, reply, cx);
    }

    pub fn answer(self, key: &ChannelKey, reply: Reply, cx: &mut Cx<'_>) {
        cx.effects.push(Effect::Answer { to: self.from, key: key.clone(), token: self.token, reply });
    }
}

impl Relay {
    pub(super) fn subscribe(
        &mut self,
        key: &ChannelKey,
        from: Listener,
        subscribe: Subscribe,
        presence: bool,
        cx: &mut Cx<'_>,
    ) {
        let Subscribe { token, member, attachment, recover } = subscribe;
        if self.workers.is_empty()
            && let Some(owner) = cx.owner_to_tell(key)
            && cx.begins(owner)
        {
            self.say_heard(key, owner, cx);
        }
        match self.workers.iter_mut().find(|hearing| hearing.listener == from) {
            Some(hearing) => hearing.subscribers += 1,
            None => self.workers.push(Hearing { listener: from, subscribers: 1 }),
        }
        let session_id = member.session_id.clone();
        let entered = presence && self.note_member(&member, attachment);
        let number = cx.next_request();
        if let Some(owner) = cx.owner_to_tell(key) {
            let enters = entered.then_some((member, attachment));
            let say = ToOwner::Subscribe { number, recover, enters, subscribers: self.subscribers() };
            cx.say(owner, key, Say::Owner(say));
        }
        let what = What::Subscribe { recover, session_id, attachment, left: false };
        self.asks.push(Asked { number, since_ms: cx.now.mono_ms, from, token, what });
    }

    pub(super) fn enter(&mut self, key: &ChannelKey, member: Member, attachment: u32, presence: bool, cx: &mut Cx<'_>) {
        if !presence || !self.note_member(&member, attachment) {
            return;
        }
        if let Some(owner) = cx.owner_to_tell(key) {
            cx.say(owner, key, Say::Owner(ToOwner::Enter { member, attachment }));
        }
    }

    pub(super) fn unsubscribe(
        &mut self,
        key: &ChannelKey,
        from: Listener,
        session_id: Arc<str>,
        attachment: u32,
        moved: bool,
        cx: &mut Cx<'_>,
    ) {
        self.workers.retain(|hearing| {
            if hearing.listener == from {
                hearing.subscribers = hearing.subscribers.saturating_sub(1);
            }
            hearing.subscribers > 0
        });
        self.note_left(&session_id, attachment);
        if self.members.get(&session_id).is_some_and(|(_, newest)| *newest <= attachment) {
            self.members.remove(&session_id);
        }
        if self.workers.is_empty() {
            (self.position, self.ahead, self.untold, self.presence, self.astray) = (None, None, 0, 0, 0);
            self.emptied = cx.counters.requests;
        }
        if let Some(owner) = cx.owner_to_tell(key) {
            let say = ToOwner::Leave { session_id, attachment, moved, subscribers: self.subscribers() };
            cx.say(owner, key, Say::Owner(say));
        }
    }

    pub(super) fn read_presence(&mut self, key: &ChannelKey, from: Listener, token: Token, cx: &mut Cx<'_>) {
        let number = cx.next_request();
        if let Some(owner) = cx.owner_to_tell(key) {
            cx.say(owner, key, Say::Owner(ToOwner::ReadPresence { number }));
        }
        self.asks.push(Asked { number, since_ms: cx.now.mono_ms, from, token, what: What::ReadPresence });
    }

    pub(super) fn take_ask(&mut self, number: u64) -> Option<Asked> {
        let at = self.asks.iter().position(|asked| asked.number == number)?;
        Some(self.asks.remove(at))
    }

    /// A subscription that is refused has never been.
    pub(super) fn refuse_ask(&mut self, key: &ChannelKey, asked: Asked, code: ErrorCode, cx: &mut Cx<'_>) {
        if let What::Subscribe { session_id, attachment, left: false, .. } = &asked.what {
            self.unsubscribe(key, asked.from, session_id.clone(), *attachment, false, cx);
        }
        asked.refuse(key, code, cx);
    }

    fn note_left(&mut self, session_id: &str, attachment: u32) {
        for asked in &mut self.asks {
            if let What::Subscribe { session_id: id, attachment: of, left, .. } = &mut asked.what {
                *left |= **id == *session_id && *of == attachment;
            }
        }
    }

    /// Whether it is news. What a lower attachment says is not.
    fn note_member(&mut self, member: &Member, attachment: u32) -> bool {
        if self.members.get(&member.session_id).is_some_and(|(_, newest)| *newest > attachment) {
            return false;
        }
        self.members.insert(member.session_id.clone(), (member.clone(), attachment));
        true
    }
}
