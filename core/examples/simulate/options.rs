//! What is asked on the command line. `cargo xtask sim --help` explains it.

use std::thread;

use crate::{
    aimed::{self, Aim},
    plan::Plan,
    spelled,
};

pub struct Options {
    pub seeds: Seeds,
    /// Print every message between nodes and every event that a client is told.
    pub trace: bool,
    /// A plan was given: it is run as it is.
    given: bool,
    /// Plans that aim at one moment.
    aim: Option<Aim>,
    /// End at the first seed that fails.
    first: bool,
}

pub enum Seeds {
    One(Box<Plan>),
    Many { from: u64, count: Option<u64>, minutes: Option<u64> },
}

/// What is run if nothing is asked.
const COUNT: u64 = 1_000;

impl Options {
    pub fn parse(mut words: impl Iterator<Item = String>) -> Result<Options, String> {
        let (mut seed, mut count, mut from, mut minutes) = (None, None, 0, None);
        let (mut trace, mut text, mut aim, mut first) = (false, None, None, false);
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match &*word {
                "--trace" => trace = true,
                "--seed" => seed = Some(number(&value()?)?),
                "--seeds" => count = Some(number(&value()?)?),
                "--from" => from = number(&value()?)?,
                "--minutes" => minutes = Some(number(&value()?)?),
                "--plan" => text = Some(value()?),
                "--aimed" => aim = Some(aimed(&value()?)?),
                "--first" => first = true,
                _ => return Err(format!("{word}: not an option")),
            }
        }
        let seeds = match seed {
            Some(seed) => Seeds::One(Box::new(spelled::parse(of(aim, seed), text.as_deref().unwrap_or(""))?)),
            None if text.is_some() || trace => return Err("--plan and --trace need a --seed".to_owned()),
            None if count.is_none() && minutes.is_none() => Seeds::Many { from, count: Some(COUNT), minutes },
            None => Seeds::Many { from, count, minutes },
        };
        Ok(Options { seeds, trace, given: text.is_some(), aim, first })
    }

    /// Whether a failing plan is made smaller.
    pub fn shrinks(&self) -> bool {
        !self.trace && !self.given && !self.first
    }

    pub fn plan(&self, seed: u64) -> Plan {
        of(self.aim, seed)
    }

    /// Seeds at a time. To find the first that fails they run one after the other.
    pub fn threads(&self) -> usize {
        if self.first { 1 } else { thread::available_parallelism().map_or(1, usize::from) }
    }

    /// Failures after which no further seed is begun.
    pub fn failures_max(&self) -> usize {
        if self.first { 1 } else { 100 }
    }
}

fn of(aim: Option<Aim>, seed: u64) -> Plan {
    aim.map_or_else(|| Plan::of(seed), |aim| Plan::aimed(aim, seed))
}

fn aimed(name: &str) -> Result<Aim, String> {
    let known = aimed::ALL.iter().find(|(other, _)| *other == name).map(|(_, aim)| *aim);
    known.ok_or(format!("{name}: no plan is aimed at that"))
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text}: not a number"))
}
