//! Two tenants that use the same names.

use std::{collections::HashMap, sync::Arc};

use appsockets_core::{
    session,
    settings::{
        hub::{Hub, Rules},
        resource::LimitsSpec,
    },
};

/// `first`: of the first channel.
pub fn hubs(redundancy: u8, first: u8, redundancy_required: bool) -> Vec<Arc<Hub>> {
    let rules = Rules {
        retain: true,
        store: false,
        push: false,
        presence: true,
        public: true,
        client_publish: true,
        allow_anonymous: true,
        occupancy: true,
        redundancy,
        redundancy_required,
    };
    let hub = |id: &str| Hub {
        id: id.into(),
        default_public: true,
        allow_anonymous: true,
        user_channel: false,
        allowed_origins: Vec::new(),
        limits: LimitsSpec::default(),
        auth: None,
        default_rules: rules,
        by_namespace: HashMap::new(),
        by_channel: [("c0".into(), Rules { redundancy: first, ..rules })].into(),
    };
    vec![Arc::new(hub("one")), Arc::new(hub("two"))]
}

pub fn session_config() -> session::Config {
    session::Config {
        ping_interval_ms: 10_000_000,
        pong_timeout_ms: 10_000,
        auth_timeout_ms: 5_000,
        messages_per_second: 1_000_000,
        channels_max: 100,
        pending_max: 1_000,
        message_bytes_max: 65_536,
        unreadable_max: 2,
    }
}
