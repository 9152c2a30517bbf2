//! The tokens that the cluster itself makes for its sessions: short-lived, for one hub, signed with the secret that all
//! nodes share.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{
    code::ErrorCode,
    identity::{ChannelAuthorization, Identity, RpcAuthorization},
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, encode};
use serde::Serialize;

use super::{
    AuthError,
    config::AuthConfig,
    grant::Grant,
    token::{Shown, TOKEN_BYTES_MAX, expiry_s, invalid},
};
use crate::secret::Secret;

const ALGORITHM: Algorithm = Algorithm::HS256;

pub struct OwnTokens {
    issuer: String,
    ttl_s: u64,
    secret: Secret,
}

#[derive(Serialize)]
struct OwnClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    sid: &'a str,
    iat: u64,
    exp: u64,
    channels: &'a [ChannelAuthorization],
    rpcs: &'a [RpcAuthorization],
    extra: &'a BTreeMap<String, String>,
}

impl OwnTokens {
    pub fn new(config: &AuthConfig) -> Self {
        OwnTokens { issuer: config.issuer.clone(), ttl_s: config.token_ttl_s, secret: config.session_secret.clone() }
    }

    /// Valid for the configured time, but never longer than the identity, so that a token can't be renewed for ever.
    /// Fails with `internal` if the token were longer than [`TOKEN_BYTES_MAX`].
    pub fn issue(
        &self,
        hub: &str,
        session: &str,
        identity: &Identity,
        now_unix_ms: u64,
    ) -> Result<Arc<str>, AuthError> {
        let iat = now_unix_ms / 1_000;
        let bound = identity.expires_unix_ms.map_or(u64::MAX, |expires| expires / 1_000);
        let claims = OwnClaims {
            iss: &self.issuer,
            aud: hub,
            sub: &identity.user_id,
            sid: session,
            iat,
            exp: iat.saturating_add(self.ttl_s).min(bound),
            channels: &identity.channels,
            rpcs: &identity.rpcs,
            extra: &identity.extra,
        };
        let token = encode(&Header::new(ALGORITHM), &claims, &EncodingKey::from_secret(&self.secret.first()))
            .map_err(|error| AuthError::new(ErrorCode::Internal, format!("the token can't be signed: {error}")))?;
        if token.len() > TOKEN_BYTES_MAX {
            return Err(AuthError::new(ErrorCode::Internal, "the token would be too long"));
        }
        Ok(token.into())
    }

    /// Whether a token says that it is one of these.
    pub fn claims(&self, token: &Shown<'_>) -> bool {
        token.header.alg == ALGORITHM && token.issuer.as_deref() == Some(&*self.issuer)
    }

    /// Without leeway, because the cluster's nodes made it: what they accept must not outlive what they issued.
    pub fn verify(&self, hub: &str, token: &Shown<'_>) -> Result<Identity, AuthError> {
        let mut validation = Validation::new(ALGORITHM);
        validation.leeway = 0;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[hub]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        let wrong = || Err(invalid("the token was not signed with the session secret"));
        let keys = self.secret.keys();
        let verify = |key: &Vec<u8>| token.verify(&DecodingKey::from_secret(key), &validation);
        let mut claims = keys.iter().find_map(verify).unwrap_or_else(wrong)?;
        let expires_unix_ms = expiry_s(&claims)?.saturating_mul(1_000);
        let grant = Grant::from_claims(&mut claims).map_err(invalid)?;
        let user_id = claims.get("sub").and_then(|sub| sub.as_str()).unwrap_or_default();
        grant.identity(user_id, Some(expires_unix_ms)).map_err(invalid)
    }
}
