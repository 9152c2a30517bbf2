//! The tenant's own tokens: verified with a shared secret, a public key, or the keys of the tenant's identity provider.

use std::{str::FromStr, sync::Arc};

use appsockets_core::{identity::Identity, settings::resource::JwtSpec};
use jsonwebtoken::{Algorithm, Validation};
use serde_json::Value;

use super::{
    AuthError,
    grant::Grant,
    guard::{Guard, Target},
    jwks::Jwks,
    key::Key,
    token::{Claims, Shown, expiry_s, invalid},
};

/// How far the clocks of tenant and node may be apart, in seconds.
const LEEWAY_S: u64 = 30;

/// [`JwtSpec`], checked.
pub struct TenantTokens {
    keys: Keys,
    issuer: Option<String>,
    audience: Option<String>,
    user_claim: String,
}

enum Keys {
    One(Key),
    Set(Arc<Jwks>),
}

impl TenantTokens {
    /// `set` makes the key set of an address. Fails with a sentence for the author of the settings.
    pub fn new(
        spec: &JwtSpec,
        guard: &Guard,
        set: impl FnOnce(Target, Vec<Algorithm>) -> Jwks,
    ) -> Result<Self, &'static str> {
        let algorithms = algorithms(&spec.algorithms)?;
        let keys = match (&spec.secret, &spec.public_key, &spec.jwks_url) {
            (Some(secret), None, None) => Keys::One(restricted(Key::from_secret(secret)?, &algorithms)?),
            (None, Some(pem), None) => Keys::One(restricted(Key::from_pem(pem)?, &algorithms)?),
            (None, None, Some(url)) => Keys::Set(Arc::new(set(guard.target(url)?, algorithms))),
            _ => return Err("exactly one of secret, publicKey and jwksUrl must be set"),
        };
        Ok(TenantTokens {
            keys,
            issuer: spec.issuer.clone(),
            audience: spec.audience.clone(),
            user_claim: spec.user_claim.clone().unwrap_or_else(|| "sub".to_owned()),
        })
    }

    pub async fn verify(&self, token: &Shown<'_>) -> Result<Identity, AuthError> {
        let keys = match &self.keys {
            Keys::One(key) if key.fits(&token.header) => vec![key.clone()],
            Keys::One(_) => return Err(invalid("the token's algorithm does not fit the hub's key")),
            Keys::Set(set) => set.keys(&token.header).await?,
        };
        let validation = self.validation(token.header.alg);
        let claims = keys.iter().find_map(|key| token.verify(&key.decoding, &validation));
        self.identity(claims.unwrap_or_else(|| Err(invalid("no key of the hub signed the token")))?)
    }

    fn validation(&self, algorithm: Algorithm) -> Validation {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_S;
        validation.validate_nbf = true;
        validation.validate_aud = self.audience.is_some();
        let mut required = vec!["exp"];
        if let Some(issuer) = &self.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        if let Some(audience) = &self.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        validation.set_required_spec_claims(&required);
        validation
    }

    fn identity(&self, mut claims: Claims) -> Result<Identity, AuthError> {
        // The same leeway as above, or a session would end while its token is still accepted.
        let expires_unix_ms = expiry_s(&claims)?.saturating_add(LEEWAY_S).saturating_mul(1_000);
        let grant = Grant::from_claims(&mut claims).map_err(invalid)?;
        let user_id = claims.get(&self.user_claim).and_then(Value::as_str);
        let user_id = user_id.ok_or_else(|| invalid("the claim of the user id is missing or is no text"))?;
        grant.identity(user_id, Some(expires_unix_ms)).map_err(invalid)
    }
}

fn algorithms(names: &[String]) -> Result<Vec<Algorithm>, &'static str> {
    let parsed = names.iter().map(|name| Algorithm::from_str(name)).collect::<Result<_, _>>();
    parsed.map_err(|_| "algorithms must be names such as RS256, ES256, EdDSA or HS256")
}

fn restricted(mut key: Key, algorithms: &[Algorithm]) -> Result<Key, &'static str> {
    if !algorithms.is_empty() {
        key.restrict(algorithms);
    }
    if key.is_useless() { Err("none of the algorithms fits the key") } else { Ok(key) }
}
