//! What goes wrong at one moment, again and again: rarer by chance alone than a test may take.

use appsockets_core::{channel::ChannelKey, cluster::view::NodeId};

use crate::{
    chance::Chance,
    heirs::Heirs,
    plan::{Faults, Mode, Plan},
    split::{ANSWERED_MS, SERVED_MS, Split},
    world::World,
};

/// The moment that a plan aims at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aim {
    /// An owner is cut off from all other nodes, and clients come to it.
    Alone,
    /// An owner and its first copy are cut off from all others, and reach each other.
    Pair,
    /// An owner does not reach a copy, other links break, and then it ends.
    LastWord,
    /// An owner of a channel without copies does not reach a slow edge node, and ends: what that has published is heard, and
    /// not answered. The next owner waits for members only, so the repeats come when the others have said where they stand.
    LostAnswer,
    /// Two views pass while the node hears nothing that is an owner after both, and not before.
    Skip,
    /// One false death after the other, with slow nodes and broken links.
    Flurry,
    /// A link breaks again and again while views change and nobody is settled.
    Seals,
    /// An owner and the next one with its copy seem dead one after the other, before anything is settled.
    Stale,
    /// The nodes are divided so that no group has a majority, for seconds. The first channel has a copy, the others have none.
    Split,
    /// A channel without copies goes from owner to owner without a message, and the last of them is lost before anything
    /// is settled, while the one before it has come back.
    Heirs,
}

pub const ALL: [(&str, Aim); 10] = [
    ("alone", Aim::Alone),
    ("pair", Aim::Pair),
    ("last-word", Aim::LastWord),
    ("lost-answer", Aim::LostAnswer),
    ("skip", Aim::Skip),
    ("flurry", Aim::Flurry),
    ("seals", Aim::Seals),
    ("stale", Aim::Stale),
    ("split", Aim::Split),
    ("heirs", Aim::Heirs),
];

/// What goes on in a round, in milliseconds of the world.
#[derive(Debug, Default)]
pub struct Round {
    pub began_ms: u64,
    /// When each step of the round is due.
    due_ms: [u64; 4],
    pub done: usize,
    nodes: Vec<NodeId>,
    pub split: Split,
    pub heirs: Option<Heirs>,
}

impl Plan {
    /// A plan that aims at one moment: everything that is not needed for it is left out.
    pub fn aimed(aim: Aim, seed: u64) -> Plan {
        let mut chance = Chance::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        Plan {
            aim: Some(aim),
            mode: match aim {
                // Several nodes are out of reach together when one of them ends.
                Aim::Heirs => Mode::Wild,
                _ => Mode::OneAtATime,
            },
            nodes: match aim {
                Aim::Stale => 7,
                Aim::Split => 2 + seed % 6,
                _ => 5,
            },
            edges: chance.below(2).max(u64::from(aim == Aim::LostAnswer)),
            workers: if aim == Aim::Split { 1 + seed / 6 % 2 } else { 1 },
            clients: chance.between(4, 7) as usize,
            channels: match aim {
                // With few of them each hears of a message in any moment.
                Aim::Heirs => 8,
                _ => chance.between(1, 3) as usize + usize::from(aim == Aim::Split),
            },
            redundancy: match aim {
                Aim::Flurry => chance.between(1, 2) as u8,
                Aim::LostAnswer | Aim::Split | Aim::Heirs => 0,
                _ => 1,
            },
            close_ms: 60_000,
            // What it aims at is rare, and needs more rounds.
            active_ms: match aim {
                Aim::Stale => 10_000,
                Aim::Split | Aim::Heirs => 12_000,
                _ => 4_000,
            },
            delay_ms: match aim {
                // Slow enough to see each step, and quick enough for what has to come before the next.
                Aim::Heirs => 10,
                _ => [1, 5, 20][chance.below(3) as usize],
            },
            faults: Faults::default(),
            ..Plan::of(seed)
        }
    }
}

impl World {
    /// Ten milliseconds of a plan that aims at one moment.
    pub fn aim(&mut self, aim: Aim) {
        for client in 0..self.clients.len() {
            if aim != Aim::Heirs && self.clients[client].at.is_some() && self.chance.per_mille(200) {
                self.publish(client);
            }
        }
        let now_ms = self.now_ms;
        self.suspected.retain(|_, until_ms| *until_ms > now_ms);
        if self.round.due_ms[3] <= now_ms {
            self.begin_round(aim);
        }
        while self.round.done < 3 && self.round.due_ms[self.round.done] <= now_ms {
            self.round.done += 1;
            self.step_of_round(aim, self.round.done);
        }
        if aim == Aim::Split {
            self.split_goes_on();
        }
        if aim == Aim::Heirs {
            self.heirs_go_on();
        }
        if aim == Aim::Alone {
            self.come_to_the_lonely();
        }
        if matches!(aim, Aim::Seals | Aim::Flurry) && self.chance.per_mille(120) {
            let living = self.living();
            let (Some(a), Some(b)) = (self.chance.pick(&living), self.chance.pick(&living)) else { return };
            self.net.break_link(now_ms, a, b, &mut self.chance);
        }
    }

    /// Chooses a channel and those who hold it, and when what happens to them.
    fn begin_round(&mut self, aim: Aim) {
        let (hub, channel) = (self.chance.pick(&[0, 1]).unwrap_or(0), self.channel());
        let key = ChannelKey::new(self.hubs[hub].id.clone(), channel);
        let newest = self.processes.values().max_by_key(|process| process.view_number());
        let view = newest.and_then(|process| process.views.view().cloned());
        let mut nodes = view.map_or_else(Vec::new, |view| view.holders(key.point(), 7));
        nodes.retain(|node| self.processes.get(&node.node).is_some_and(|process| process.id == *node));
        let steps: [(u64, u64); 4] = match aim {
            Aim::Alone => [(0, 0), (600, 1_400), (0, 0), (300, 700)],
            Aim::Pair => [(0, 0), (900, 1_800), (0, 0), (400, 900)],
            Aim::LastWord | Aim::LostAnswer => [(0, 0), (10, 60), (150, 330), (1_200, 2_000)],
            Aim::Skip => [(0, 60), (60, 150), (80, 200), (600, 1_200)],
            Aim::Flurry => [(0, 0), (40, 160), (40, 160), (60, 700)],
            Aim::Stale => [(0, 0), (150, 500), (0, 0), (600, 1_200)],
            Aim::Seals => [(0, 0), (0, 200), (50, 300), (300, 900)],
            Aim::Heirs => [(0, 0), (0, 0), (0, 0), (2_500, 3_000)],
            Aim::Split => [(600, 1_200), (SERVED_MS, SERVED_MS), (ANSWERED_MS, 1_500), (300, 1_200)],
        };
        let mut at_ms = self.now_ms;
        let due_ms = steps.map(|(least, most)| {
            at_ms += self.chance.between(least, most);
            at_ms
        });
        self.net.cuts.clear();
        self.cut_since.clear();
        self.round = Round { began_ms: self.now_ms, due_ms, done: 0, nodes, split: Split::default(), heirs: None };
        if aim == Aim::Heirs {
            self.begin_heirs();
        }
        if aim == Aim::Skip {
            let nodes = self.round.nodes.clone();
            nodes.get(1).iter().for_each(|node| self.cut_off(&[**node], false));
        }
    }

    fn step_of_round(&mut self, aim: Aim, step: usize) {
        if aim == Aim::Split {
            return self.step_of_split(step);
        }
        let nodes = self.round.nodes.clone();
        if nodes.len() < 5 {
            return;
        }
        let (now_ms, any) = (self.now_ms, nodes[self.chance.below(nodes.len() as u64) as usize]);
        match (aim, step) {
            (Aim::Alone, 1) => self.cut_off(&nodes[..1], true),
            (Aim::Pair, 1) => self.cut_off(&nodes[..2], true),
            (Aim::Alone | Aim::Pair, 2) | (Aim::Skip, 3) => {
                self.net.cuts.clear();
                self.cut_since.clear();
            }
            (Aim::LastWord, 1) => drop(self.net.cuts.insert((nodes[0].node, nodes[1].node))),
            (Aim::LostAnswer, 1) => {
                let edge = self.plan.nodes;
                self.net.slow = [(edge, 80)].into();
                self.net.cuts.insert((nodes[0].node, edge));
            }
            (Aim::LastWord, 2) => {
                nodes[2..].iter().for_each(|node| self.net.break_link(now_ms, nodes[0], *node, &mut self.chance));
            }
            // Its answers are late by then, and what it was told just before is nowhere else.
            (Aim::LastWord | Aim::LostAnswer, 3) if self.may_crash() => self.crash(nodes[0].node),
            (Aim::Skip, 1) => self.suspect(nodes[0], 500),
            (Aim::Skip, 2) => self.suspect(nodes[3], 500),
            (Aim::Stale, 1) => {
                self.net.slow.clear();
                self.net.slow.insert(nodes[nodes.len() - 1].node, 250);
                self.suspect(nodes[0], 900);
            }
            (Aim::Stale, 2) => nodes[1..3].iter().for_each(|node| self.suspect(*node, 600)),
            (Aim::Flurry, 1) => {
                self.net.slow.clear();
                let slow_ms = self.chance.below(120);
                self.net.slow.insert(any.node, slow_ms);
                self.suspect(nodes[0], 300);
            }
            (Aim::Flurry, _) => self.suspect(any, 300),
            (Aim::Seals, 1) => {
                self.net.slow.clear();
                self.net.slow.insert(any.node, 150);
                self.suspect(nodes[0], 100);
            }
            _ => {}
        }
    }

    /// These and the others don't reach each other; gossip may know.
    pub fn cut_off(&mut self, side: &[NodeId], told: bool) {
        let now_ms = self.now_ms;
        for other in self.living().into_iter().filter(|other| !side.contains(other)) {
            for one in side {
                for pair in [(one.node, other.node), (other.node, one.node)] {
                    self.net.cuts.insert(pair);
                    if told {
                        self.cut_since.entry(pair).or_insert(now_ms);
                    }
                }
            }
        }
    }

    /// The others take this node for dead although it lives.
    pub fn suspect(&mut self, node: NodeId, ms: u64) {
        for observer in self.living() {
            self.suspected.insert((observer.node, node.node), self.now_ms + ms);
        }
    }

    /// Some clients lose their connections, and find the node that is cut off.
    fn come_to_the_lonely(&mut self) {
        let cut_off = self.round.done == 1 && self.now_ms > self.round.began_ms + 300;
        let Some(node) = self.round.nodes.first().copied().filter(|_| cut_off) else { return };
        let client = self.chance.below(self.clients.len() as u64) as usize;
        if self.clients[client].at.is_none_or(|at| at.node != node) && self.chance.per_mille(200) {
            self.break_connection(client);
            self.connect(client, node.node);
            for channel in self.clients[client].wanted.clone() {
                self.ask_subscribe(client, channel);
            }
        }
    }
}
