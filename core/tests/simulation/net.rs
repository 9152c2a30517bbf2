//! Links between processes: ordered while they live, slow, cut in one direction or both, broken.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use appsockets_core::{
    cluster::{view::NodeId, views::message::Message as ViewMessage},
    shard::peer::PeerMessage,
};

use crate::chance::Chance;

/// How long a link lives on while nothing gets through, in milliseconds.
const KEEPALIVE_MS: u64 = 200;

const LATE: u64 = 1 << 40;

#[derive(Clone, Debug)]
pub enum Payload {
    View(ViewMessage),
    Shard(PeerMessage),
}

#[derive(Clone, Debug)]
pub enum Event {
    Message { from: NodeId, to: NodeId, link: u64, payload: Payload },
    Up { at: NodeId, peer: NodeId, link: u64 },
    Down { at: NodeId, peer: NodeId, link: u64 },
    Gone { at: NodeId, node: NodeId },
}

impl Event {
    pub fn receiver(&self) -> NodeId {
        match self {
            Event::Message { to, .. } => *to,
            Event::Up { at, .. } | Event::Down { at, .. } | Event::Gone { at, .. } => *at,
        }
    }
}

/// The connection of two processes; the lesser first.
#[derive(Debug, Default)]
struct Link {
    /// Its number, while it lives.
    up: Option<u64>,
    /// The arrival of the last thing in each direction.
    last_ms: [u64; 2],
    held: [VecDeque<Event>; 2],
    stuck_since_ms: Option<u64>,
    try_ms: u64,
}

#[derive(Debug, Default)]
pub struct Net {
    queue: BTreeMap<(u64, u64), Event>,
    numbers: u64,
    /// Numbers that go before those of the same millisecond.
    early: u64,
    links: BTreeMap<(NodeId, NodeId), Link>,
    /// Nothing gets from the first to the second.
    pub cuts: BTreeSet<(u64, u64)>,
    pub delay_ms: u64,
    /// Nodes whose messages take longer, by that much.
    pub slow: BTreeMap<u64, u64>,
    pub sent: u64,
}

impl Net {
    pub fn new(delay_ms: u64) -> Net {
        Net { delay_ms, ..Net::default() }
    }

    pub fn at(&mut self, ms: u64, event: Event) {
        self.numbers += 1;
        self.queue.insert((ms, LATE + self.numbers), event);
    }

    fn at_once(&mut self, ms: u64, event: Event) {
        self.early += 1;
        self.queue.insert((ms, self.early), event);
    }

    pub fn next(&mut self, now_ms: u64) -> Option<Event> {
        let ((ms, number), _) = self.queue.first_key_value()?;
        let place = (*ms, *number);
        (place.0 <= now_ms).then(|| self.queue.remove(&place)).flatten()
    }

    /// Sends over the link that the sender knows. What was sent over one that broke is lost.
    pub fn send(&mut self, now_ms: u64, from: NodeId, to: NodeId, link: u64, payload: Payload, chance: &mut Chance) {
        self.sent += 1;
        let slow_ms = self.slow.get(&from.node).copied().unwrap_or(0);
        let arrives_ms = now_ms + chance.between(1, self.delay_ms.max(1)) + slow_ms;
        let direction = usize::from(from > to);
        let Some(known) = self.links.get_mut(&pair(from, to)).filter(|known| known.up == Some(link)) else { return };
        let arrives_ms = arrives_ms.max(known.last_ms[direction]);
        known.last_ms[direction] = arrives_ms;
        self.at(arrives_ms, Event::Message { from, to, link, payload });
    }

    /// Whether the message gets through now; else it is held or lost.
    pub fn passes(&mut self, event: Event) -> Option<Event> {
        let Event::Message { from, to, link, .. } = &event else { return Some(event) };
        let direction = usize::from(from > to);
        let cut = self.cuts.contains(&(from.node, to.node));
        let known = self.links.get_mut(&pair(*from, *to)).filter(|known| known.up == Some(*link))?;
        if cut || !known.held[direction].is_empty() {
            known.held[direction].push_back(event);
            return None;
        }
        Some(event)
    }

    pub fn break_link(&mut self, now_ms: u64, a: NodeId, b: NodeId, chance: &mut Chance) {
        let Some(known) = self.links.get_mut(&pair(a, b)) else { return };
        let Some(link) = known.up.take() else { return };
        let noticed = [now_ms + chance.between(0, 30), now_ms + chance.between(0, 30)];
        known.held = Default::default();
        known.stuck_since_ms = None;
        known.try_ms = noticed[0].max(noticed[1]) + chance.between(1, 80);
        self.at(noticed[0], Event::Down { at: a, peer: b, link });
        self.at(noticed[1], Event::Down { at: b, peer: a, link });
    }

    /// Brings up what can be up, and ends what is stuck. `stuck` says who takes nothing.
    pub fn poll(&mut self, now_ms: u64, living: &[NodeId], stuck: impl Fn(NodeId) -> bool, chance: &mut Chance) {
        for (at, a) in living.iter().enumerate() {
            for b in &living[at + 1..] {
                self.poll_link(now_ms, *a, *b, stuck(*a) || stuck(*b), chance);
            }
        }
    }

    fn poll_link(&mut self, now_ms: u64, a: NodeId, b: NodeId, stuck: bool, chance: &mut Chance) {
        let blocked = self.cuts.contains(&(a.node, b.node)) || self.cuts.contains(&(b.node, a.node)) || stuck;
        self.numbers += 1;
        let number = self.numbers;
        let known = self.links.entry(pair(a, b)).or_default();
        match known.up {
            Some(_) if blocked => {
                let since_ms = *known.stuck_since_ms.get_or_insert(now_ms);
                if now_ms >= since_ms + KEEPALIVE_MS {
                    self.break_link(now_ms, a, b, chance);
                }
            }
            Some(_) => {
                known.stuck_since_ms = None;
                let held = std::mem::take(&mut known.held);
                held.into_iter().flatten().for_each(|event| self.at_once(now_ms, event));
            }
            None if !blocked && now_ms >= known.try_ms => {
                known.up = Some(number);
                let noticed = [now_ms + chance.between(0, 10), now_ms + chance.between(0, 10)];
                // The lesser gets what the greater sends, and what it sends arrives at the greater.
                known.last_ms = if a < b { [noticed[1], noticed[0]] } else { [noticed[0], noticed[1]] };
                self.at(noticed[0], Event::Up { at: a, peer: b, link: number });
                self.at(noticed[1], Event::Up { at: b, peer: a, link: number });
            }
            None => {}
        }
    }

    /// The process is no more.
    pub fn end(&mut self, now_ms: u64, node: NodeId, chance: &mut Chance) {
        let pairs: Vec<_> = self.links.keys().filter(|(a, b)| *a == node || *b == node).copied().collect();
        for (a, b) in pairs {
            self.break_link(now_ms, a, b, chance);
            self.links.remove(&(a, b));
        }
    }

    pub fn is_up(&self, a: NodeId, b: NodeId) -> bool {
        self.links.get(&pair(a, b)).is_some_and(|known| known.up.is_some())
    }
}

fn pair(a: NodeId, b: NodeId) -> (NodeId, NodeId) {
    if a < b { (a, b) } else { (b, a) }
}
