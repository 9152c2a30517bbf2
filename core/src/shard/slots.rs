//! All channels of a shard, each at a place of its own: with it a channel is found again without a look at its name.

use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use slab::Slab;

use crate::{
    channel::{ChannelKey, HubId},
    shard::slot::Slot,
};

/// The place of a channel in its shard, until the channel is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct At(u32);

/// Channels by their place, and the places by their names.
#[derive(Debug)]
pub struct Slots {
    places: HashTable<At>,
    entries: Slab<Entry>,
    hasher: FixedState,
}

#[derive(Debug)]
struct Entry {
    /// Of the names: a table that grows need not look at them.
    hash: u64,
    key: ChannelKey,
    slot: Slot,
}

impl Slots {
    /// `seed`: chance from outside, against names made to collide.
    pub fn new(seed: u64) -> Slots {
        Slots { places: HashTable::new(), entries: Slab::new(), hasher: FixedState::with_seed(seed) }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn find(&self, key: &ChannelKey) -> Option<At> {
        let is_it = |at: &At| self.entries.get(at.index()).is_some_and(|entry| entry.key == *key);
        self.places.find(self.hasher.hash_one(key), is_it).copied()
    }

    /// The place of a channel, which begins without anything if it is not there, its hub's name being kept there.
    pub fn find_or_insert(&mut self, key: &ChannelKey, hub: &HubId) -> At {
        if let Some(at) = self.find(key) {
            return at;
        }
        let (hash, mut key) = (self.hasher.hash_one(key), key.clone());
        key.hub = hub.clone();
        // A shard holds fewer by far (`Config::channels_max`).
        let at = At(self.entries.insert(Entry { hash, key, slot: Slot::default() }) as u32);
        let entries = &self.entries;
        self.places.insert_unique(hash, at, |at| entries.get(at.index()).map_or(0, |entry| entry.hash));
        at
    }

    pub fn get(&self, at: At) -> Option<&Slot> {
        self.entries.get(at.index()).map(|entry| &entry.slot)
    }

    pub fn get_mut(&mut self, at: At) -> Option<(&ChannelKey, &mut Slot)> {
        self.entries.get_mut(at.index()).map(|entry| (&entry.key, &mut entry.slot))
    }

    pub fn key(&self, at: At) -> Option<&ChannelKey> {
        self.entries.get(at.index()).map(|entry| &entry.key)
    }

    pub fn remove(&mut self, at: At) -> Option<Slot> {
        let Entry { hash, slot, .. } = self.entries.try_remove(at.index())?;
        if let Ok(place) = self.places.find_entry(hash, |other| *other == at) {
            place.remove();
        }
        Some(slot)
    }

    pub fn iter(&self) -> impl Iterator<Item = (At, &ChannelKey, &Slot)> {
        self.entries.iter().map(|(index, entry)| (At(index as u32), &entry.key, &entry.slot))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (At, &ChannelKey, &mut Slot)> {
        self.entries.iter_mut().map(|(index, entry)| (At(index as u32), &entry.key, &mut entry.slot))
    }

    pub fn into_iter(self) -> impl Iterator<Item = (ChannelKey, Slot)> {
        self.entries.into_iter().map(|(_, entry)| (entry.key, entry.slot))
    }

    /// How many there is room for.
    pub fn capacity(&self) -> usize {
        self.entries.capacity()
    }

    /// Lets go of all room that is not needed. Channels that lie behind it come to other places: `moved` tells from where to
    /// where, and what becomes of the channel's own notes of its place.
    pub fn shrink(&mut self, mut moved: impl FnMut(At, At, &mut Slot)) {
        let Slots { places, entries, .. } = self;
        entries.compact(|entry, from, to| {
            let (from, to) = (At(from as u32), At(to as u32));
            if let Some(at) = places.find_mut(entry.hash, |at| *at == from) {
                *at = to;
            }
            moved(from, to, &mut entry.slot);
            true
        });
        places.shrink_to(0, |at| entries.get(at.index()).map_or(0, |entry| entry.hash));
    }
}

impl At {
    fn index(self) -> usize {
        self.0 as usize
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{At, Slots};
    use crate::channel::ChannelKey;

    fn key(number: u32) -> ChannelKey {
        ChannelKey::new("shop", number.to_string())
    }

    #[test]
    fn each_channel_keeps_its_place_until_it_goes() {
        let mut slots = Slots::new(7);
        let hub = "shop".into();
        let places: Vec<_> = (0..1_000).map(|number| slots.find_or_insert(&key(number), &hub)).collect();
        for number in (0..1_000).step_by(3) {
            assert!(slots.remove(places[number as usize]).is_some());
        }
        for (number, at) in (0..).zip(&places) {
            let is_there = number % 3 != 0;
            assert_eq!(slots.find(&key(number)), is_there.then_some(*at));
            assert_eq!(slots.key(*at), is_there.then_some(&key(number)));
        }
        assert!(slots.remove(places[0]).is_none() && slots.len() == 666);
        assert!(slots.iter().all(|(_, key, _)| std::sync::Arc::ptr_eq(&key.hub, &hub)));
    }

    #[test]
    fn who_is_told_of_all_moves_finds_every_channel() {
        let mut slots = Slots::new(7);
        let mut places: BTreeMap<u32, At> = BTreeMap::new();
        for number in 0..1_000 {
            places.insert(number, slots.find_or_insert(&key(number), &"shop".into()));
        }
        for number in 0..900 {
            slots.remove(places.remove(&number).expect("it is there"));
        }
        let before = slots.capacity();
        slots.shrink(|from, to, _| {
            places.values_mut().filter(|at| **at == from).for_each(|at| *at = to);
        });
        assert!(slots.capacity() < before && slots.len() == 100);
        for (number, at) in places {
            assert_eq!((slots.key(at), slots.find(&key(number))), (Some(&key(number)), Some(at)));
        }
    }
}
