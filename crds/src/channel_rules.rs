//! What may be done in channels.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{pattern, reference::HubRef, status::Status};

/// A named set of switches for channels of a hub. Bound to channels by the hub, by Namespaces, or here by name.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "appsockets.io",
    version = "v1alpha1",
    kind = "ChannelRules",
    plural = "channelrules",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "chr",
    category = "appsockets",
    doc = "A named set of switches for channels of a hub. Bound to channels by the hub, by Namespaces, or here by name."
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("self.hubRef == oldSelf.hubRef")
    .message("Channel rules stay with their hub: delete them and make them anew."))]
pub struct ChannelRulesSpec {
    /// The hub whose channels this is for.
    pub hub_ref: HubRef,
    /// Channels that these rules are bound to, by their whole names.
    #[x_kube(validation = Rule::new(format!("self.all(c, c.matches('{}') && bytes(c).size() <= 255)", pattern::NAME))
        .message("Write whole names of channels, each of 1 to 255 bytes without control characters."))]
    #[schemars(length(max = 1000), inner(length(max = 255)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub channels: Vec<String>,
    /// Whether a channel keeps its last retained message.
    #[serde(default)]
    pub allow_retain: bool,
    /// Whether messages are stored for history.
    #[serde(default)]
    pub allow_store: bool,
    /// Whether messages may be sent as push notifications.
    #[serde(default)]
    pub allow_push: bool,
    /// Whether who is present can be seen.
    #[serde(default)]
    pub presence: bool,
    /// Whether sessions without an explicit authorization may use the channel; unless given, the hub's `defaultPublic`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public: Option<bool>,
    /// Whether sessions may publish without an explicit authorization; unless given, they may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_publish: Option<bool>,
    /// Whether anonymous sessions may use the channel.
    #[serde(default)]
    pub allow_anonymous: bool,
    /// Whether the number of subscribers is told.
    #[serde(default)]
    pub occupancy: bool,
    /// Copies on further nodes before a message is acknowledged, 0 to 3; unless given, 1.
    #[x_kube(validation = Rule::new("self >= 0 && self <= 3")
        .message("Write 0 to 3, the number of copies on further nodes."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redundancy: Option<i32>,
    /// Whether publishes are refused while the cluster has too few nodes for so many copies; else they are acknowledged with
    /// as many as there can be.
    #[serde(default)]
    pub redundancy_required: bool,
}
