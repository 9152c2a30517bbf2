//! How resources name each other.

use kube::KubeSchema;
use serde::{Deserialize, Serialize};

/// A cluster of nodes. One of another Kubernetes namespace must allow this one: `spec.tenants`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterRef {
    #[x_kube(validation = Rule::new("size(self) > 0").message("Write the name of an AppSocketsCluster."))]
    #[schemars(length(max = 63))]
    pub name: String,
    /// Its Kubernetes namespace; unless given, that of this resource.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// A hub, by the name of its resource. One of another Kubernetes namespace must allow this one: `spec.allowFrom`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HubRef {
    #[x_kube(validation = Rule::new("size(self) > 0").message("Write the name of a Hub."))]
    #[schemars(length(max = 253))]
    pub name: String,
    /// Its Kubernetes namespace; unless given, that of this resource.
    #[schemars(length(max = 63))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
}

/// Channel rules of the same hub, by the name of their resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct RulesRef {
    #[x_kube(validation = Rule::new("self.matches('^[a-z0-9.-]+$')")
        .message("Write the name of ChannelRules of this hub: small letters, digits, `-` and `.`."))]
    #[schemars(length(max = 253))]
    pub name: String,
}

/// A key of a Secret in the Kubernetes namespace of this resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretKeyRef {
    #[x_kube(validation = Rule::new("size(self) > 0").message("Write the name of a Secret."))]
    #[schemars(length(max = 253))]
    pub name: String,
    #[x_kube(validation = Rule::new("size(self) > 0").message("Write which key of the Secret holds the value."))]
    #[schemars(length(max = 253))]
    pub key: String,
}
