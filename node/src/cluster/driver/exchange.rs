//! When to read the settings and the metadata of channels of which node.
//!
//! Nodes say which revision they serve, and which digest their metadata has. One that says so and differs is read at once, and all that still differ by
//! a timer: a notice may be lost, and a pull may fail.

use std::collections::BTreeMap;

use appsockets_core::{cluster::view::NodeId, time::Now};
use appsockets_proto::cluster::frame;

use super::{Done, Driver};
use crate::cluster::link::{self, Failure, Pulled, Reached};

/// Nodes that are read at a time. Most of those that say something new say the same, so after the first all is read.
const PULLS_MAX: usize = 2;
/// The first and the longest pause after a failure.
const RETRY_MS_MIN: u64 = 100;
const RETRY_MS_MAX: u64 = 10_000;
/// How long what could not be used is left alone, while the node says nothing new.
const REFUSED_MS: u64 = 60_000;

/// What was read from each run of a node. Another run is read from the beginning: its database may be another, or an
/// older state of the same.
#[derive(Debug, Default)]
pub struct Pulls(BTreeMap<NodeId, Pull>);

#[derive(Debug, Default)]
struct Pull {
    reached: Reached,
    /// The node has spoken since, also if it said what it had said before: revisions come again when a change is undone.
    has_spoken: bool,
    running: bool,
    failures: u32,
    next_ms: u64,
}

impl Pull {
    fn is_due(&self, now_ms: u64) -> bool {
        let at_once = self.has_spoken && self.failures == 0;
        !self.running && (at_once || now_ms >= self.next_ms)
    }

    fn begin(&mut self) -> Reached {
        (self.running, self.has_spoken) = (true, false);
        self.reached
    }

    fn end(&mut self, now_ms: u64, interval_ms: u64, outcome: &Result<Pulled, Failure>) {
        self.running = false;
        let pause_ms = match outcome {
            Ok(pulled) => {
                (self.reached, self.failures) = (pulled.reached, 0);
                match pulled {
                    Pulled { more: true, .. } => 0,
                    Pulled { refused: true, .. } => REFUSED_MS.max(interval_ms),
                    _ => interval_ms,
                }
            }
            Err(_) => {
                self.failures += 1;
                (RETRY_MS_MIN << self.failures.min(10)).min(RETRY_MS_MAX)
            }
        };
        self.next_ms = now_ms + pause_ms;
    }
}

impl Driver {
    /// Reads what those have that have something else than this node.
    pub(super) fn pull(&mut self, now: Now) {
        let mine = self.local.settings.current().revision.to_string();
        let my_metadata = self.local.settings.metadata_digest();
        self.pulls.0.retain(|id, pull| pull.running || self.nodes.get_mut(*id).is_some());
        let mut running = self.pulls.0.values().filter(|pull| pull.running).count();
        for (id, address, revision, metadata) in self.nodes.serving() {
            let pull = self.pulls.0.entry(id).or_default();
            let is_same = *revision == mine && metadata.is_none_or(|digest| digest == my_metadata);
            if is_same && self.local.settings.are_complete() {
                pull.has_spoken = false;
            } else if running < PULLS_MAX && pull.is_due(now.mono_ms) {
                running += 1;
                let pulling = link::pull(self.local.clone(), address, id, pull.begin());
                let pulling = async move { Done::Pulled { id, outcome: pulling.await } };
                // Elsewhere: to merge many settings takes long, and the cluster must not wait.
                self.tasks.spawn_on(pulling, &self.runtime);
            }
        }
    }

    /// A node has said what it has.
    pub(super) fn settings_told(&mut self, now: Now, id: NodeId) {
        self.pulls.0.entry(id).or_default().has_spoken = true;
        self.pull(now);
    }

    pub(super) fn pulled(&mut self, now: Now, id: NodeId, outcome: &Result<Pulled, Failure>) {
        if let Err(failure) = outcome {
            tracing::warn!(node = id.node, %failure, "its settings were not read");
        }
        if let Some(pull) = self.pulls.0.get_mut(&id) {
            pull.end(now.mono_ms, self.settings_interval_ms, outcome);
        }
        self.pull(now);
    }

    /// This node has other settings or metadata: its peers hear it now, all others by gossip.
    pub(super) fn settings_changed(&mut self, now: Now) {
        self.say_hello();
        self.tell_views(now);
        self.pull(now);
    }

    /// Something may have changed between the first word of a link and now.
    pub(super) fn say_hello_to(&self, id: NodeId) {
        if let Some(link) = self.nodes.link(id) {
            link.outgoing.send(frame::Frame::Hello(self.local.hello()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Failure, Pull, Pulled, REFUSED_MS, RETRY_MS_MAX, Reached};

    const INTERVAL_MS: u64 = 1_000;
    const REACHED: Reached = Reached { settings: 7, metadata: 3 };
    const READ: Pulled = Pulled { reached: REACHED, more: false, refused: false };

    fn read(outcome: &Result<Pulled, Failure>) -> Pull {
        let mut pull = Pull { has_spoken: true, ..Pull::default() };
        assert!(pull.is_due(0));
        assert_eq!(pull.begin(), Reached::default());
        assert!(!pull.is_due(u64::MAX), "once at a time");
        pull.end(0, INTERVAL_MS, outcome);
        pull
    }

    #[test]
    fn a_node_that_speaks_is_read_at_once_and_others_by_the_timer() {
        let mut pull = read(&Ok(READ));
        assert!(!pull.is_due(INTERVAL_MS - 1) && pull.is_due(INTERVAL_MS));
        pull.has_spoken = true;
        assert!(pull.is_due(0));
        assert_eq!(pull.begin(), REACHED);
        // What it says meanwhile is not forgotten.
        pull.has_spoken = true;
        pull.end(0, INTERVAL_MS, &Ok(READ));
        assert!(pull.is_due(0));
    }

    #[test]
    fn what_is_left_is_read_at_once() {
        assert!(read(&Ok(Pulled { more: true, ..READ })).is_due(0));
    }

    #[test]
    fn what_can_not_be_used_is_left_alone_until_the_node_speaks() {
        let mut pull = read(&Ok(Pulled { refused: true, ..READ }));
        assert!(!pull.is_due(REFUSED_MS - 1) && pull.is_due(REFUSED_MS));
        pull.has_spoken = true;
        assert!(pull.is_due(0));
    }

    #[test]
    fn after_failures_the_pauses_grow_whatever_the_node_says() {
        let mut pull = read(&Err(Failure::Silent));
        pull.has_spoken = true;
        let (mut now_ms, mut pauses_ms) = (0, Vec::new());
        for _ in 0..30 {
            pauses_ms.push(pull.next_ms - now_ms);
            assert!(!pull.is_due(pull.next_ms - 1) && pull.is_due(pull.next_ms));
            now_ms = pull.next_ms;
            pull.begin();
            pull.end(now_ms, INTERVAL_MS, &Err(Failure::Replaced));
        }
        assert!(pauses_ms.is_sorted() && pauses_ms[0] < pauses_ms[1]);
        assert_eq!(pauses_ms.last(), Some(&RETRY_MS_MAX));
        pull.begin();
        pull.end(now_ms, INTERVAL_MS, &Ok(READ));
        assert!(pull.is_due(now_ms + INTERVAL_MS));
    }
}
