//! Carries out what sessions want, and moves them between connections.

use std::sync::Arc;

use appsockets_core::{
    channel::{ChannelKey, ChannelName},
    code::{CloseCode, ErrorCode},
    fanout::Subscriber,
    identity::Identity,
    session::{
        Carried, Context, Session,
        effect::Effect,
        event::{Event, HistoryPage},
        request::{Credentials, Request, SubscribeInfo},
    },
    shard::request::{Ask, Listener, Request as ShardRequest},
};

use super::{At, Held, Parked, World, letters::Letter};
use crate::hubs::{self, HUB, RESTORE_MS};

impl World {
    /// Lets a session do something, and carries out what it wants.
    pub fn step(&mut self, at: At, act: impl FnOnce(&mut Session, &mut Context<'_>)) {
        let Some(held) = self.workers[at.worker].held.get_mut(&at.subscriber) else { return };
        let mut effects = Vec::new();
        let mut cx = Context { now: self.now, config: &self.config, meter: &self.meter, effects: &mut effects };
        act(&mut held.session, &mut cx);
        self.carry_out(at, effects);
    }

    pub(super) fn carry_out(&mut self, at: At, effects: Vec<Effect>) {
        let mut acks = Vec::new();
        for effect in effects {
            match effect {
                Effect::Ack(published) => acks.push(published),
                effect => self.carry_out_one(at, effect),
            }
        }
        if !acks.is_empty() {
            self.tell(at, Event::Ack(acks));
        }
    }

    pub(super) fn carry_out_one(&mut self, at: At, effect: Effect) {
        let Some(held) = self.workers[at.worker].held.get(&at.subscriber) else { return };
        let (parked, id) = (held.parked.is_some(), held.session.id().clone());
        let fanout = &mut self.workers[at.worker].fanout;
        match effect {
            Effect::Tell(event) => self.tell(at, event),
            Effect::Ack(published) => self.tell(at, Event::Ack(vec![published])),
            Effect::Refuse(failure) => self.tell(at, Event::Error(failure)),
            Effect::Ask { key, ask } => self.ask(at.worker, at.worker, &id, key, ask),
            Effect::AskFor { listener, key, ask } => self.ask(at.worker, usize::from(listener.worker), &id, key, ask),
            Effect::Attach { key, position } if !parked => fanout.attach(&key, at.subscriber, position),
            Effect::Attach { .. } => {}
            Effect::Detach { key } => {
                fanout.detach(&key, at.subscriber);
            }
            Effect::Authenticate(credentials) => self.auths.push_back((at, provide(&credentials))),
            Effect::Restore { restore_key, positions } => match self.keys.get(&restore_key).copied() {
                Some(old) if old != at => {
                    self.keys.remove(&restore_key);
                    self.post(at.worker, old.worker, Letter::Take { old: old.subscriber, taker: at, positions });
                }
                _ => self.step(at, Session::not_restored),
            },
            // A node that is alone keeps its sessions itself.
            Effect::Changed => {}
            Effect::ReadHistory(query) => {
                let page = Ok(HistoryPage { messages: Vec::new(), more: false });
                self.tell(at, Event::History { req_id: query.req_id, channel: query.channel, page });
            }
            Effect::End(code) => self.end(at, code),
        }
    }

    /// Asks the shard, over the link of one worker in the name of another.
    pub(super) fn ask(&mut self, over: usize, from: usize, session: &Arc<str>, key: ChannelKey, mut ask: Ask) {
        match &mut ask {
            Ask::Publish(publish) => self.ledger.ask(&key, session, publish),
            Ask::Unsubscribe { .. } if self.fault.loses_leave() => return,
            Ask::Enter { .. } | Ask::Subscribe(_) | Ask::Unsubscribe { .. } => {}
            Ask::ReadPresence { .. } | Ask::Keep { .. } | Ask::Take { .. } => {}
        }
        let request = ShardRequest { from: listener(from), key, ask };
        self.post(over, 0, Letter::Ask(request));
    }

    pub(super) fn tell(&mut self, at: At, event: Event) {
        let Some(client) = self.workers[at.worker].held.get(&at.subscriber).and_then(|held| held.client) else {
            return;
        };
        let pong = event == Event::Ping && !self.clients[client].silent;
        let outcome = self.clients[client].see(event, &mut self.ledger);
        self.note(outcome);
        if pong {
            self.step(at, |session, cx| session.request(Request::Pong, cx));
        }
    }

    pub(super) fn end(&mut self, at: At, code: CloseCode) {
        self.tell(at, Event::Close(code));
        if let Some(held) = self.workers[at.worker].held.get_mut(&at.subscriber)
            && let Some(client) = held.client.take()
        {
            self.clients[client].forget();
        }
        match code {
            CloseCode::HeartbeatMissed => self.park(at),
            _ => self.leave(at),
        }
    }

    pub(super) fn park(&mut self, at: At) {
        let worker = &mut self.workers[at.worker];
        let Some(held) = worker.held.get_mut(&at.subscriber) else { return };
        let reached = |channel: &ChannelName| {
            let serial = worker.fanout.detach(&ChannelKey::new(HUB, channel.clone()), at.subscriber);
            serial.map(|serial| (channel.clone(), serial))
        };
        let positions = held.session.channels().filter_map(reached).collect();
        held.client = None;
        held.parked = Some(Parked { until_ms: self.now.mono_ms + RESTORE_MS, positions });
    }

    pub(super) fn take(&mut self, worker: usize, old: Subscriber) -> Option<Box<Carried>> {
        let at = At { worker, subscriber: old };
        let held = self.workers[worker].held.get_mut(&old)?;
        if held.parked.is_none() {
            // Its client, if it still listens, is told by the shell.
            if let Some(client) = held.client.take() {
                self.clients[client].forget();
            }
            self.park(at);
        }
        let Held { session, parked, .. } = self.workers[worker].held.remove(&old)?;
        let positions = parked.map(|parked| parked.positions).unwrap_or_default();
        Some(Box::new(Carried { session, positions, from: listener(worker) }))
    }

    pub(super) fn taken(&mut self, taker: At, carried: Option<Box<Carried>>, positions: &[SubscribeInfo]) {
        let there = self.workers[taker.worker].held.get(&taker.subscriber).is_some_and(|held| held.parked.is_none());
        match carried {
            Some(carried) if there => self.step(taker, |session, cx| session.restored(*carried, positions, cx)),
            None => self.step(taker, Session::not_restored),
            Some(carried) => self.release(taker.worker, *carried),
        }
    }

    /// The connection that wanted the session is gone, so the session is gone too.
    pub(super) fn release(&mut self, worker: usize, carried: Carried) {
        let Carried { mut session, from, .. } = carried;
        let mut effects = Vec::new();
        let mut cx = Context { now: self.now, config: &self.config, meter: &self.meter, effects: &mut effects };
        session.leave_all(&mut cx);
        for effect in effects {
            if let Effect::Ask { key, ask } = effect {
                self.ask(worker, usize::from(from.worker), session.id(), key, ask);
            }
        }
    }
}

fn listener(worker: usize) -> Listener {
    Listener { node: 1, worker: worker as u16 }
}

/// The auth provider: a token is the user's name, but for `bad` and `away`.
fn provide(credentials: &Credentials) -> Result<Arc<Identity>, ErrorCode> {
    match credentials {
        Credentials::Token(token) if &**token == "bad" => Err(ErrorCode::TokenInvalid),
        Credentials::Token(token) if &**token == "away" => Err(ErrorCode::AuthUnavailable),
        Credentials::Token(token) => Ok(hubs::user(token)),
        Credentials::Opaque(_) => Err(ErrorCode::AuthNotConfigured),
    }
}
