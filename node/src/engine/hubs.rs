//! The hubs that are in use on this node: how much of each limit is taken.
//!
//! A hub is in use while somebody holds a [`Seat`] of it. Once nobody has for a while it is forgotten, in one step under
//! the lock, so there is no closing hub that somebody could run into: whoever comes later makes a fresh one.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use appsockets_core::{bucket::SharedBucket, channel::HubId, settings::hub::Hub, time::Now};

/// The hubs in use.
#[derive(Debug, Default)]
pub struct Hubs {
    in_use: Mutex<HashMap<HubId, Kept>>,
}

#[derive(Debug)]
struct Kept {
    hub_use: Arc<HubUse>,
    used_ms: u64,
}

#[derive(Debug, Default)]
struct HubUse {
    connections: AtomicU32,
    meter: SharedBucket,
}

/// The right to one connection of a hub, given back when dropped.
#[derive(Debug)]
pub struct Seat {
    hub_use: Arc<HubUse>,
}

impl Hubs {
    /// A seat, unless the hub has as many connections as its limit allows.
    pub fn seat(&self, hub: &Hub, now: Now) -> Option<Seat> {
        let hub_use = self.hub_use(hub, now);
        let most = hub.limits.connections.unwrap_or(u32::MAX);
        let taken = hub_use.connections.fetch_add(1, Ordering::Relaxed);
        let seat = Seat { hub_use };
        (taken < most).then_some(seat)
    }

    /// Whether one without a connection may send this much now.
    pub fn admits(&self, hub: &Hub, cost: u32, now: Now) -> bool {
        let hub_use = self.hub_use(hub, now);
        hub.limits.messages_per_second.is_none_or(|most| hub_use.meter.take(now.mono_ms, cost, most))
    }

    /// Connections of a hub.
    pub fn connections(&self, hub: &str) -> u32 {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        in_use.get(hub).map_or(0, |kept| kept.hub_use.connections.load(Ordering::Relaxed))
    }

    /// The hubs that have connections, and how many.
    pub fn connected(&self) -> Vec<(HubId, u32)> {
        let in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let connected =
            in_use.iter().map(|(hub, kept)| (hub.clone(), kept.hub_use.connections.load(Ordering::Relaxed)));
        connected.filter(|(_, connections)| *connections > 0).collect()
    }

    /// Forgets the hubs that nobody has used for that long, and returns them.
    pub fn close_unused(&self, now: Now, close_ms: u64) -> Vec<HubId> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        for kept in in_use.values_mut().filter(|kept| kept.is_in_use()) {
            kept.used_ms = now.mono_ms;
        }
        let closed: Vec<_> = in_use
            .iter()
            .filter(|(_, kept)| !kept.is_in_use() && kept.used_ms + close_ms <= now.mono_ms)
            .map(|(hub, _)| hub.clone())
            .collect();
        closed.iter().for_each(|hub| drop(in_use.remove(hub)));
        closed
    }

    fn hub_use(&self, hub: &Hub, now: Now) -> Arc<HubUse> {
        let mut in_use = self.in_use.lock().unwrap_or_else(PoisonError::into_inner);
        let kept =
            in_use.entry(hub.id.clone()).or_insert_with(|| Kept { hub_use: Arc::default(), used_ms: now.mono_ms });
        kept.used_ms = now.mono_ms;
        kept.hub_use.clone()
    }
}

impl Kept {
    /// Whether anybody else holds it. Others can be given it only under the lock.
    fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.hub_use) > 1
    }
}

impl Seat {
    pub fn meter(&self) -> &SharedBucket {
        &self.hub_use.meter
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.hub_use.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use appsockets_core::{
        settings::{
            hub::Hub,
            resource::{HubSpec, LimitsSpec},
        },
        time::Now,
    };

    use super::Hubs;

    fn at(mono_ms: u64) -> Now {
        Now { mono_ms, unix_ms: mono_ms }
    }

    fn hub(connections: u32) -> Hub {
        let limits = LimitsSpec { connections: Some(connections), ..LimitsSpec::default() };
        Hub::with_spec("h", &HubSpec { limits, ..HubSpec::default() })
    }

    #[test]
    fn a_seat_is_given_back_when_dropped() {
        let (hubs, hub) = (Hubs::default(), hub(2));
        let seats = (hubs.seat(&hub, at(0)), hubs.seat(&hub, at(0)));
        assert!(seats.0.is_some() && seats.1.is_some());
        assert!(hubs.seat(&hub, at(0)).is_none());
        assert_eq!(hubs.connections("h"), 2);
        drop(seats);
        assert!(hubs.seat(&hub, at(0)).is_some());
    }

    #[test]
    fn a_hub_is_forgotten_only_after_nobody_used_it_for_the_whole_time() {
        let (hubs, hub) = (Hubs::default(), hub(2));
        let seat = hubs.seat(&hub, at(0));
        assert!(hubs.close_unused(at(500), 100).is_empty());
        drop(seat);
        assert!(hubs.close_unused(at(599), 100).is_empty());
        assert_eq!(hubs.close_unused(at(600), 100).len(), 1);
    }

    /// Hubs are closed as often as can be, and still the limit holds and no seat is lost.
    #[test]
    fn who_comes_while_a_hub_closes_counts_against_the_same_limit() {
        let (hubs, hub, taken, done) = (Hubs::default(), hub(2), AtomicU32::new(0), AtomicU32::new(0));
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..2_000 {
                        let Some(seat) = hubs.seat(&hub, at(0)) else { continue };
                        assert!(taken.fetch_add(1, Ordering::SeqCst) < 2);
                        std::thread::yield_now();
                        taken.fetch_sub(1, Ordering::SeqCst);
                        drop(seat);
                    }
                    done.fetch_add(1, Ordering::SeqCst);
                });
            }
            while done.load(Ordering::SeqCst) < 3 {
                hubs.close_unused(at(0), 0);
            }
        });
        let seats = [hubs.seat(&hub, at(0)), hubs.seat(&hub, at(0))];
        assert!(seats.iter().all(Option::is_some) && hubs.seat(&hub, at(0)).is_none());
    }
}
