//! Hubs come, change and go; their channels follow.

use std::sync::Arc;

use super::Shard;
use crate::{
    code::ErrorCode,
    settings::hub::Hub,
    shard::{request::Effect, slot::Role},
    time::Now,
};

impl Shard {
    /// Takes over a hub's new settings, and holds every channel of it to them.
    pub fn set_hub(&mut self, now: Now, hub: Arc<Hub>, effects: &mut Vec<Effect>) {
        let keys: Vec<_> = self.slots.keys().filter(|key| key.hub == hub.id).cloned().collect();
        self.hubs.insert(hub.id.clone(), hub.clone());
        for key in keys {
            let rules = &self.rules(&key);
            self.with(now, &key, effects, |slot, cx| {
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
        let keys: Vec<_> = self.slots.keys().filter(|key| &*key.hub == hub).cloned().collect();
        for key in keys {
            self.with(now, &key, effects, |slot, cx| {
                if let Role::Owner(channel) = &mut slot.role {
                    channel.abandon(ErrorCode::HubNotFound, cx);
                    channel.forget_listeners(cx);
                }
            });
            self.hear_own(now, effects);
            self.with(now, &key, effects, |slot, cx| {
                if let Some(relay) = &mut slot.relay {
                    relay.abandon(&key, ErrorCode::HubNotFound, cx);
                }
            });
            self.remove(&key);
        }
    }
}
