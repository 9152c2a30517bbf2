//! What one client sees, judged as it comes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    message::Message,
    serial::Serial,
    session::{
        event::{Event, Member, Position, PresenceChange},
        request::{Recover, Request, SubscribeInfo},
    },
};

use crate::{
    hubs::{HISTORY_MAX, HUB},
    ledger::Ledger,
    world::At,
};

/// What a client holds of one channel.
#[derive(Debug)]
pub struct View {
    pub position: Serial,
    pub present: BTreeMap<Arc<str>, Member>,
    pub occupancy: Option<u64>,
    /// The connection that began it.
    at: Option<At>,
}

/// What the client asked for, by which the next position is judged.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expected {
    Known(Option<Recover>),
    Anything,
}

#[derive(Debug, Default)]
pub struct Client {
    pub at: Option<At>,
    pub session_id: Option<Arc<str>>,
    pub restore_key: Option<Arc<str>>,
    pub views: BTreeMap<Arc<str>, View>,
    /// The last serial and time that the client ever had of a channel.
    pub memory: BTreeMap<Arc<str>, (Serial, u64)>,
    pub log: Vec<Event>,
    /// The messages that came, retained ones apart.
    pub heard: Vec<Arc<Message>>,
    /// Takes any answer to a recovery: the bounds are not those that it knows.
    pub lenient: bool,
    /// Does not answer a ping.
    pub silent: bool,
    /// Requests that wait for their answer.
    pub waiting: BTreeSet<i64>,
    asks: Vec<(Option<i64>, Arc<str>, Expected)>,
    /// With what the client asked for a restore, while it waits for the outcome.
    restoring: Option<Vec<SubscribeInfo>>,
    req_id: i64,
}

impl Client {
    pub fn next_req_id(&mut self) -> i64 {
        self.req_id += 1;
        self.req_id
    }

    /// Notes what is to come back for a request.
    pub fn ask(&mut self, request: &Request) {
        match request {
            Request::Publish(publishes) => self.waiting.extend(publishes.iter().filter_map(|publish| publish.req_id)),
            Request::Auth { req_id, .. } | Request::Unsubscribe { req_id, .. } => self.waiting.extend(*req_id),
            Request::Subscribe { req_id, channels } => {
                self.waiting.extend(*req_id);
                self.expect(*req_id, channels);
            }
            Request::Restore { positions, .. } => self.restoring = Some(positions.clone()),
            Request::Pong | Request::Close | Request::History(_) => {}
        }
    }

    /// The positions that these channels may begin with.
    pub fn expect(&mut self, req_id: Option<i64>, channels: &[SubscribeInfo]) {
        for SubscribeInfo { channel, recover } in channels {
            let expected = if self.lenient { Expected::Anything } else { Expected::Known(*recover) };
            self.asks.push((req_id, channel.clone(), expected));
        }
    }

    /// The connection is gone; what the client holds is kept for a restore.
    pub fn disconnect(&mut self) {
        self.at = None;
        self.waiting.clear();
        self.asks.clear();
        self.restoring = None;
    }

    /// Begins anew.
    pub fn forget(&mut self) {
        self.disconnect();
        self.views.clear();
        self.restore_key = None;
    }

    pub fn see(&mut self, event: Event, ledger: &mut Ledger) -> Result<(), String> {
        self.log.push(event.clone());
        match event {
            Event::SessionInfo(info) => self.session_id = Some(info.session_id),
            Event::RestoreKey(key) => self.restore_key = Some(key),
            Event::Restored { session_id, channels, .. } => self.restored(session_id, &channels),
            Event::Auth { req_id, .. } => self.answered(req_id)?,
            Event::Ack(acks) => acks.into_iter().try_for_each(|ack| self.answered(Some(ack.req_id)))?,
            Event::Subscribed { req_id, .. } => {
                self.asks.retain(|(asked, ..)| *asked != Some(req_id));
                self.answered(Some(req_id))?;
            }
            Event::Unsubscribed { req_id, channels, .. } => {
                channels.iter().for_each(|channel| self.left(channel));
                self.answered(req_id)?;
            }
            Event::Position(position) => self.position(position, ledger)?,
            Event::Message { channel, message, retained: true } => {
                let position = self.view(&channel)?.position;
                ledger.see_retained(&ChannelKey::new(HUB, channel), message.serial, position)?;
            }
            Event::Message { channel, message, retained: false } => self.hear(&channel, &message, ledger)?,
            Event::Presence { channel, change, members } => self.presence(&channel, change, &members)?,
            Event::Occupancy { channel, count } => self.view(&channel)?.occupancy = Some(count),
            Event::Error(failure) => {
                self.answered(failure.req_id)?;
                if failure.code == ErrorCode::RestoreFailed && self.restoring.take().is_some() {
                    // What this connection has subscribed to by itself stays.
                    self.views.retain(|_, view| view.at == self.at);
                }
            }
            Event::Ping | Event::History { .. } | Event::Reconnect { .. } | Event::Close(_) => {}
        }
        Ok(())
    }

    /// A message of a channel: the next one, and no other.
    pub fn hear(&mut self, channel: &Arc<str>, message: &Arc<Message>, ledger: &mut Ledger) -> Result<(), String> {
        ledger.see(&ChannelKey::new(HUB, channel.clone()), message)?;
        let view = self.view(channel)?;
        let next = Serial { sequence: view.position.sequence + 1, ..view.position };
        if message.serial != next {
            return Err(format!("{channel}: {} came where {next} was due", message.serial));
        }
        view.position = next;
        self.memory.insert(channel.clone(), (next, message.ts_ms));
        self.heard.push(message.clone());
        Ok(())
    }

    /// The node asks again for what this client could not take.
    pub fn catch_up(&mut self, channel: &Arc<str>, reached: Serial) -> Result<(), String> {
        let position = self.view(channel)?.position;
        if position != reached {
            return Err(format!("{channel}: the node believes {reached} and the client has {position}"));
        }
        self.asks.push((None, channel.clone(), Expected::Known(Some(Recover::Serial(reached)))));
        Ok(())
    }

    /// The client unsubscribed.
    pub fn left(&mut self, channel: &Arc<str>) {
        self.views.remove(channel);
    }

    fn view(&mut self, channel: &Arc<str>) -> Result<&mut View, String> {
        self.views.get_mut(channel).ok_or_else(|| format!("{channel}: something came before a position"))
    }

    fn answered(&mut self, req_id: Option<i64>) -> Result<(), String> {
        match req_id {
            Some(req_id) if !self.waiting.remove(&req_id) => Err(format!("request {req_id} is answered twice")),
            _ => Ok(()),
        }
    }

    fn restored(&mut self, session_id: Arc<str>, channels: &[Arc<str>]) {
        self.session_id = Some(session_id);
        self.views.retain(|channel, _| channels.contains(channel));
        self.asks.clear();
        let told = self.restoring.take().unwrap_or_default();
        for channel in channels {
            let told = told.iter().find(|info| info.channel == *channel);
            let expected = told.map_or(Expected::Anything, |info| Expected::Known(info.recover));
            self.asks.push((None, channel.clone(), expected));
        }
    }

    fn position(&mut self, position: Position, ledger: &Ledger) -> Result<(), String> {
        let Position { channel, serial, .. } = &position;
        let automatic = channel.starts_with("u:").then_some(Expected::Known(None));
        let asked = self.asks.iter().filter(|(_, other, _)| other == channel).map(|(.., expected)| *expected);
        let verdicts: Vec<_> = asked.chain(automatic).map(|expected| judge(&position, expected, ledger)).collect();
        if !verdicts.iter().any(Result::is_ok) {
            return Err(format!("{position:?} does not fit what was asked: {verdicts:?}"));
        }
        // A subscription begins without anything known of others; a list follows where there is presence.
        let view = View { position: *serial, present: BTreeMap::new(), occupancy: None, at: self.at };
        self.views.insert(channel.clone(), view);
        Ok(())
    }

    fn presence(&mut self, channel: &Arc<str>, change: PresenceChange, members: &[Member]) -> Result<(), String> {
        let present = &mut self.view(channel)?.present;
        if change == PresenceChange::List {
            present.clear();
        }
        for member in members {
            let id = &member.session_id;
            let fits = match change {
                PresenceChange::List | PresenceChange::Join => present.insert(id.clone(), member.clone()).is_none(),
                PresenceChange::Leave => present.remove(id).is_some_and(|before| before.identity == member.identity),
            };
            if !fits {
                return Err(format!("{channel}: {change:?} of {id} does not fit what the client knew"));
            }
        }
        Ok(())
    }
}

/// Whether a position answers what was asked.
fn judge(position: &Position, expected: Expected, ledger: &Ledger) -> Result<(), String> {
    let Position { channel, serial, recovered, known } = position;
    let known_by_client = match expected {
        Expected::Anything => return Ok(()),
        Expected::Known(None) => return (recovered.is_none()).then_some(()).ok_or("nothing was to recover".into()),
        Expected::Known(Some(Recover::Unknown)) => {
            return (*recovered == Some(false)).then_some(()).ok_or("nobody knows what was to recover".into());
        }
        Expected::Known(Some(Recover::BadSerial)) => return Err("it was to be refused".into()),
        Expected::Known(Some(Recover::Timestamp(unix_ms))) => {
            let key = ChannelKey::new(HUB, channel.clone());
            return match recovered {
                Some(true) => ledger.holds_all_since(&key, unix_ms, *serial),
                Some(false) => Ok(()),
                None => Err("it was to recover".into()),
            };
        }
        Expected::Known(Some(Recover::Serial(serial))) => serial,
    };
    let lacking = serial.sequence.checked_sub(known_by_client.sequence);
    let lacking = lacking.filter(|_| serial.epoch == known_by_client.epoch);
    match recovered {
        Some(true) if *serial == known_by_client => Ok(()),
        Some(false) if lacking.is_some_and(|lacking| lacking <= HISTORY_MAX as u64) => {
            Err("what was lacking is still there".into())
        }
        Some(false) if *known == lacking.map(|_| known_by_client) => Ok(()),
        _ => Err(format!("{known_by_client} was to recover")),
    }
}
