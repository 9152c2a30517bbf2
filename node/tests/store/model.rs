//! Random channels, and what their pages must hold by a model that keeps a plain list.

use appsockets_core::{
    channel::ChannelKey,
    message::Message,
    serial::Serial,
    session::{
        event::HistoryPage,
        request::HistoryBound::{self, AfterSerial, AfterTimestamp, BeforeSerial, BeforeTimestamp, Newest},
    },
};
use appsockets_node::store::StoreError;
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use crate::{batch, message, serial, suite::Store};

const CASES: u32 = 60;

/// One append to the channel.
#[derive(Clone, Debug)]
enum Step {
    /// Messages by how far sequence and time go on from the last.
    Append(Vec<(u64, u64)>),
    /// The same in a new epoch.
    Begin(Vec<(u64, u64)>),
    /// The last so many numbers of the epoch are given again, this much later.
    Repeat(usize, u64),
}

#[derive(Debug, Default)]
struct Model {
    epoch: u64,
    /// In their order in the channel.
    messages: Vec<Message>,
}

pub async fn pages_are_those_of_the_model<S: Store>(store: &S) {
    let mut runner = TestRunner::new(Config { failure_persistence: None, ..Config::default() });
    let channel = (prop::collection::vec(steps(), 0..12), prop::collection::vec((bounds(), 1..6_u32), 30));
    for case in 0..CASES {
        let (steps, questions) = channel.new_tree(&mut runner).unwrap().current();
        let key = ChannelKey::new("hub", format!("case {case}"));
        let mut model = Model::default();
        for step in &steps {
            store.append(batch(&key, model.step(step))).await.unwrap();
        }
        for (bound, limit) in questions {
            let page = store.page(&key, bound, limit).await;
            let told = format!("{bound:?}, limit {limit}, after {steps:?}");
            match (page, model.page(bound, limit as usize)) {
                (Ok(page), Some(expected)) => assert_eq!(page, expected, "{told}"),
                (Err(StoreError::UnknownEpoch), None) => {}
                (page, expected) => panic!("{page:?} is not {expected:?}: {told}"),
            }
        }
        walks_lose_and_repeat_nothing(store, &key, &model).await;
    }
}

/// From the newest to the oldest, page by page, each way of going on.
async fn walks_lose_and_repeat_nothing<S: Store>(store: &S, key: &ChannelKey, model: &Model) {
    let ways: [fn(&Message) -> HistoryBound; 2] =
        [|last| BeforeSerial(last.serial), |last| BeforeTimestamp(last.ts_ms)];
    for way in ways {
        let mut page = store.page(key, Newest, 3).await.unwrap();
        let mut walked = page.messages;
        while page.more {
            page = store.page(key, way(walked.last().unwrap()), 3).await.unwrap();
            walked.append(&mut page.messages);
        }
        walked.reverse();
        assert_eq!(walked, model.messages);
    }
}

fn steps() -> impl Strategy<Value = Step> {
    let messages = || prop::collection::vec((1..4_u64, 0..3_u64), 1..6);
    prop_oneof![
        4 => messages().prop_map(Step::Append),
        2 => messages().prop_map(Step::Begin),
        1 => (1..4_usize, 0..3_u64).prop_map(|(count, later)| Step::Repeat(count, later)),
    ]
}

/// Over a range a little larger than what is stored.
fn bounds() -> impl Strategy<Value = HistoryBound> {
    let serials = || (0..6_u64, 0..20_u64).prop_map(|(epoch, sequence)| serial(epoch, sequence));
    prop_oneof![
        1 => Just(Newest),
        3 => (99..150_u64).prop_map(BeforeTimestamp),
        3 => (99..150_u64).prop_map(AfterTimestamp),
        3 => serials().prop_map(BeforeSerial),
        3 => serials().prop_map(AfterSerial),
    ]
}

impl Model {
    /// What the step appends, put into the model too.
    fn step(&mut self, step: &Step) -> Vec<Message> {
        match step {
            Step::Append(gaps) => self.append(gaps),
            Step::Begin(gaps) => {
                self.epoch += 1;
                self.append(gaps)
            }
            Step::Repeat(count, later) => self.repeat(*count, *later),
        }
    }

    fn append(&mut self, gaps: &[(u64, u64)]) -> Vec<Message> {
        let begin = self.messages.len();
        for (numbers, later) in gaps {
            let in_epoch = self.messages.last().filter(|last| last.serial.epoch == serial(self.epoch, 0).epoch);
            let sequence = in_epoch.map_or(0, |last| last.serial.sequence) + numbers;
            self.messages.push(message(self.epoch, sequence, self.last_ts() + later));
        }
        self.messages[begin..].to_vec()
    }

    fn repeat(&mut self, count: usize, later: u64) -> Vec<Message> {
        let ts_ms = self.last_ts() + later;
        let epoch = serial(self.epoch, 0).epoch;
        let begin = self.messages.iter().position(|message| message.serial.epoch == epoch);
        let begin = begin.unwrap_or(self.messages.len()).max(self.messages.len().saturating_sub(count));
        for old in &mut self.messages[begin..] {
            *old = message(self.epoch, old.serial.sequence, ts_ms);
        }
        self.messages[begin..].to_vec()
    }

    fn last_ts(&self) -> u64 {
        self.messages.last().map_or(100, |last| last.ts_ms)
    }

    /// None if the bound's epoch is unknown.
    fn page(&self, bound: HistoryBound, limit: usize) -> Option<HistoryPage> {
        let (candidates, whole_ms) = self.candidates(bound)?;
        let mut taken = limit.min(candidates.len());
        if whole_ms {
            taken = 0;
            for millisecond in candidates.chunk_by(|a, b| a.ts_ms == b.ts_ms) {
                if taken > 0 && taken + millisecond.len() > limit {
                    break;
                }
                taken += millisecond.len();
            }
        }
        Some(HistoryPage { messages: candidates[..taken].to_vec(), more: taken < candidates.len() })
    }

    /// All that the bound leaves, in the order of the page.
    fn candidates(&self, bound: HistoryBound) -> Option<(Vec<Message>, bool)> {
        let all = self.messages.iter().cloned();
        Some(match bound {
            Newest => (all.rev().collect(), true),
            BeforeTimestamp(ts_ms) => (all.filter(|message| message.ts_ms < ts_ms).rev().collect(), true),
            AfterTimestamp(ts_ms) => (all.filter(|message| message.ts_ms > ts_ms).collect(), true),
            BeforeSerial(serial) => (all.take(self.places(serial)?.0).rev().collect(), false),
            AfterSerial(serial) => (all.skip(self.places(serial)?.1).collect(), false),
            HistoryBound::Bad => return None,
        })
    }

    /// How many messages stand before the serial, and how many up to it.
    fn places(&self, serial: Serial) -> Option<(usize, usize)> {
        let in_epoch = |message: &&Message| message.serial.epoch == serial.epoch;
        let begin = self.messages.iter().position(|message| in_epoch(&message))?;
        let lower = |up_to: &dyn Fn(u64) -> bool| {
            begin + self.messages.iter().filter(in_epoch).filter(|message| up_to(message.serial.sequence)).count()
        };
        Some((lower(&|sequence| sequence < serial.sequence), lower(&|sequence| sequence <= serial.sequence)))
    }
}
