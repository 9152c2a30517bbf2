//! What was sent, what was acknowledged, and whether a history keeps to it.

use std::collections::{HashMap, HashSet};

use appsockets_core::serial::Serial;

/// Every message that was sent, by channel and by text, which no two messages share.
#[derive(Default)]
pub struct Ledger {
    channels: HashMap<String, HashMap<String, Fate>>,
}

/// What the sender knows of a message.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    /// It may be there or not.
    Unanswered,
    /// It is there from now on, under this serial.
    Acknowledged(Serial),
}

/// A message as a history has it.
#[derive(Clone, Debug)]
pub struct Stored {
    pub text: String,
    pub serial: Serial,
}

impl Ledger {
    pub fn sent(&mut self, channel: &str, text: &str) {
        let fates = self.channels.entry(channel.to_owned()).or_default();
        assert_eq!(fates.insert(text.to_owned(), Fate::Unanswered), None, "two messages of one text: {text}");
    }

    pub fn acknowledged(&mut self, channel: &str, text: &str, serial: Serial) {
        let fates = self.channels.get_mut(channel).expect("a channel that was sent to");
        let before = fates.insert(text.to_owned(), Fate::Acknowledged(serial));
        assert_eq!(before, Some(Fate::Unanswered), "acknowledged and never sent, or twice: {text}");
    }

    pub fn channels(&self) -> impl Iterator<Item = &str> {
        self.channels.keys().map(String::as_str)
    }

    /// How many messages were acknowledged, and how many were not.
    pub fn counts(&self) -> (usize, usize) {
        let fates = || self.channels.values().flat_map(HashMap::values);
        let unanswered = fates().filter(|fate| **fate == Fate::Unanswered).count();
        (fates().count() - unanswered, unanswered)
    }

    /// Compares with the whole history of a channel, oldest first. Gives how many messages are there without having
    /// been acknowledged, or what is wrong.
    pub fn judge(&self, channel: &str, history: &[Stored]) -> Result<usize, String> {
        let none = HashMap::new();
        let fates = self.channels.get(channel).unwrap_or(&none);
        let mut found = HashSet::new();
        let mut unacknowledged = 0;
        for Stored { text, serial } in history {
            match fates.get(text) {
                None => return Err(format!("nobody sent what is stored as {serial}: {text}")),
                Some(Fate::Acknowledged(told)) if told != serial => {
                    return Err(format!("acknowledged as {told} and stored as {serial}: {text}"));
                }
                Some(Fate::Acknowledged(_)) => {}
                Some(Fate::Unanswered) => unacknowledged += 1,
            }
            if !found.insert(text.as_str()) {
                return Err(format!("stored twice, the second time as {serial}: {text}"));
            }
        }
        judge_order(history)?;
        let lost: Vec<_> = fates.iter().filter(|(text, _)| !found.contains(text.as_str())).filter_map(serial).collect();
        match lost.first() {
            None => Ok(unacknowledged),
            Some(first) => Err(format!("lost {} acknowledged messages, one of them {first}", lost.len())),
        }
    }
}

fn serial((_, fate): (&String, &Fate)) -> Option<Serial> {
    match fate {
        Fate::Acknowledged(serial) => Some(*serial),
        Fate::Unanswered => None,
    }
}

/// An epoch is one stretch of the history, and its sequences ascend.
fn judge_order(history: &[Stored]) -> Result<(), String> {
    let mut epochs = HashSet::new();
    let mut last: Option<Serial> = None;
    for Stored { serial, .. } in history {
        match last {
            Some(last) if last.epoch == serial.epoch && last.sequence < serial.sequence => {}
            Some(last) if last.epoch == serial.epoch => return Err(format!("{serial} comes after {last}")),
            _ if epochs.insert(serial.epoch) => {}
            _ => return Err(format!("the epoch of {serial} is there in two stretches")),
        }
        last = Some(*serial);
    }
    Ok(())
}

/// The judge, judged.
mod tests {
    use super::{Ledger, Serial, Stored};

    /// Two epochs; the first message of the second was not acknowledged.
    const SENT: [(&str, &str, bool); 4] =
        [("a", "1-0-1-0:1", true), ("b", "1-0-1-0:2", true), ("c", "1-0-2-0:1", false), ("d", "1-0-2-0:2", true)];

    fn ledger() -> Ledger {
        let mut ledger = Ledger::default();
        for (text, serial, acknowledged) in SENT {
            ledger.sent("news", text);
            if acknowledged {
                ledger.acknowledged("news", text, serial.parse().unwrap());
            }
        }
        ledger
    }

    fn judge(history: &[(&str, &str)]) -> Result<usize, String> {
        let stored = |(text, serial): &(&str, &str)| Stored { text: (*text).into(), serial: serial.parse().unwrap() };
        ledger().judge("news", &history.iter().map(stored).collect::<Vec<_>>())
    }

    /// The history as it was sent, after a change.
    fn judge_after(change: impl FnOnce(&mut Vec<(&str, &str)>)) -> Result<usize, String> {
        let mut history: Vec<_> = SENT.iter().map(|(text, serial, _)| (*text, *serial)).collect();
        change(&mut history);
        judge(&history)
    }

    #[test]
    fn what_was_not_acknowledged_may_be_there_or_not() {
        assert_eq!(ledger().counts(), (3, 1));
        assert_eq!(judge_after(|_| {}), Ok(1));
        assert_eq!(judge_after(|history| history.retain(|(text, _)| *text != "c")), Ok(0));
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        assert!(judge_after(|history| history.retain(|(text, _)| *text != "b")).unwrap_err().starts_with("lost 1 "));
        assert!(judge(&[]).unwrap_err().starts_with("lost 3 "));
        let renumbered = judge_after(|history| history[3].1 = "1-0-2-0:3");
        assert!(renumbered.unwrap_err().starts_with("acknowledged as 1-0-2-0:2 and stored as 1-0-2-0:3"));
    }

    #[test]
    fn nothing_is_there_twice_or_changed() {
        assert!(judge_after(|history| history.push(("c", "1-0-2-0:3"))).unwrap_err().starts_with("stored twice"));
        assert!(judge_after(|history| history[2].0 = "C").unwrap_err().starts_with("nobody sent"));
    }

    #[test]
    fn the_order_is_that_of_the_serials() {
        let swapped = judge_after(|history| history.swap(0, 1));
        assert_eq!(swapped, Err("1-0-1-0:1 comes after 1-0-1-0:2".into()));
        let split = judge_after(|history| history.swap(1, 2));
        assert_eq!(split, Err("the epoch of 1-0-1-0:2 is there in two stretches".into()));
        assert_eq!(judge(&[("a", "1-0-1-0:1"), ("b", "1-0-1-0:2"), ("d", "1-0-2-0:2")]), Ok(0));
        let stored = Serial { sequence: 7, .."1-0-1-0:1".parse().unwrap() };
        assert_eq!(Ledger::default().judge("news", &[]), Ok(0));
        assert!(Ledger::default().judge("news", &[Stored { text: "a".into(), serial: stored }]).is_err());
    }
}
