//! What is there: all that the operator watches, at one time.

use std::{collections::BTreeMap, fmt, sync::Arc};

use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::core::DeserializeGuard;

/// A resource as the API server has it; one that says what this operator does not understand is an error that knows
/// whose it is.
pub type Read<K> = Arc<DeserializeGuard<K>>;

/// Everything that tenants and platform teams have written.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub clusters: Vec<Read<AppSocketsCluster>>,
    pub hubs: Vec<Read<Hub>>,
    pub rules: Vec<Read<ChannelRules>>,
    pub namespaces: Vec<Read<HubNamespace>>,
    pub providers: Vec<Read<AuthProvider>>,
    /// By Kubernetes namespace. One that lacks is still being read.
    pub secrets: BTreeMap<String, Secrets>,
}

/// The Secrets of a Kubernetes namespace.
#[derive(Clone, Debug)]
pub enum Secrets {
    /// By name.
    Read(BTreeMap<String, Arc<Secret>>),
    /// No Role lets the operator read them.
    Forbidden,
}

/// Which resource: two of different kinds have different keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// A cluster of nodes: Kubernetes namespace and name.
pub type ClusterKey = (String, String);

impl Key {
    pub fn new(kind: &'static str, metadata: &ObjectMeta) -> Key {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Key { kind, namespace: text(&metadata.namespace), name: text(&metadata.name) }
    }
}
