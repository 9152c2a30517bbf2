//! A family of channels of a hub. Its kind is `Namespace` only in name: the resource is `hubnamespaces`, so that no tool
//! takes it for a namespace of Kubernetes.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    reference::{HubRef, RulesRef},
    status::Status,
};

/// Binds the channels of a hub whose name begins with `<name>:` to channel rules.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "appsockets.io",
    version = "v1alpha1",
    kind = "Namespace",
    root = "HubNamespace",
    plural = "hubnamespaces",
    singular = "hubnamespace",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    shortname = "hns",
    category = "appsockets",
    doc = "Binds the channels of a hub whose name begins with `<name>:` to channel rules."
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.hubRef == oldSelf.hubRef")
        .message("A namespace stays with its hub: delete it and make it anew."),
    validation = Rule::new("has(self.name) == has(oldSelf.name) && (!has(self.name) || self.name == oldSelf.name)")
        .message("A namespace keeps its name: delete it and make it anew.")
)]
pub struct HubNamespaceSpec {
    /// The hub whose channels this is for.
    pub hub_ref: HubRef,
    /// What the channels' names begin with, without the `:`; unless given, the name of the resource.
    #[x_kube(validation = Rule::new(r"self.matches('^[^:\\p{Cc}]+$') && bytes(self).size() <= 255")
        .message("Write the namespace without `:`, the text before the first one: 1 to 255 bytes, no control characters."))]
    #[schemars(length(max = 255))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The channel rules that the channels get.
    pub rules_ref: RulesRef,
}
