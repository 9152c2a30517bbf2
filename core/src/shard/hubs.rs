//! Hubs come, change and go; their channels follow.

use std::sync::Arc;

use super::Shard;
use crate::{
    channel::HubId,
    code::ErrorCode,
    settings::hub::Hub,
    shard::{request::Effect, slot::Role},
    time::Now,
};

impl Shard {
    /// Takes over a hub's new settings, and holds every channel of it to them.
    pub fn set_hub(&mut self, now: Now, hub: Arc<Hub>, effects: &mut Vec<Effect>) {
        let places = self.places(|key, _| key.hub == hub.id);
        match self.hubs.get_mut(&hub.id) {
            Some(before) => *before = hub,
            // Names are counted with every message, and another worker's processor would count the same ones.
            None => drop(self.hubs.insert(HubId::from(&*hub.id), hub)),
        }
        for at in places {
            let Some(rules) = self.slots.key(at).map(|key| self.rules(key)) else { continue };
            self.with(now, at, effects, |_, slot, cx| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.set_rules(rules, cx);
                }
                if let Some(relay) = slot.relay.as_mut().filter(|_| !rules.presence) {
                    relay.forget_members();
                }
            });
        }
        self.hear_own(now, effects);
    }

    /// Forgets a hub and all its channels. Whoever waits for an answer of one of them gets it.
    pub fn remove_hub(&mut self, now: Now, hub: &str, effects: &mut Vec<Effect>) {
        self.hubs.remove(hub);
        let places = self.places(|key, _| &*key.hub == hub);
        for at in places {
            self.with(now, at, effects, |_, slot, cx| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.abandon(ErrorCode::HubNotFound, cx);
                    channel.forget_listeners(cx);
                }
            });
            self.hear_own(now, effects);
            self.with(now, at, effects, |key, slot, cx| {
                if let Some(relay) = &mut slot.relay {
                    relay.abandon(key, ErrorCode::HubNotFound, cx);
                }
            });
            self.remove(at);
        }
    }
}
