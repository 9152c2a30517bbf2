//! A tenant.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    pattern,
    reference::{ClusterRef, RulesRef},
    status::Status,
};

/// A tenant's hub: clients that connect to it share its channels, and nothing with other hubs.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "appsockets.io",
    version = "v1alpha1",
    kind = "Hub",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    category = "appsockets",
    doc = "A tenant's hub: clients that connect to it share its channels, and nothing with other hubs."
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.clusterRef == oldSelf.clusterRef")
        .message("A hub stays with its cluster: delete it and make it anew."),
    validation = Rule::new("has(self.hubName) == has(oldSelf.hubName) && (!has(self.hubName) || self.hubName == oldSelf.hubName)")
        .message("A hub keeps its name: delete it and make it anew.")
)]
pub struct HubSpec {
    /// The cluster that serves the hub.
    pub cluster_ref: ClusterRef,
    /// The name by which clients connect; unless given, that of the resource. 1 to 255 bytes.
    #[x_kube(validation = Rule::new(format!("self.matches('{}') && bytes(self).size() <= 255", pattern::NAME))
        .message("Write 1 to 255 bytes without control characters."))]
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hub_name: Option<String>,
    /// Whether channels without rules that say otherwise are open to every session of the hub.
    #[serde(default)]
    pub default_public: bool,
    /// Whether sessions may stay without authenticating.
    #[serde(default)]
    pub allow_anonymous: bool,
    /// Whether each authenticated session is subscribed to `u:<user id>`.
    #[serde(default)]
    pub user_channel: bool,
    /// The channel rules for channels that no closer rules cover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_rules_ref: Option<RulesRef>,
    /// Origins of pages that may connect: `https://shop.example`, `https://*.shop.example`, or `*`. Empty: the origin
    /// must be the node's own host.
    #[x_kube(validation = Rule::new(origins())
        .message("Write origins as https://shop.example, https://*.shop.example, or *: without a path and a / at the end."))]
    #[schemars(length(max = 100), inner(length(max = 300)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allowed_origins: Vec<String>,
    /// Bounds on what the hub's sessions may use on each node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsSpec>,
    /// Other Kubernetes namespaces whose ChannelRules, Namespaces and AuthProvider may refer to this hub.
    #[schemars(length(max = 100), inner(length(max = 63)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_from: Vec<String>,
}

/// Whether `self` are origins that nodes can read.
fn origins() -> String {
    let (port, brackets, ipv6) = (pattern::PORT, pattern::BRACKETS, pattern::bracketed("o"));
    let host = format!("([A-Za-z0-9_-]+([.][A-Za-z0-9_-]+)*|{brackets})");
    let origin = format!("^[A-Za-z][A-Za-z0-9+.-]*://([*][.])?{host}{port}$");
    format!("self.all(o, o == '*' || (o.matches('{origin}') && (!o.contains('[') || {ipv6})))")
}

/// Bounds on what a hub's sessions may use on each node. What is not given has the node's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.connections) ? self.connections : 1, has(self.messagesPerSecond) ? self.messagesPerSecond : 1, \
     has(self.sessionMessagesPerSecond) ? self.sessionMessagesPerSecond : 1, has(self.channelsPerSession) ? self.channelsPerSession : 1]\
     .all(limit, limit >= 1)").message("Write limits of 1 or more, or leave them out for the node's own defaults."))]
pub struct LimitsSpec {
    /// Connections of the hub at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<i32>,
    /// Messages per second of all sessions of the hub together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages_per_second: Option<i32>,
    /// Messages per second of one session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_messages_per_second: Option<i32>,
    /// Subscriptions of one session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels_per_session: Option<i32>,
}
