//! What a tenant's resource says, in the form that nodes take.

use appsockets_core::settings::resource::{self as node, BindingSpec, Resource};
use kube::ResourceExt;

use crate::{
    AuthProvider, ChannelRules, Hub, HubNamespace, auth_provider::HeaderSpec, hub::LimitsSpec, reference::SecretKeyRef,
};

impl Hub {
    /// The name by which clients connect.
    pub fn hub_name(&self) -> String {
        self.spec.hub_name.clone().unwrap_or_else(|| self.name_any())
    }

    /// For the nodes.
    pub fn resource(&self) -> Resource {
        let spec = &self.spec;
        Resource::Hub {
            name: self.hub_name(),
            spec: node::HubSpec {
                default_public: spec.default_public,
                allow_anonymous: spec.allow_anonymous,
                user_channel: spec.user_channel,
                default_rules: spec.default_rules_ref.as_ref().map(|rules| rules.name.clone()),
                allowed_origins: spec.allowed_origins.clone(),
                limits: spec.limits.map(limits).unwrap_or_default(),
            },
        }
    }
}

/// The schema lets no limit below 1 through.
fn limits(limits: LimitsSpec) -> node::LimitsSpec {
    let limit = |limit: Option<i32>| limit.map(|limit| limit.max(0).unsigned_abs());
    node::LimitsSpec {
        connections: limit(limits.connections),
        messages_per_second: limit(limits.messages_per_second),
        session_messages_per_second: limit(limits.session_messages_per_second),
        channels_per_session: limit(limits.channels_per_session),
    }
}

impl ChannelRules {
    /// For the nodes: the rules, and the channels that are bound to them by name.
    pub fn resources(&self, hub: &str) -> Vec<Resource> {
        let spec = &self.spec;
        let default = node::ChannelRulesSpec::default();
        let redundancy = spec.redundancy.map_or(default.redundancy, |copies| u8::try_from(copies).unwrap_or(u8::MAX));
        let rules = Resource::ChannelRules {
            hub: hub.to_owned(),
            name: self.name_any(),
            spec: node::ChannelRulesSpec {
                allow_retain: spec.allow_retain,
                allow_store: spec.allow_store,
                allow_push: spec.allow_push,
                presence: spec.presence,
                public: spec.public,
                client_publish: spec.client_publish.unwrap_or(default.client_publish),
                allow_anonymous: spec.allow_anonymous,
                occupancy: spec.occupancy,
                redundancy,
                redundancy_required: spec.redundancy_required,
            },
        };
        let channels = spec.channels.iter().map(|channel| Resource::Channel {
            hub: hub.to_owned(),
            name: channel.clone(),
            spec: BindingSpec { rules: self.name_any() },
        });
        std::iter::once(rules).chain(channels).collect()
    }
}

impl HubNamespace {
    /// For the nodes.
    pub fn resource(&self, hub: &str) -> Resource {
        Resource::Namespace {
            hub: hub.to_owned(),
            name: self.spec.name.clone().unwrap_or_else(|| self.name_any()),
            spec: BindingSpec { rules: self.spec.rules_ref.name.clone() },
        }
    }
}

impl AuthProvider {
    /// For the nodes. `secrets` finds the value of a key of a Secret in the Kubernetes namespace of this resource.
    ///
    /// # Errors
    /// Those of `secrets`.
    pub fn resource<E>(&self, hub: &str, secrets: impl Fn(&SecretKeyRef) -> Result<String, E>) -> Result<Resource, E> {
        let headers = |headers: &[HeaderSpec]| {
            let headers = headers.iter().map(|header| {
                let value = match (&header.value, &header.secret_key_ref) {
                    (Some(value), _) => value.clone(),
                    (None, Some(secret)) => secrets(secret)?,
                    (None, None) => String::new(),
                };
                Ok((header.name.clone(), value))
            });
            headers.collect::<Result<_, E>>()
        };
        let timeout_ms = |ms: Option<i32>| ms.map(|ms| ms.max(0).unsigned_abs());
        let http = self.spec.http.as_ref().map(|http| {
            Ok(node::HttpProviderSpec {
                method: http.method.clone(),
                url: http.url.clone(),
                headers: headers(&http.headers)?,
                timeout_ms: timeout_ms(http.timeout_ms),
            })
        });
        let nats = self.spec.nats.as_ref().map(|nats| {
            Ok(Box::new(node::NatsProviderSpec {
                subject: nats.subject.clone(),
                headers: headers(&nats.headers)?,
                timeout_ms: timeout_ms(nats.timeout_ms),
            }))
        });
        let jwt = self.spec.jwt.as_ref().map(|jwt| {
            Ok(node::JwtSpec {
                secret: jwt.secret_key_ref.as_ref().map(&secrets).transpose()?,
                public_key: jwt.public_key.clone(),
                jwks_url: jwt.jwks_url.clone(),
                algorithms: jwt.algorithms.clone(),
                issuer: jwt.issuer.clone(),
                audience: jwt.audience.clone(),
                user_claim: jwt.user_claim.clone(),
            })
        });
        let spec = node::AuthProviderSpec { http: http.transpose()?, nats: nats.transpose()?, jwt: jwt.transpose()? };
        Ok(Resource::AuthProvider { hub: hub.to_owned(), spec })
    }

    /// The Secrets that it refers to.
    pub fn secrets(&self) -> impl Iterator<Item = &SecretKeyRef> {
        let over_http = self.spec.http.iter().flat_map(|http| &http.headers);
        let over_nats = self.spec.nats.iter().flat_map(|nats| &nats.headers);
        let jwt = self.spec.jwt.iter().filter_map(|jwt| jwt.secret_key_ref.as_ref());
        over_http.chain(over_nats).filter_map(|header| header.secret_key_ref.as_ref()).chain(jwt)
    }
}
