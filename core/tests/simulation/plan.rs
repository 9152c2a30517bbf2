//! What a seed makes of a run: how many of everything there are, and what may go wrong.

use crate::{aimed::Aim, chance::Chance};

/// How rough a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nodes join and leave, and links are slow: no client may notice anything.
    Planned,
    /// Anything may fail, but processes end one at a time: nothing acknowledged may be lost where there are copies.
    OneAtATime,
    /// Anything may fail together: whoever lacks something is told so.
    Wild,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub seed: u64,
    pub mode: Mode,
    /// The moment that it aims at; none where chance alone decides what goes wrong.
    pub aim: Option<Aim>,
    pub nodes: u64,
    pub edges: u64,
    pub workers: u64,
    pub clients: usize,
    pub channels: usize,
    pub redundancy: u8,
    /// Whether publishes are refused while there are too few nodes for the copies.
    pub required: bool,
    /// How long an unused channel stays open, in milliseconds. Where that is short, what was in it is gone with it.
    pub close_ms: u64,
    /// The time in which things happen, in milliseconds.
    pub active_ms: u64,
    /// The longest way of a message, in milliseconds.
    pub delay_ms: u64,
    /// Of 1,000 steps of 10 ms, how many begin each kind of fault.
    pub faults: Faults,
    /// Steps that are left out, to make a failing run shorter.
    pub quiet_after_ms: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Faults {
    pub crash: u64,
    pub break_link: u64,
    pub cut: u64,
    pub pause: u64,
    pub suspect: u64,
    pub leave: u64,
    /// More than half of the members end at once, and of each channel somebody is left who has it.
    pub majority: u64,
}

impl Plan {
    /// On how many other nodes the messages of a channel are to be.
    pub fn copies(&self, channel: &str) -> u8 {
        if self.aim == Some(Aim::Split) && channel == "c0" { 1 } else { self.redundancy }
    }

    /// Whether nothing acknowledged in the channel may be lost.
    pub fn keeps_all(&self, channel: &str) -> bool {
        let survives = match self.mode {
            Mode::Planned => true,
            Mode::OneAtATime => self.copies(channel) > 0,
            Mode::Wild => false,
        };
        survives && self.close_ms > self.active_ms
    }

    pub fn of(seed: u64) -> Plan {
        let mut chance = Chance::new(seed.wrapping_mul(0x2545_f491_4f6c_dd1d));
        let mode = [Mode::Planned, Mode::OneAtATime, Mode::OneAtATime, Mode::Wild][chance.below(4) as usize];
        let rate = |chance: &mut Chance, most: u64| if chance.per_mille(600) { chance.below(most + 1) } else { 0 };
        let faults = match mode {
            Mode::Planned => Faults { leave: rate(&mut chance, 15), ..Faults::default() },
            Mode::OneAtATime | Mode::Wild => Faults {
                crash: rate(&mut chance, 10),
                break_link: rate(&mut chance, 40),
                cut: rate(&mut chance, 12),
                pause: rate(&mut chance, 8),
                suspect: rate(&mut chance, 10),
                leave: rate(&mut chance, 8),
                majority: 0,
            },
        };
        let mut plan = Plan {
            seed,
            mode,
            aim: None,
            nodes: chance.between(3, 5),
            edges: chance.below(2),
            workers: chance.between(1, 2),
            clients: chance.between(4, 9) as usize,
            channels: chance.between(2, 6) as usize,
            redundancy: [1, 1, 1, 2, 0][chance.below(5) as usize],
            close_ms: if chance.per_mille(200) { 700 } else { 60_000 },
            active_ms: chance.between(2_000, 6_000),
            delay_ms: [1, 5, 20, 60][chance.below(4) as usize],
            faults,
            quiet_after_ms: u64::MAX,
            // Drawn after all else, so that what came before stays as it was.
            required: chance.per_mille(250),
        };
        if mode != Mode::Planned && chance.per_mille(300) {
            plan.faults.majority = chance.between(3, 12);
        }
        plan
    }
}
