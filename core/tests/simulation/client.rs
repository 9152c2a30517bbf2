//! One client: what it asks, what it is told, and whether it may be told that.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    fanout::Subscriber,
    message::Message,
    serial::Serial,
    session::event::{Event, Failure, Member, Position, PresenceChange},
};

use crate::{
    counting::is_side,
    leaves::Leave,
    ledger::{Id, Ledger},
};

/// Where a client's session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    pub node: appsockets_core::cluster::view::NodeId,
    pub worker: usize,
    pub subscriber: Subscriber,
}

/// How long what a client does may be on its way to others, in milliseconds.
const STEADY_MS: u64 = 1_000;

/// What a client has of one channel.
#[derive(Debug)]
pub struct Run {
    pub position: Serial,
    /// What it has without a hole up to there, by number.
    pub content: BTreeMap<u64, Id>,
    pub present: BTreeMap<Arc<str>, Member>,
    /// Everything that was heard of it, in whichever epoch, since the client subscribed for the first time.
    pub heard: BTreeMap<Id, Serial>,
    pub has_list: bool,
    pub occupancy: Option<u64>,
    /// The connection that is told of it has begun it.
    pub live: bool,
    pub began_ms: u64,
}

#[derive(Debug)]
pub struct Publishing {
    pub id: Id,
    pub channel: Arc<str>,
    pub key: Option<Arc<str>>,
    /// In the order in which this session published to the channel; none once it was repeated.
    pub order: Option<u64>,
}

#[derive(Debug)]
pub struct Client {
    pub hub: Arc<str>,
    pub at: Option<At>,
    pub session_id: Option<Arc<str>>,
    pub restore_key: Option<Arc<str>>,
    pub runs: BTreeMap<Arc<str>, Run>,
    pub wanted: BTreeSet<Arc<str>>,
    pub publishes: BTreeMap<i64, Publishing>,
    /// Keyed publishes without an answer, to be repeated.
    pub repeats: Vec<Publishing>,
    /// The last acknowledged publish of this session, by channel.
    pub last_acked: BTreeMap<Arc<str>, (u64, Serial)>,
    pub req_id: i64,
    pub refused: u64,
    /// Publishes of this connection that were refused.
    pub refusals: BTreeMap<i64, ErrorCode>,
    pub began_ms: u64,
    pub gaps: BTreeMap<Arc<str>, u64>,
    pub new_epochs: u64,
    pub uncertain: u64,
    /// What this client saw of those who left.
    pub leaves: Vec<Leave>,
    /// When its last connection broke, and what it had heard for a while by then.
    pub broke_ms: u64,
    steady: Vec<Arc<str>>,
    /// It waits for the outcome of a restore.
    pub restoring: bool,
    /// Channels that a restore did not bring back.
    pub lacking: Vec<Arc<str>>,
    pub restores: Vec<Restore>,
}

/// A session that was brought back.
#[derive(Debug)]
pub struct Restore {
    pub id: Arc<str>,
    pub broke_ms: u64,
    pub at_ms: u64,
    pub channels: Vec<Arc<str>>,
}

impl Client {
    pub fn new(hub: &str) -> Client {
        Client {
            hub: hub.into(),
            at: None,
            session_id: None,
            restore_key: None,
            runs: BTreeMap::new(),
            wanted: BTreeSet::new(),
            publishes: BTreeMap::new(),
            repeats: Vec::new(),
            last_acked: BTreeMap::new(),
            req_id: 0,
            refused: 0,
            refusals: BTreeMap::new(),
            began_ms: 0,
            gaps: BTreeMap::new(),
            new_epochs: 0,
            uncertain: 0,
            leaves: Vec::new(),
            broke_ms: 0,
            steady: Vec::new(),
            restoring: false,
            lacking: Vec::new(),
            restores: Vec::new(),
        }
    }

    pub fn next_req_id(&mut self) -> i64 {
        self.req_id += 1;
        self.req_id
    }

    pub fn key(&self, channel: &Arc<str>) -> ChannelKey {
        ChannelKey::new(self.hub.clone(), channel.clone())
    }

    /// The connection broke. Others may still hear of what the client did a moment before, and of a node that they do not
    /// reach they know nothing.
    pub fn broken(&mut self, now_ms: u64, reached: bool) {
        let steady = self.runs.iter().filter(|(_, run)| reached && run.live && run.began_ms + STEADY_MS < now_ms);
        self.steady = steady.map(|(channel, _)| channel.clone()).collect();
        self.broke_ms = now_ms;
        self.disconnect();
    }

    /// The connection is gone; what it has is kept, and what had a key is repeated.
    pub fn disconnect(&mut self) {
        self.at = None;
        self.restoring = false;
        self.lacking.clear();
        self.last_acked.clear();
        self.refusals.clear();
        for run in self.runs.values_mut() {
            (run.live, run.has_list) = (false, false);
            run.present.clear();
        }
        let unanswered = std::mem::take(&mut self.publishes).into_values();
        self.repeats.extend(unanswered.filter(|publish| publish.key.is_some()));
    }

    pub fn see(&mut self, event: Event, ledger: &mut Ledger) -> Result<(), String> {
        match event {
            Event::SessionInfo(info) => self.session_id = Some(info.session_id),
            Event::Restored { session_id, channels, .. } => self.restored(session_id, channels, ledger),
            Event::RestoreKey(key) => self.restore_key = Some(key),
            Event::Ack(acks) => {
                for ack in acks {
                    self.acked(ack.req_id, ack.outcome, ledger)?;
                }
            }
            Event::Subscribed { channels, errors, .. } => {
                if let Some(channel) =
                    channels.iter().find(|channel| self.wanted.contains(*channel) && !self.is_live(channel))
                {
                    return Err(format!("{channel}: subscribed, and no position was told"));
                }
                // Not if the client has left before the answer came.
                let refused = |failure: &&Failure| failure.code != ErrorCode::NotSubscribed;
                self.refused += errors.iter().filter(refused).count() as u64;
                for failure in errors {
                    self.wanted.retain(|channel| failure.channel.as_ref() != Some(channel));
                }
            }
            Event::Unsubscribed { channels, error: Some(_), .. } => {
                self.wanted.retain(|channel| !channels.contains(channel));
            }
            Event::Position(position) => self.position(position, ledger)?,
            Event::Message { channel, message, retained: false } => self.hear(&channel, &message, ledger)?,
            Event::Presence { channel, change, members } => self.presence(&channel, change, &members, ledger)?,
            Event::Occupancy { channel, count } => {
                if let Some(run) = self.runs.get_mut(&channel) {
                    run.occupancy = Some(count);
                }
            }
            Event::Error(failure) if failure.code == ErrorCode::Uncertain => self.uncertain += 1,
            Event::Error(failure) if failure.code == ErrorCode::RestoreFailed => {
                self.restoring = false;
                self.lacking = self.wanted.iter().cloned().collect();
            }
            Event::Error(_) => self.refused += 1,
            Event::Message { .. }
            | Event::Unsubscribed { .. }
            | Event::Ping
            | Event::Auth { .. }
            | Event::History { .. }
            | Event::Reconnect { .. }
            | Event::Close(_) => {}
        }
        Ok(())
    }

    pub fn is_live(&self, channel: &str) -> bool {
        self.runs.get(channel).is_some_and(|run| run.live)
    }

    /// A message of a channel: the next one, and no other.
    pub fn hear(&mut self, channel: &Arc<str>, message: &Message, ledger: &mut Ledger) -> Result<(), String> {
        let key = self.key(channel);
        let id = ledger.hear(&key, message)?;
        let Some(run) = self.runs.get_mut(channel).filter(|run| run.live) else {
            return Err(format!("{channel}: {} came before a position", message.serial));
        };
        let next = Serial { sequence: run.position.sequence + 1, ..run.position };
        if message.serial != next {
            return Err(format!("{channel}: {} came where {next} was due", message.serial));
        }
        run.position = next;
        run.content.insert(next.sequence, id);
        // Told that it begins again at an earlier number, it hears the same under the same number.
        let twice = |before: &Serial| *before != next && !ledger.was_repeated(id);
        if let Some(before) = run.heard.insert(id, next).filter(twice) {
            return Err(format!("{channel}: {id} was published once, and is heard as {before} and as {next}"));
        }
        Ok(())
    }

    fn restored(&mut self, id: Arc<str>, channels: Vec<Arc<str>>, ledger: &Ledger) {
        self.restoring = false;
        self.session_id = Some(id.clone());
        self.lacking = self.wanted.iter().filter(|channel| !channels.contains(channel)).cloned().collect();
        self.wanted.extend(channels.iter().cloned());
        let channels = channels.into_iter().filter(|channel| self.steady.contains(channel)).collect();
        self.restores.push(Restore { id, broke_ms: self.broke_ms, at_ms: ledger.now_ms, channels });
    }

    fn position(&mut self, position: Position, ledger: &mut Ledger) -> Result<(), String> {
        let Position { channel, serial, recovered, .. } = position;
        let key = self.key(&channel);
        let knew = self.runs.contains_key(&channel);
        let known = self.runs.entry(channel.clone()).or_insert_with(|| Run {
            position: serial,
            content: BTreeMap::new(),
            present: BTreeMap::new(),
            heard: BTreeMap::new(),
            has_list: false,
            occupancy: None,
            live: false,
            began_ms: ledger.now_ms,
        });
        let goes_on = known.live;
        if !goes_on {
            known.began_ms = ledger.now_ms;
        }
        known.live = true;
        let (from, to) = (known.position.epoch, serial.epoch);
        if recovered == Some(true) && from != to && (is_side(from) || is_side(to)) {
            return Err(format!(
                "{channel}: nothing is said to be missing where a side view begins or ends: {from}, {to}"
            ));
        }
        if recovered == Some(true) {
            if known.position.sequence != serial.sequence {
                return Err(format!(
                    "{channel}: nothing is said to be missing between {} and {serial}",
                    known.position
                ));
            }
            self.new_epochs += u64::from(known.position.epoch != serial.epoch);
            for (sequence, id) in &known.content {
                ledger.on_line(&key, serial.epoch, *sequence, *id)?;
            }
        } else {
            if knew && recovered == Some(false) {
                *self.gaps.entry(channel.clone()).or_default() += 1;
            }
            self.new_epochs += u64::from(goes_on && known.position.epoch != serial.epoch);
            known.content.clear();
        }
        known.position = serial;
        Ok(())
    }

    fn presence(
        &mut self,
        channel: &Arc<str>,
        change: PresenceChange,
        members: &[Member],
        ledger: &Ledger,
    ) -> Result<(), String> {
        let key = self.key(channel);
        let Some(run) = self.runs.get_mut(channel).filter(|run| run.live) else {
            return Err(format!("{channel}: presence before a position"));
        };
        if change == PresenceChange::List {
            run.present.clear();
            run.has_list = true;
        }
        for member in members {
            let id = &member.session_id;
            let fits = match change {
                PresenceChange::List | PresenceChange::Join => run.present.insert(id.clone(), member.clone()).is_none(),
                PresenceChange::Leave => run.present.remove(id).is_some(),
            };
            if !fits {
                return Err(format!("{channel}: {change:?} of {id} does not fit what the client knew"));
            }
            if change == PresenceChange::Leave {
                self.leaves.push(Leave { key: key.clone(), id: id.clone(), at_ms: ledger.now_ms });
            }
        }
        Ok(())
    }

    fn acked(&mut self, req_id: i64, outcome: Result<Serial, ErrorCode>, ledger: &mut Ledger) -> Result<(), String> {
        let Some(publish) = self.publishes.remove(&req_id) else {
            return Err(format!("request {req_id} is answered twice"));
        };
        match outcome {
            Ok(serial) => {
                ledger.ack(&self.key(&publish.channel), publish.id, serial)?;
                self.in_order(&publish, serial)
            }
            Err(code) => {
                self.refusals.insert(req_id, code);
                // Whether there are too few nodes the world judges.
                self.refused += u64::from(code != ErrorCode::TooFewNodes);
                if publish.key.is_some() && matches!(code, ErrorCode::TryAgain | ErrorCode::TooFewNodes) {
                    self.repeats.push(publish);
                }
                Ok(())
            }
        }
    }

    /// Publishes of one session to one channel keep their order.
    fn in_order(&mut self, publish: &Publishing, serial: Serial) -> Result<(), String> {
        let Some(order) = publish.order else { return Ok(()) };
        let before = self.last_acked.insert(publish.channel.clone(), (order, serial));
        match before {
            Some((earlier, at)) if at.epoch == serial.epoch && (earlier < order) != (at.sequence < serial.sequence) => {
                Err(format!("{}: publish {earlier} became {at} and publish {order} {serial}", publish.channel))
            }
            _ => Ok(()),
        }
    }
}
