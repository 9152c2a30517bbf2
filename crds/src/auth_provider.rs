//! How a hub's clients prove who they are.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{
    pattern,
    reference::{HubRef, SecretKeyRef},
    status::Status,
};

const ADDRESS: &str = "Write an address that begins with https:// or http:// and a host in its ASCII form, without a user, \
    a password and a `#`.";
const SUBJECT: &str = "Write a subject such as appsockets.auth.shop: letters, digits and signs of ASCII, without spaces, `*` \
    and `>`, nothing empty between two dots, and not with `$` or `_` first.";
const NOT_EMPTY: &str = "Write a text that is not empty, or leave it out.";

/// How a hub's clients prove who they are. A hub has one; a token is tried before the service.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "appsockets.io",
    version = "v1alpha1",
    kind = "AuthProvider",
    namespaced,
    status = "Status",
    derive = "PartialEq",
    category = "appsockets",
    doc = "How a hub's clients prove who they are. A hub has one; a token is tried before the service."
)]
#[cfg_attr(test, kube(cel))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.http) || has(self.nats) || has(self.jwt)")
        .message("Write `http` or `nats`, `jwt`, or one of the two and `jwt`."),
    validation = Rule::new("!(has(self.http) && has(self.nats))")
        .message("Write either `http` or `nats`: a hub has one provider."),
    validation = Rule::new("self.hubRef == oldSelf.hubRef")
        .message("An auth provider stays with its hub: delete it and make it anew.")
)]
pub struct AuthProviderSpec {
    /// The hub whose clients this is for.
    pub hub_ref: HubRef,
    /// The tenant's own service, asked for each `Auth`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpSpec>,
    /// The same service, where it answers requests over NATS, which `spec.connections.nats` of the cluster names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nats: Option<NatsSpec>,
    /// The tenant's own JSON Web Tokens (RFC 7519).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtSpec>,
}

/// The tenant's own service, asked for each `Auth` with opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpSpec {
    /// `POST` unless given.
    #[x_kube(validation = Rule::new("self in ['GET', 'POST', 'PUT', 'PATCH']")
        .message("Write GET, POST, PUT or PATCH."))]
    #[schemars(length(max = 10))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// `https://…` or `http://…`.
    #[x_kube(validation = Rule::new(pattern::address()).message(ADDRESS))]
    #[schemars(length(max = 2000))]
    pub url: String,
    /// Headers of the request.
    #[x_kube(validation = Rule::new("self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))")
        .message("Write each header once; large and small letters are the same."))]
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderSpec>,
    /// For one attempt, in milliseconds; unless given, the node's default.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 60000").message("Write 1 to 60000 milliseconds."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i32>,
}

/// The tenant's own service, asked over NATS for each `Auth` with opaque bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct NatsSpec {
    /// Where it is asked, such as `appsockets.auth.shop`; the cluster's administrator says which subjects may be
    /// (`nats.authSubjects`).
    #[x_kube(validation = Rule::new(format!("self.matches('{}')", pattern::SUBJECT)).message(SUBJECT))]
    #[schemars(length(max = 1000))]
    pub subject: String,
    /// Headers of the request.
    #[x_kube(validation = Rule::new("self.all(h, self.exists_one(o, o.name.lowerAscii() == h.name.lowerAscii()))")
        .message("Write each header once; large and small letters are the same."))]
    #[x_kube(validation = Rule::new("self.all(h, !h.name.lowerAscii().startsWith('nats-'))")
        .message("Leave headers out that begin with Nats-: they are for NATS itself."))]
    #[schemars(length(max = 32))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<HeaderSpec>,
    /// For one attempt, in milliseconds; unless given, the node's default.
    #[x_kube(validation = Rule::new("self >= 1 && self <= 60000").message("Write 1 to 60000 milliseconds."))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout_ms: Option<i32>,
}

/// A header of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new("has(self.value) != has(self.secretKeyRef)")
    .message("Write either `value` or `secretKeyRef`."))]
pub struct HeaderSpec {
    #[x_kube(validation = Rule::new("self.matches('^[A-Za-z0-9!#$%&*+.^_|~-]+$')")
        .message("Write the name of a header, without spaces and colons."))]
    #[x_kube(validation = Rule::new(
        "!(self.lowerAscii() in ['connection', 'content-length', 'host', 'te', 'transfer-encoding', 'upgrade'])")
        .message("Leave this header out: the connection itself decides it."))]
    #[schemars(length(max = 100))]
    pub name: String,
    /// What everybody may see who can read this resource.
    #[x_kube(validation = Rule::new(r"self.matches('^[ -~\\t]*$')").message("Write the value in one line of ASCII."))]
    #[schemars(length(max = 4000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// A secret value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
}

/// The tenant's own JSON Web Tokens (RFC 7519). Exactly one of the keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.secretKeyRef), has(self.publicKey), has(self.jwksUrl)].filter(there, there).size() == 1")
    .message("Write exactly one of `secretKeyRef`, `publicKey` and `jwksUrl`."))]
#[x_kube(validation = Rule::new(
    "!has(self.algorithms) || self.algorithms.all(a, a.startsWith('HS') == has(self.secretKeyRef))")
    .message("Write HS256, HS384 and HS512 with `secretKeyRef`, and all others with `publicKey` or `jwksUrl`."))]
pub struct JwtSpec {
    /// A shared secret (HS256, HS384, HS512), at least 32 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<SecretKeyRef>,
    /// A public key in PEM (RS*, PS*, ES*, EdDSA).
    #[x_kube(validation = Rule::new(r"self.matches('^\\s*-----BEGIN PUBLIC KEY-----')")
        .message("Write a public key in PEM, from -----BEGIN PUBLIC KEY----- on."))]
    #[x_kube(validation = Rule::new("!self.contains('PRIVATE KEY-----')")
        .message("This is a private key: write the public one, and keep this one away from here."))]
    #[schemars(length(max = 10000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub public_key: Option<String>,
    /// The address of a JSON Web Key Set (RFC 7517).
    #[x_kube(validation = Rule::new(pattern::address()).message(ADDRESS))]
    #[schemars(length(max = 2000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwks_url: Option<String>,
    /// The algorithms that are accepted, by their JWA names (RFC 7518); empty: those that fit the key.
    #[x_kube(validation = Rule::new(
        "self.all(a, a in ['HS256', 'HS384', 'HS512', 'RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512', 'ES256', 'ES384', 'EdDSA'])")
        .message("Write algorithms by their JWA names: HS256, RS256, ES256, EdDSA and their like."))]
    #[schemars(length(max = 20), inner(length(max = 20)))]
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub algorithms: Vec<String>,
    /// Required value of `iss`, if given.
    #[x_kube(validation = Rule::new("size(self) > 0").message(NOT_EMPTY))]
    #[schemars(length(max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Required value of `aud`, if given.
    #[x_kube(validation = Rule::new("size(self) > 0").message(NOT_EMPTY))]
    #[schemars(length(max = 1000))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub audience: Option<String>,
    /// The claim that holds the user id; `sub` unless given.
    #[x_kube(validation = Rule::new("size(self) > 0").message(NOT_EMPTY))]
    #[schemars(length(max = 100))]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_claim: Option<String>,
}
