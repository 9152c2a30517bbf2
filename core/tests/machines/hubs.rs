//! Hubs, users and configurations to test with.

use std::{collections::HashMap, sync::Arc};

use appsockets_core::{
    identity::{ChannelAuthorization, Identity},
    session,
    settings::{
        hub::{Hub, Rules},
        resource::LimitsSpec,
    },
    shard::{self, history::HistoryBounds},
};

pub const HUB: &str = "shop";
pub const OCCUPANCY_MS: u64 = 500;
pub const CLOSE_MS: u64 = 2_000;
pub const RETAIN_MS: u64 = 60_000;
pub const RESTORE_MS: u64 = 5_000;
pub const HISTORY_MAX: usize = 5;

/// The switches of a hub that the tests turn.
#[derive(Clone, Copy, Debug)]
pub struct Switches {
    pub presence: bool,
    pub occupancy: bool,
    pub store: bool,
    pub retain: bool,
    pub anonymous: bool,
    pub user_channel: bool,
    /// Whether nobody may use the channel `a`.
    pub a_closed: bool,
}

impl Switches {
    pub const ALL: Switches = Switches {
        presence: true,
        occupancy: true,
        store: true,
        retain: true,
        anonymous: true,
        user_channel: true,
        a_closed: false,
    };
    pub const PLAIN: Switches =
        Switches { presence: false, occupancy: false, store: false, retain: false, user_channel: false, ..Self::ALL };

    pub fn hub(self) -> Hub {
        let rules = Rules {
            retain: self.retain,
            store: self.store,
            push: false,
            presence: self.presence,
            public: true,
            client_publish: true,
            allow_anonymous: self.anonymous,
            occupancy: self.occupancy,
            redundancy: 1,
            redundancy_required: false,
        };
        let closed = Rules { public: false, ..rules };
        Hub {
            id: HUB.into(),
            default_public: true,
            allow_anonymous: self.anonymous,
            user_channel: self.user_channel,
            allowed_origins: Vec::new(),
            limits: LimitsSpec::default(),
            auth: None,
            default_rules: rules,
            by_namespace: HashMap::new(),
            by_channel: self.a_closed.then(|| ("a".into(), closed)).into_iter().collect(),
        }
    }
}

/// A user of any name; `reader` may only hear the channel `b`.
pub fn user(name: &str) -> Arc<Identity> {
    let reads_b = ChannelAuthorization { channel: "b".into(), publish: false, subscribe: true };
    let channels = if name == "reader" { vec![reads_b] } else { Vec::new() };
    Arc::new(Identity { user_id: name.into(), channels, ..Identity::default() })
}

pub fn session_config() -> session::Config {
    session::Config {
        ping_interval_ms: 30_000,
        pong_timeout_ms: 10_000,
        auth_timeout_ms: 5_000,
        messages_per_second: 40,
        channels_max: 4,
        pending_max: 2,
        message_bytes_max: 65_536,
        unreadable_max: 2,
    }
}

pub fn shard_config() -> shard::Config {
    shard::Config {
        node: 1,
        generation: 1,
        index: 0,
        count: 1,
        seed: 1,
        history: HistoryBounds { messages_max: HISTORY_MAX, bytes_max: 1 << 20, unseen_max: 0 },
        retain_ms: RETAIN_MS,
        close_ms: CLOSE_MS,
        occupancy_ms: OCCUPANCY_MS,
        hold_ms: 10_000,
        restore_ms: RESTORE_MS,
        waiting_max: 4,
        held_max: 100,
        channels_max: 100,
        copying_max: 2,
    }
}
