//! What is kept for each hub: its checked settings, and what they have led to so far.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use appsockets_core::{
    channel::HubId,
    settings::{hub::Hub, resource::AuthProviderSpec},
};

/// An entry that was not used for so long makes room when room is made.
const IDLE_MS: u64 = 3_600_000;
/// Below this number nothing is ever cleared away.
const KEPT_MIN: usize = 64;

/// The values of hubs that are used. Bounded by the hubs of the last hour, twice over, even if nothing is forgotten.
pub struct Hubs<T> {
    table: Mutex<Table<T>>,
}

struct Table<T> {
    entries: HashMap<HubId, Entry<T>>,
    sweep_at: usize,
}

struct Entry<T> {
    spec: Arc<AuthProviderSpec>,
    value: Arc<T>,
    used_ms: u64,
}

impl<T> Hubs<T> {
    pub fn new() -> Self {
        Hubs { table: Mutex::new(Table { entries: HashMap::new(), sweep_at: KEPT_MIN }) }
    }

    /// The value made from the hub's settings, made again if those have changed.
    pub fn get(&self, hub: &Hub, spec: &Arc<AuthProviderSpec>, now_ms: u64, make: impl FnOnce() -> T) -> Arc<T> {
        let mut table = self.table();
        if let Some(entry) = table.entries.get_mut(&hub.id)
            && (Arc::ptr_eq(&entry.spec, spec) || entry.spec == *spec)
        {
            entry.used_ms = now_ms;
            return entry.value.clone();
        }
        table.sweep(now_ms);
        let value = Arc::new(make());
        table.entries.insert(hub.id.clone(), Entry { spec: spec.clone(), value: value.clone(), used_ms: now_ms });
        value
    }

    pub fn forget(&self, hub: &str) {
        self.table().entries.remove(hub);
    }

    fn table(&self) -> MutexGuard<'_, Table<T>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Table<T> {
    /// Looks at all entries only when their number has doubled, so that each costs little.
    fn sweep(&mut self, now_ms: u64) {
        if self.entries.len() < self.sweep_at {
            return;
        }
        self.entries.retain(|_, entry| now_ms.saturating_sub(entry.used_ms) < IDLE_MS);
        self.sweep_at = (2 * self.entries.len()).max(KEPT_MIN);
    }
}

#[cfg(test)]
mod tests {
    use super::{Hubs, IDLE_MS, KEPT_MIN};
    use appsockets_core::settings::{
        hub::Hub,
        resource::{AuthProviderSpec, HubSpec, JwtSpec},
    };
    use std::sync::Arc;

    #[test]
    fn a_value_lasts_as_long_as_its_settings() {
        let (hubs, hub) = (Hubs::new(), Hub::with_spec("h", &HubSpec::default()));
        let spec = |secret: &str| {
            let jwt = JwtSpec { secret: Some(secret.to_owned()), ..JwtSpec::default() };
            Arc::new(AuthProviderSpec { jwt: Some(jwt), ..AuthProviderSpec::default() })
        };
        assert_eq!(*hubs.get(&hub, &spec("a"), 0, || 1), 1);
        assert_eq!(*hubs.get(&hub, &spec("a"), 0, || 2), 1, "equal settings");
        assert_eq!(*hubs.get(&hub, &spec("b"), 0, || 3), 3, "other settings");
        hubs.forget("h");
        assert_eq!(*hubs.get(&hub, &spec("b"), 0, || 4), 4);
    }

    #[test]
    fn hubs_that_nobody_uses_make_room() {
        let (hubs, spec) = (Hubs::new(), Arc::new(AuthProviderSpec::default()));
        for round in 0..100 {
            for index in 0..KEPT_MIN {
                let hub = Hub::with_spec(format!("{round}-{index}"), &HubSpec::default());
                hubs.get(&hub, &spec, round * IDLE_MS, || ());
            }
        }
        assert!(hubs.table().entries.len() <= 2 * KEPT_MIN);
    }
}
