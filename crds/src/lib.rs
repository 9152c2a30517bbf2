//! The custom resources of AppSockets, `appsockets.io/v1alpha1`: what tenants and platform teams write, as Rust types
//! and as the YAML in this folder.
//!
//! What one resource can have wrong by itself is refused by the API server, by rules in the schema whose messages tell
//! what to do. What takes others to see is told in the resource's status by the operator.

pub mod auth_provider;
pub mod channel_rules;
pub mod cluster;
pub mod hub;
pub mod namespace;
mod pattern;
pub mod reference;
pub mod resource;
pub mod status;
pub mod yaml;

pub use auth_provider::{AuthProvider, AuthProviderSpec};
pub use channel_rules::{ChannelRules, ChannelRulesSpec};
pub use cluster::{
    AppSocketsCluster, AppSocketsClusterSpec, AutoscaleSpec, ConnectionsSpec, EdgesSpec, EdgesStatus, RolloutStatus,
    UpdateSpec,
};
pub use hub::{Hub, HubSpec};
pub use namespace::{HubNamespace, HubNamespaceSpec};

/// The API group of all kinds.
pub const GROUP: &str = "appsockets.io";

#[cfg(test)]
mod tests;
