//! A hub's settings in the form that a node works with.

use std::{collections::HashMap, sync::Arc};

use crate::{
    channel::{self, HubId},
    settings::{
        origin::OriginPattern,
        resource::{AuthProviderSpec, ChannelRulesSpec, HubSpec, LimitsSpec},
    },
};

/// Everything that is set for one hub, compiled from the snapshot. Immutable: a change makes a new one.
#[derive(Clone, Debug, PartialEq)]
pub struct Hub {
    pub id: HubId,
    pub default_public: bool,
    pub allow_anonymous: bool,
    pub user_channel: bool,
    /// None listed: only the node's own host.
    pub allowed_origins: Vec<OriginPattern>,
    pub limits: LimitsSpec,
    pub auth: Option<Arc<AuthProviderSpec>>,
    /// For channels that no closer rules cover.
    pub default_rules: Rules,
    pub by_namespace: HashMap<Box<str>, Rules>,
    pub by_channel: HashMap<Box<str>, Rules>,
}

/// The switches in force for a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Rules {
    pub retain: bool,
    pub store: bool,
    pub push: bool,
    pub presence: bool,
    pub public: bool,
    pub client_publish: bool,
    pub allow_anonymous: bool,
    pub occupancy: bool,
    pub redundancy: u8,
    pub redundancy_required: bool,
}

impl Hub {
    /// The rules in force for a channel: the channel's own, else its namespace's, else the hub's.
    pub fn rules(&self, channel: &str) -> Rules {
        *self
            .by_channel
            .get(channel)
            .or_else(|| channel::namespace(channel).and_then(|namespace| self.by_namespace.get(namespace)))
            .unwrap_or(&self.default_rules)
    }

    /// A hub without any resource but its own.
    pub fn with_spec(id: impl Into<HubId>, spec: &HubSpec) -> Hub {
        // Where nobody wrote rules, anonymous sessions may use channels as far as the hub lets them in.
        let unset = ChannelRulesSpec { allow_anonymous: spec.allow_anonymous, ..ChannelRulesSpec::default() };
        Hub {
            id: id.into(),
            default_public: spec.default_public,
            allow_anonymous: spec.allow_anonymous,
            user_channel: spec.user_channel,
            allowed_origins: origin_patterns(&spec.allowed_origins),
            limits: spec.limits,
            auth: None,
            default_rules: Rules::new(&unset, spec),
            by_namespace: HashMap::new(),
            by_channel: HashMap::new(),
        }
    }
}

/// An origin that can't be read allows nothing, and the list does not count as empty for it: that would allow the own
/// host, which nobody asked for.
fn origin_patterns(texts: &[String]) -> Vec<OriginPattern> {
    texts.iter().map(|text| text.parse().unwrap_or(OriginPattern::Nothing)).collect()
}

impl Rules {
    /// For channels whose rules are missing: nobody may do anything without an explicit authorization.
    pub const CLOSED: Rules = Rules {
        retain: false,
        store: false,
        push: false,
        presence: false,
        public: false,
        client_publish: false,
        allow_anonymous: false,
        occupancy: false,
        redundancy: 1,
        redundancy_required: false,
    };

    pub fn new(rules: &ChannelRulesSpec, hub: &HubSpec) -> Rules {
        let ChannelRulesSpec {
            allow_retain,
            allow_store,
            allow_push,
            presence,
            public,
            client_publish,
            allow_anonymous,
            occupancy,
            redundancy,
            redundancy_required,
        } = *rules;
        Rules {
            retain: allow_retain,
            store: allow_store,
            push: allow_push,
            presence,
            public: public.unwrap_or(hub.default_public),
            client_publish,
            allow_anonymous,
            occupancy,
            redundancy,
            redundancy_required,
        }
    }
}
