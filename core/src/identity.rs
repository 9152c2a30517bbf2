//! Who a session is, and what it was explicitly allowed.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

/// What a successful authentication says of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Never empty.
    pub user_id: Arc<str>,
    /// Shown to the client and in presence.
    pub extra: BTreeMap<String, String>,
    pub channels: Vec<ChannelAuthorization>,
    pub rpcs: Vec<RpcAuthorization>,
    /// Unix milliseconds after which the session must have authenticated again; none if it never expires.
    pub expires_unix_ms: Option<u64>,
}

/// Explicit rights in the channels that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelAuthorization {
    /// See [`crate::pattern`].
    pub channel: Arc<str>,
    #[serde(default)]
    pub publish: bool,
    #[serde(default)]
    pub subscribe: bool,
}

/// The right to call the methods that match a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RpcAuthorization {
    pub method: Arc<str>,
}
