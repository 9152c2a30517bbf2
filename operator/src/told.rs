//! What one part of the operator lets others know of each cluster.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, PoisonError},
};

use crate::{watching::Signal, world::ClusterKey};

/// At most one thing for each cluster.
pub struct Told<T> {
    of: Mutex<BTreeMap<ClusterKey, T>>,
    pub changed: Signal,
}

impl<T> Default for Told<T> {
    fn default() -> Told<T> {
        Told { of: Mutex::default(), changed: Signal::default() }
    }
}

impl<T: Clone + PartialEq> Told<T> {
    pub fn of(&self, cluster: &ClusterKey) -> Option<T> {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).get(cluster).cloned()
    }

    pub fn forget_others(&self, clusters: &BTreeSet<ClusterKey>) {
        self.of.lock().unwrap_or_else(PoisonError::into_inner).retain(|cluster, _| clusters.contains(cluster));
    }

    pub fn set(&self, cluster: &ClusterKey, told: Option<T>) {
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        let before = match &told {
            Some(told) => of.insert(cluster.clone(), told.clone()),
            None => of.remove(cluster),
        };
        if before != told {
            self.changed.send();
        }
    }
}
