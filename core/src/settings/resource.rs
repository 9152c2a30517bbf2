//! The five kinds of resources, as people write them. `serde` refuses what it does not know, so that a typing mistake
//! is an error and not a setting that silently does nothing.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{
    entry::{ResourceId, ResourceKind},
    object::{object, optional},
};

/// One resource: its kind, whose it is, and what it says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", deny_unknown_fields)]
pub enum Resource {
    /// A hub's own settings; the name is the hub's.
    Hub {
        name: String,
        #[serde(default, deserialize_with = "object")]
        spec: HubSpec,
    },
    /// A named set of switches for channels.
    ChannelRules {
        hub: String,
        name: String,
        #[serde(default, deserialize_with = "object")]
        spec: ChannelRulesSpec,
    },
    /// Binds the channels whose name begins with `<name>:` to channel rules.
    Namespace {
        hub: String,
        name: String,
        #[serde(deserialize_with = "object")]
        spec: BindingSpec,
    },
    /// Binds one channel to channel rules.
    Channel {
        hub: String,
        name: String,
        #[serde(deserialize_with = "object")]
        spec: BindingSpec,
    },
    /// How the hub authenticates its clients; one for each hub, so its name is the hub's.
    AuthProvider {
        hub: String,
        #[serde(deserialize_with = "object")]
        spec: AuthProviderSpec,
    },
}

impl Resource {
    /// What makes it the same resource as another one.
    pub fn id(&self) -> ResourceId {
        match self {
            Resource::Hub { name, .. } => ResourceId::hub(&**name),
            Resource::ChannelRules { hub, name, .. } => ResourceId::new(ResourceKind::ChannelRules, &**hub, &**name),
            Resource::Namespace { hub, name, .. } => ResourceId::new(ResourceKind::Namespace, &**hub, &**name),
            Resource::Channel { hub, name, .. } => ResourceId::new(ResourceKind::Channel, &**hub, &**name),
            Resource::AuthProvider { hub, .. } => ResourceId::new(ResourceKind::AuthProvider, &**hub, &**hub),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HubSpec {
    /// Whether channels without rules that say otherwise are open to every session of the hub.
    pub default_public: bool,
    /// Whether sessions may stay without authenticating.
    pub allow_anonymous: bool,
    /// Whether each authenticated session is subscribed to `u:<user id>`.
    pub user_channel: bool,
    /// The name of the channel rules for channels that no closer rules cover.
    pub default_rules: Option<String>,
    /// Origins of pages that may connect: `https://shop.example`, `https://*.shop.example`, or `*`. Empty: the origin
    /// must be the node's own host. Programs, which send no Origin, are not concerned.
    pub allowed_origins: Vec<String>,
    #[serde(deserialize_with = "object")]
    pub limits: LimitsSpec,
}

/// Bounds on what a hub's sessions may use on each node. None: the node's own default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct LimitsSpec {
    /// Connections of the hub at a time.
    pub connections: Option<u32>,
    /// Messages per second of all sessions of the hub together.
    pub messages_per_second: Option<u32>,
    /// Messages per second of one session.
    pub session_messages_per_second: Option<u32>,
    /// Subscriptions of one session.
    pub channels_per_session: Option<u32>,
}

/// The switches of R-406. What is not named is off, but for `clientPublish` and `redundancy`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ChannelRulesSpec {
    pub allow_retain: bool,
    pub allow_store: bool,
    pub allow_push: bool,
    pub presence: bool,
    /// Whether sessions without an explicit authorization may use the channel; None: the hub's `defaultPublic`.
    pub public: Option<bool>,
    /// Whether sessions may publish without an explicit authorization.
    pub client_publish: bool,
    /// Whether anonymous sessions may use the channel.
    pub allow_anonymous: bool,
    pub occupancy: bool,
    /// Copies on further nodes before a message is acknowledged, 0 to 3.
    pub redundancy: u8,
    /// Whether publishes are refused while the cluster has too few nodes for so many copies; else they are acknowledged
    /// with as many as there can be.
    pub redundancy_required: bool,
}

impl Default for ChannelRulesSpec {
    fn default() -> Self {
        ChannelRulesSpec {
            allow_retain: false,
            allow_store: false,
            allow_push: false,
            presence: false,
            public: None,
            client_publish: true,
            allow_anonymous: false,
            occupancy: false,
            redundancy: 1,
            redundancy_required: false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct BindingSpec {
    /// The name of channel rules of the same hub.
    pub rules: String,
}

/// Where a hub's clients prove who they are: a service, asked over HTTP or NATS, the tenant's tokens, or both.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AuthProviderSpec {
    #[serde(deserialize_with = "optional")]
    pub http: Option<HttpProviderSpec>,
    /// Boxed, or every resource of any kind would take more memory.
    #[serde(deserialize_with = "optional")]
    pub nats: Option<Box<NatsProviderSpec>>,
    #[serde(deserialize_with = "optional")]
    pub jwt: Option<JwtSpec>,
}

/// The tenant's own service, asked for each `Auth` with opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct HttpProviderSpec {
    /// `POST` unless given.
    #[serde(default)]
    pub method: Option<String>,
    /// `https://…` or `http://…`.
    pub url: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// For one attempt, in milliseconds; None: the node's default.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
}

/// The same service, where it answers requests over NATS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct NatsProviderSpec {
    /// Where it is asked, without wildcards: `appsockets.auth.shop`.
    pub subject: String,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// For one attempt, in milliseconds; None: the node's default.
    #[serde(default)]
    pub timeout_ms: Option<u32>,
}

/// The tenant's own JSON Web Tokens (RFC 7519). Exactly one of the keys.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct JwtSpec {
    /// A shared secret (HS256, HS384, HS512), at least 32 bytes.
    pub secret: Option<String>,
    /// A public key in PEM (RS*, PS*, ES*, EdDSA).
    pub public_key: Option<String>,
    /// The address of a JSON Web Key Set (RFC 7517).
    pub jwks_url: Option<String>,
    /// The algorithms that are accepted, by their JWA names (RFC 7518); empty: those that fit the key.
    pub algorithms: Vec<String>,
    /// Required value of `iss`, if given.
    pub issuer: Option<String>,
    /// Required value of `aud`, if given.
    pub audience: Option<String>,
    /// The claim that holds the user id; `sub` unless given.
    pub user_claim: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::Resource;

    #[test]
    fn what_is_not_known_is_refused_wherever_it_stands() {
        for json in [
            r#"{"kind":"Hub","name":"a","hub":"a"}"#,
            r#"{"kind":"Hub","name":"a","spec":{"allowAnonymus":true}}"#,
            r#"{"kind":"Hub","name":"a","spec":{"limits":{"x":1}}}"#,
            r#"{"kind":"ChannelRules","hub":"a","name":"r","spec":{"allow_retain":true}}"#,
            r#"{"kind":"Namespace","hub":"a","name":"n","spec":{"rules":"r","x":1}}"#,
            r#"{"kind":"AuthProvider","hub":"a","name":"a","spec":{}}"#,
            r#"{"kind":"AuthProvider","hub":"a","spec":{"http":{"url":"https://a","x":1}}}"#,
            r#"{"kind":"AuthProvider","hub":"a","spec":{"nats":{"subject":"a","x":1}}}"#,
            r#"{"kind":"AuthProvider","hub":"a","spec":{"jwt":{"key":"x"}}}"#,
            r#"{"kind":"Pod","name":"a"}"#,
            // By itself serde would read these in the order of the fields.
            r#"{"kind":"Hub","name":"a","spec":[true]}"#,
            r#"{"kind":"Hub","name":"a","spec":{"limits":[1]}}"#,
            r#"{"kind":"Channel","hub":"a","name":"c","spec":["r"]}"#,
            r#"{"kind":"AuthProvider","hub":"a","spec":{"jwt":[null,null,"https://a.example"]}}"#,
            r#"{"kind":"AuthProvider","hub":"a","spec":{"nats":["a"]}}"#,
        ] {
            assert!(serde_json::from_str::<Resource>(json).is_err(), "{json}");
        }
    }
}
