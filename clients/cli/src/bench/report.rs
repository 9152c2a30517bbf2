//! What was found, and whether it is well.

use std::{collections::BTreeMap, fmt::Write};

use appsockets_client::{Ended, Failure};
use serde_json::{Value, json};

use super::{Options, histogram::Histogram, listen::Heard, load::Sent};
use crate::fault::Fault;

/// The parts of ten thousand that are shown, with their names.
const QUANTILES: [(&str, u64); 4] = [("p50", 5_000), ("p90", 9_000), ("p99", 9_900), ("p999", 9_990)];

/// All publishers and all subscribers together.
#[derive(Default)]
pub struct Report {
    setup: String,
    accepted: u64,
    refused: BTreeMap<String, u64>,
    first_refusal: Option<Failure>,
    unknown: u64,
    /// How many messages all subscribers together should have heard.
    expected: u64,
    heard: u64,
    lost: u64,
    repeated: u64,
    disordered: u64,
    gaps: u64,
    delivery: Histogram,
    acknowledgement: Histogram,
    ended: Option<Ended>,
}

impl Report {
    pub fn new(options: &Options, sent: &[Sent], heard: &[Heard]) -> Report {
        let Options { channel, subscribers, publishers, rate, seconds, size, connection: _ } = options;
        let accepted = sent.iter().map(|sent| sent.accepted.iter().filter(|accepted| **accepted).count() as u64).sum();
        let setup = format!(
            "{publishers} publishers at {rate}/s for {seconds} s, {size} bytes, {subscribers} subscribers to {channel}"
        );
        let expected = accepted * u64::from(*subscribers);
        let mut report = Report { setup, accepted, expected, ..Report::default() };
        sent.iter().for_each(|sent| report.add_sent(sent));
        heard.iter().for_each(|heard| report.add_heard(heard, sent));
        report
    }

    fn add_sent(&mut self, sent: &Sent) {
        self.unknown += sent.unknown;
        self.acknowledgement.merge(&sent.times);
        for (name, (count, first)) in &sent.refused {
            *self.refused.entry(name.clone()).or_default() += count;
            self.first_refusal = self.first_refusal.take().or_else(|| first.clone());
        }
    }

    fn add_heard(&mut self, heard: &Heard, sent: &[Sent]) {
        self.heard += heard.messages;
        self.gaps += heard.gaps;
        self.delivery.merge(&heard.times);
        self.ended = self.ended.take().or_else(|| heard.ended.clone());
        for (sent, publisher) in sent.iter().zip(0..) {
            let ledger = heard.by_publisher.get(&publisher).cloned().unwrap_or_default();
            self.lost += ledger.lost(&sent.accepted);
            self.repeated += ledger.repeated;
            self.disordered += ledger.disordered;
        }
    }

    pub fn text(&self) -> String {
        let refused: u64 = self.refused.values().sum();
        let names: String = self.refused.iter().fold(String::new(), |mut names, (name, count)| {
            // Writing to a String can't fail.
            let _ = write!(names, "  {name} {count}");
            names
        });
        let Report { setup, accepted, unknown, expected, heard, lost, repeated, disordered, gaps, .. } = self;
        format!(
            "{setup}\n\
             published  {accepted} accepted, {refused} refused, {unknown} without an answer{names}\n\
             heard      {heard} of {expected}: {lost} lost, {repeated} repeated, {disordered} out of order, {gaps} gaps told\n\
             delivery   {}\n\
             answer     {}\n\
             Times count from when a message was due.",
            times(&self.delivery),
            times(&self.acknowledgement),
        )
    }

    pub fn json(&self) -> Value {
        json!({
            "accepted": self.accepted,
            "refused": self.refused,
            "unknown": self.unknown,
            "expected": self.expected,
            "heard": self.heard,
            "lost": self.lost,
            "repeated": self.repeated,
            "outOfOrder": self.disordered,
            "gaps": self.gaps,
            "deliveryUs": quantiles(&self.delivery),
            "answerUs": quantiles(&self.acknowledgement),
        })
    }

    /// The worst that was found, if it was not well.
    pub fn verdict(&self) -> Result<(), Fault> {
        if self.lost + self.repeated + self.disordered > 0 {
            return Err(Fault::broken("messages were lost, repeated or out of order"));
        }
        if let Some(ended) = &self.ended {
            return Err(Fault::from(ended.clone()));
        }
        match (&self.first_refusal, self.refused.is_empty(), self.unknown) {
            (Some(failure), ..) => Err(Fault::from(failure.clone())),
            (None, false, _) => Err(Fault::unreachable("answers were so late that not everything could be published")),
            (None, true, 0) => Ok(()),
            (None, true, _) => Err(Fault::unreachable("not every publish was answered")),
        }
    }
}

fn times(histogram: &Histogram) -> String {
    let mut text = String::new();
    for (name, part) in QUANTILES {
        let _ = write!(text, "{name} {}  ", ms(histogram.quantile(part)));
    }
    text + &format!("max {} ms", ms(histogram.max()))
}

fn ms(us: u64) -> String {
    format!("{}.{:02}", us / 1_000, us % 1_000 / 10)
}

fn quantiles(histogram: &Histogram) -> Value {
    let mut value = json!({"max": histogram.max()});
    for (name, part) in QUANTILES {
        value[name] = json!(histogram.quantile(part));
    }
    value
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::Report;
    use crate::{
        bench::{histogram::Histogram, ledger::Ledger, listen::Heard, load::Sent},
        fault::{Exit, Fault},
    };

    fn exit(report: Report) -> Option<Exit> {
        report.verdict().err().map(|Fault { exit, .. }| exit)
    }

    #[test]
    fn only_a_whole_run_is_well() {
        let refused: BTreeMap<_, _> = [("queue_full".to_owned(), 1)].into();
        assert_eq!(exit(Report::default()), None);
        assert_eq!(exit(Report { lost: 1, ..Report::default() }), Some(Exit::Broken));
        assert_eq!(exit(Report { repeated: 1, ..Report::default() }), Some(Exit::Broken));
        assert_eq!(exit(Report { disordered: 1, ..Report::default() }), Some(Exit::Broken));
        assert_eq!(exit(Report { unknown: 1, ..Report::default() }), Some(Exit::Unreachable));
        assert_eq!(exit(Report { refused, ..Report::default() }), Some(Exit::Unreachable));
    }

    #[test]
    fn what_one_subscriber_misses_is_lost() {
        let mut ledger = Ledger::default();
        ledger.take(0);
        let sent = [Sent { accepted: vec![true, true], ..Sent::default() }];
        let heard = |by_publisher| Heard { by_publisher, messages: 1, times: Histogram::default(), ..Heard::default() };
        let mut report = Report::default();
        report.add_heard(&heard([(0, ledger)].into()), &sent);
        // One that hears nothing at all has no ledger.
        report.add_heard(&heard(BTreeMap::new()), &sent);
        assert_eq!(report.lost, 3);
    }
}
