//! Who a session is: the hub's own service by HTTP or NATS, the tenant's tokens, and our own.
//!
//! The core decides what an identity may do; here is only found out whose it is. Nothing here knows sessions or
//! sockets. All of it runs on the node's small runtime, never on a worker's thread.

use std::sync::Arc;

use appsockets_core::{
    code::ErrorCode,
    identity::Identity,
    session::request::Credentials,
    settings::{
        hub::Hub,
        resource::{AuthProviderSpec, HttpProviderSpec, JwtSpec, NatsProviderSpec},
    },
};

use self::{
    clock::Clock,
    fetch::Fetcher,
    guard::Guard,
    hubs::Hubs,
    jwks::Jwks,
    over_http::OverHttp,
    over_nats::OverNats,
    own::OwnTokens,
    provider::{Provider, Way},
    tenant::TenantTokens,
    token::Shown,
};
use crate::nats::Nats;

mod breaker;
mod clock;
mod config;
mod fetch;
mod grant;
mod guard;
mod hubs;
mod jwks;
mod key;
mod over_http;
mod over_nats;
mod own;
mod provider;
mod question;
mod tenant;
#[cfg(test)]
mod tests;
mod token;

pub use config::AuthConfig;

/// Why there is no identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", code.name())]
pub struct AuthError {
    /// For the client: one of the codes 130 to 135, or `internal`.
    pub code: ErrorCode,
    /// For the log, never for the client. Holds no credentials, addresses, claims or answers.
    pub detail: String,
}

/// Finds out who sessions are.
pub struct Authenticator {
    config: AuthConfig,
    clock: Clock,
    guard: Guard,
    fetcher: Fetcher,
    /// None: this node has no NATS.
    nats: Option<Arc<Nats>>,
    own: OwnTokens,
    hubs: Hubs<Checked>,
}

/// A hub's settings, ready for use, or what is wrong with them.
struct Checked {
    http: Option<Result<Provider, &'static str>>,
    nats: Option<Result<Provider, &'static str>>,
    jwt: Option<Result<TenantTokens, &'static str>>,
}

impl Authenticator {
    /// Fails if the configuration is not valid or TLS can't be set up.
    pub fn new(config: AuthConfig, nats: Option<Arc<Nats>>) -> anyhow::Result<Self> {
        config.validate()?;
        let guard = Guard::new(config.allow_private_addresses, &config.allowed_networks);
        let fetcher = Fetcher::new(guard.clone(), config.response_bytes_max)?;
        let own = OwnTokens::new(&config);
        Ok(Authenticator { config, clock: Clock::start(), guard, fetcher, nats, own, hubs: Hubs::new() })
    }

    pub fn nats(&self) -> Option<&Nats> {
        self.nats.as_deref()
    }

    /// For `Auth` messages and tokens given while connecting. Needs a tokio runtime; may be given up at any time.
    ///
    /// Takes at most `attempts + 1` times the provider's time-out and some pauses of less than two seconds each.
    pub async fn authenticate(
        &self,
        hub: &Hub,
        session_id: &str,
        credentials: &Credentials,
    ) -> Result<Identity, AuthError> {
        match credentials {
            Credentials::Token(token) => self.by_token(hub, &Shown::new(token)?).await,
            Credentials::Opaque(payload) => {
                let checked = self.checked(hub).ok_or_else(not_configured)?;
                // With both, which no source of settings lets through, the one counts that was there first.
                usable(checked.http.as_ref().or(checked.nats.as_ref()))?.ask(&hub.id, session_id, payload).await
            }
        }
    }

    /// A token for this hub, signed by the cluster: what [`Authenticator::authenticate`] takes again, on any node. It
    /// never outlives the identity. Fails with `internal` if the identity makes it longer than 64 KiB.
    pub fn issue(
        &self,
        hub: &str,
        session_id: &str,
        identity: &Identity,
        now_unix_ms: u64,
    ) -> Result<Arc<str>, AuthError> {
        self.own.issue(hub, session_id, identity, now_unix_ms)
    }

    /// Fails with a sentence for the author of the settings, which begins with the field. What is wrong here makes the
    /// hub answer `auth_not_configured`.
    pub fn check(&self, spec: &AuthProviderSpec) -> Result<(), String> {
        let Checked { http, nats, jwt } = self.check_all(spec);
        http.transpose().map_err(|sentence| format!("http: {sentence}"))?;
        nats.transpose().map_err(|sentence| format!("nats: {sentence}"))?;
        jwt.transpose().map_err(|sentence| format!("jwt: {sentence}"))?;
        Ok(())
    }

    /// Drops what is kept for a hub that was removed. Changed settings need no call: they are noticed.
    pub fn forget(&self, hub: &str) {
        self.hubs.forget(hub);
    }

    async fn by_token(&self, hub: &Hub, token: &Shown<'_>) -> Result<Identity, AuthError> {
        if self.own.claims(token) {
            return self.own.verify(&hub.id, token);
        }
        let checked = self.checked(hub).ok_or_else(not_configured)?;
        usable(checked.jwt.as_ref())?.verify(token).await
    }

    fn checked(&self, hub: &Hub) -> Option<Arc<Checked>> {
        let spec = hub.auth.as_ref()?;
        Some(self.hubs.get(hub, spec, self.clock.mono_ms(), || self.check_all(spec)))
    }

    fn check_all(&self, spec: &AuthProviderSpec) -> Checked {
        let AuthProviderSpec { http, nats, jwt } = spec;
        Checked {
            http: http.as_ref().map(|http| self.over_http(http)),
            nats: nats.as_ref().map(|nats| self.over_nats(nats)),
            jwt: jwt.as_ref().map(|jwt| self.tenant_tokens(jwt)),
        }
    }

    fn over_http(&self, spec: &HttpProviderSpec) -> Result<Provider, &'static str> {
        let way = Way::Http(Box::new(OverHttp::new(spec, &self.guard, self.fetcher.clone())?));
        Provider::new(way, spec.timeout_ms, &self.config, self.clock)
    }

    fn over_nats(&self, spec: &NatsProviderSpec) -> Result<Provider, &'static str> {
        let way = Way::Nats(OverNats::new(spec, self.nats.as_ref(), self.config.response_bytes_max)?);
        Provider::new(way, spec.timeout_ms, &self.config, self.clock)
    }

    fn tenant_tokens(&self, spec: &JwtSpec) -> Result<TenantTokens, &'static str> {
        TenantTokens::new(spec, &self.guard, |target, algorithms| {
            Jwks::new(target, algorithms, &self.config, self.fetcher.clone(), self.clock)
        })
    }
}

impl AuthError {
    fn new(code: ErrorCode, detail: impl Into<String>) -> Self {
        AuthError { code, detail: detail.into() }
    }
}

fn usable<'a, T>(checked: Option<&'a Result<T, &'static str>>) -> Result<&'a T, AuthError> {
    let checked = checked.ok_or_else(not_configured)?;
    checked.as_ref().map_err(|sentence| AuthError::new(ErrorCode::AuthNotConfigured, *sentence))
}

fn not_configured() -> AuthError {
    AuthError::new(ErrorCode::AuthNotConfigured, "the hub has no provider for this kind of credentials")
}
