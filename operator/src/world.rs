//! What is there: all that the operator watches, at one time.

use std::{borrow::Cow, collections::BTreeMap, fmt, sync::Arc};

use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use k8s_openapi::{api::core::v1::Secret, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error},
};
use serde_json::Value;

/// A resource as the API server has it.
pub type Read<K> = Arc<Guarded<K>>;

/// A resource, or what is known of one that says what this operator does not understand. It is not kube's
/// `DeserializeGuard`, which drops what such a resource was told last.
#[derive(Clone, Debug)]
pub struct Guarded<K>(pub Result<K, Unread>);

/// A resource that says what this operator does not understand.
#[derive(Clone, Debug)]
pub struct Unread {
    pub error: String,
    pub metadata: ObjectMeta,
    /// What it was told, so that it is not told that again.
    pub status: Value,
}

impl<'de, K: DeserializeOwned> Deserialize<'de> for Guarded<K> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Guarded<K>, D::Error> {
        let mut object = Value::deserialize(deserializer)?;
        let read = K::deserialize(&object).map(Ok).or_else(|error| {
            let mut part = |name| object.get_mut(name).map(Value::take).unwrap_or_default();
            let metadata = serde_json::from_value(part("metadata")).map_err(D::Error::custom)?;
            Ok(Err(Unread { error: error.to_string(), metadata, status: part("status") }))
        });
        read.map(Guarded)
    }
}

impl<K: Resource> Resource for Guarded<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(of: &K::DynamicType) -> Cow<'_, str> {
        K::kind(of)
    }

    fn group(of: &K::DynamicType) -> Cow<'_, str> {
        K::group(of)
    }

    fn version(of: &K::DynamicType) -> Cow<'_, str> {
        K::version(of)
    }

    fn plural(of: &K::DynamicType) -> Cow<'_, str> {
        K::plural(of)
    }

    fn meta(&self) -> &ObjectMeta {
        self.0.as_ref().map_or_else(|unread| &unread.metadata, K::meta)
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.as_mut().map_or_else(|unread| &mut unread.metadata, K::meta_mut)
    }
}

/// Everything that tenants and platform teams have written.
#[derive(Clone, Debug, Default)]
pub struct World {
    /// The only Kubernetes namespace that is looked at; None: all are.
    pub scope: Option<String>,
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
