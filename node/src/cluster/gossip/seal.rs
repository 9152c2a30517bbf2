//! Datagrams that only members can make or read, each taken once.
//!
//! Sealed under the membership secret, with the cluster's name as associated data. Inside, before the content, stand the sender's run and a counter that rises with each datagram, as
//! for the replay window of IPsec (RFC 4303, 3.4.3). Who has not been heard yet must show a time near the receiver's, so
//! that a node that starts takes nothing old.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
};

use appsockets_core::cluster::view::NodeId;

use crate::{ciphers::Ciphers, edge::clock, secret::Secret};

const HEADER_BYTES: usize = 32;

/// How far the clock of a node that was not heard yet may be away.
const CLOCK_MS: u64 = 60_000;
/// Counters behind the greatest one that may still come: UDP changes the order.
const WINDOW: u64 = 64;
/// Senders that are remembered. Beyond, those that were silent longest go.
const SENDERS_MAX: usize = 4_096;

/// Why a datagram was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Too short, or made with another secret or for another cluster, or changed on its way.
    Forged,
    /// It was taken before, or may have been.
    Replayed,
    /// The sender's clock is too far away.
    Clock,
    /// A member made it, but it can't be read.
    Unreadable,
}

impl Refusal {
    pub const ALL: [Refusal; 4] = [Refusal::Forged, Refusal::Replayed, Refusal::Clock, Refusal::Unreadable];

    pub const fn name(self) -> &'static str {
        match self {
            Refusal::Forged => "forged",
            Refusal::Replayed => "replayed",
            Refusal::Clock => "clock",
            Refusal::Unreadable => "unreadable",
        }
    }
}

/// Makes and opens datagrams of one purpose.
pub struct Sealer {
    ciphers: Ciphers,
    me: NodeId,
    cluster: Vec<u8>,
    sent: AtomicU64,
}

impl Sealer {
    pub fn new(secret: Secret, purpose: &'static str, cluster: &str, me: NodeId) -> Sealer {
        let ciphers = Ciphers::new(secret, purpose);
        Sealer { ciphers, me, cluster: cluster.as_bytes().to_vec(), sent: AtomicU64::new(0) }
    }

    pub fn seal(&self, content: &[u8]) -> Vec<u8> {
        let mut plain = Vec::with_capacity(HEADER_BYTES + content.len());
        let counter = self.sent.fetch_add(1, Ordering::Relaxed) + 1;
        for part in [self.me.node, self.me.generation, clock::now().unix_ms, counter] {
            plain.extend(part.to_le_bytes());
        }
        plain.extend(content);
        self.ciphers.seal(&plain, &self.cluster).expect("the operating system gives random bytes")
    }

    /// The content of a datagram that a member has made and that was not taken before.
    pub fn open(&self, datagram: &[u8], seen: &mut Seen) -> Result<Vec<u8>, Refusal> {
        let plain = self.ciphers.open(datagram, &self.cluster).ok_or(Refusal::Forged)?;
        let (header, content) = plain.split_first_chunk::<HEADER_BYTES>().ok_or(Refusal::Unreadable)?;
        let mut parts = header.chunks_exact(8).map(|part| part.try_into().map_or(0, u64::from_le_bytes));
        let mut next = || parts.next().unwrap_or_default();
        let (node, generation, sent_ms, counter) = (next(), next(), next(), next());
        seen.take(NodeId { node, generation }, sent_ms, counter, clock::now().unix_ms)?;
        Ok(content.to_vec())
    }
}

/// What was taken from each sender.
#[derive(Debug, Default)]
pub struct Seen {
    senders: BTreeMap<NodeId, Window>,
}

#[derive(Debug)]
struct Window {
    greatest: u64,
    /// Whether the counter so many below the greatest has come.
    bits: u64,
    heard_ms: u64,
}

impl Seen {
    fn take(&mut self, sender: NodeId, sent_ms: u64, counter: u64, now_ms: u64) -> Result<(), Refusal> {
        let Some(window) = self.senders.get_mut(&sender) else {
            if sent_ms.abs_diff(now_ms) > CLOCK_MS {
                return Err(Refusal::Clock);
            }
            self.make_room();
            self.senders.insert(sender, Window { greatest: counter, bits: 1, heard_ms: now_ms });
            return Ok(());
        };
        window.take(counter)?;
        window.heard_ms = now_ms;
        Ok(())
    }

    fn make_room(&mut self) {
        if self.senders.len() >= SENDERS_MAX {
            let oldest = self.senders.iter().min_by_key(|(_, window)| window.heard_ms).map(|(sender, _)| *sender);
            oldest.map(|sender| self.senders.remove(&sender));
        }
    }
}

impl Window {
    fn take(&mut self, counter: u64) -> Result<(), Refusal> {
        if counter > self.greatest {
            let ahead = counter - self.greatest;
            self.bits = if ahead < WINDOW { self.bits << ahead | 1 } else { 1 };
            self.greatest = counter;
            return Ok(());
        }
        let behind = self.greatest - counter;
        let bit = if behind < WINDOW { 1 << behind } else { 0 };
        if bit == 0 || self.bits & bit != 0 {
            return Err(Refusal::Replayed);
        }
        self.bits |= bit;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use appsockets_core::cluster::view::NodeId;
    use proptest::prelude::*;

    use super::{CLOCK_MS, HEADER_BYTES, Refusal, SENDERS_MAX, Sealer, Seen, WINDOW};

    const ME: NodeId = NodeId { node: 1, generation: 5 };

    fn sealer(secret: &str, cluster: &str) -> Sealer {
        Sealer::new(secret.to_owned().into(), "gossip", cluster, ME)
    }

    #[test]
    fn a_datagram_is_taken_once_and_by_members_only() {
        let (sender, mut seen) = (sealer("secret", "shop"), Seen::default());
        let datagram = sender.seal(b"hello");
        assert_eq!(datagram.len(), 24 + HEADER_BYTES + 5 + 16, "Poly1305 adds 16 bytes");
        assert_eq!(sealer("secret", "shop").open(&datagram, &mut seen), Ok(b"hello".to_vec()));
        assert_eq!(sender.open(&datagram, &mut seen), Err(Refusal::Replayed));
        assert_eq!(sealer("another", "shop").open(&sender.seal(b""), &mut seen), Err(Refusal::Forged));
        assert_eq!(sealer("secret", "bank").open(&sender.seal(b""), &mut seen), Err(Refusal::Forged));
        let beacon = Sealer::new("secret".to_owned().into(), "beacon", "shop", ME);
        assert_eq!(beacon.open(&sender.seal(b""), &mut seen), Err(Refusal::Forged));
    }

    #[test]
    fn what_was_changed_or_cut_is_refused() {
        let (sender, mut seen) = (sealer("secret", "shop"), Seen::default());
        let datagram = sender.seal(b"hello");
        for at in 0..datagram.len() {
            let mut changed = datagram.clone();
            changed[at] ^= 1;
            assert_eq!(sender.open(&changed, &mut seen), Err(Refusal::Forged));
            assert_eq!(sender.open(&datagram[..at], &mut seen), Err(Refusal::Forged));
        }
        assert!(sender.open(&datagram, &mut seen).is_ok());
    }

    #[test]
    fn who_was_never_heard_must_show_the_time() {
        let mut seen = Seen::default();
        let now = 1_000_000;
        assert_eq!(seen.take(ME, now - CLOCK_MS - 1, 1, now), Err(Refusal::Clock));
        assert_eq!(seen.take(ME, now + CLOCK_MS + 1, 1, now), Err(Refusal::Clock));
        assert_eq!(seen.take(ME, now - CLOCK_MS, 1, now), Ok(()));
        assert_eq!(seen.take(ME, 0, 2, now), Ok(()), "the counter goes on, whatever the clock does");
    }

    #[test]
    fn senders_are_bounded_and_the_silent_go_first() {
        let mut seen = Seen::default();
        for node in 0..=SENDERS_MAX as u64 {
            seen.take(NodeId { node, generation: 1 }, node, 1, node).unwrap();
        }
        assert_eq!(seen.senders.len(), SENDERS_MAX);
        assert!(!seen.senders.contains_key(&NodeId { node: 0, generation: 1 }));
    }

    proptest! {
        #[test]
        fn no_counter_is_taken_twice_and_none_is_lost_within_the_window(
            steps in prop::collection::vec(0u64..100, 1..300)
        ) {
            let (mut seen, mut taken, mut greatest) = (Seen::default(), BTreeSet::new(), 0u64);
            for (index, step) in steps.into_iter().enumerate() {
                // Mostly forward, now and then far back.
                let counter = if index % 3 == 0 { 1 + index as u64 * 2 } else { (greatest + 20).saturating_sub(step) };
                let is_new = !taken.contains(&counter) && (greatest == 0 || counter + WINDOW > greatest);
                prop_assert_eq!(seen.take(ME, 0, counter, 0).is_ok(), is_new);
                if is_new {
                    taken.insert(counter);
                    greatest = greatest.max(counter);
                }
            }
        }
    }
}
