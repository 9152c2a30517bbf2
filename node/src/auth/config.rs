//! What the administrator sets for authentication.

use std::ops::RangeInclusive;

use ipnet::IpNet;

use super::fetch::TIMEOUT_MS_MAX;
use crate::{config::section::section, secret::Secret};

const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;
/// The shortest secret that signs, in bytes.
const SECRET_BYTES_MIN: u64 = 32;

section! {
    /// Bounds and secrets of a node's authentication.
    pub struct AuthConfig {
        /// The `iss` of the tokens that this cluster makes. The same on every node.
        pub issuer: String = "appsockets".to_owned();
        /// Signs the tokens of sessions; the same on every node, and not the administrators' token. Empty: made once,
        /// and kept in the data folder as `session.secret`.
        pub session_secret: Secret = Secret::default(), in SECRET_BYTES_MIN..=u64::MAX;
        /// How long a session's token is valid, in seconds.
        pub token_ttl_s: u64 = 900, in POSITIVE;
        /// Whether addresses that tenants chose may lead into private networks, wherever those are.
        pub allow_private_addresses: bool = false;
        /// Private networks into which such addresses may lead even so.
        pub allowed_networks: Vec<IpNet> = Vec::new();
        /// For one attempt to reach a provider, from its lookup to the end of the answer, where the provider's own
        /// settings name no other.
        pub timeout_ms: u64 = 2_000, in 1..=TIMEOUT_MS_MAX;
        /// How often a provider is tried in all.
        pub attempts: u32 = 2, in 1..=5;
        /// The largest answer of a provider or of a key set.
        pub response_bytes_max: usize = 64 << 10, in POSITIVE;
        /// Failures in a row after which a provider is left alone.
        pub breaker_failures: u32 = 5, in POSITIVE;
        /// For how long such a provider is left alone.
        pub breaker_open_ms: u64 = 5_000;
        /// Calls of one hub at a time. Sixteen times as many may wait for their turn.
        pub calls_in_flight_max: usize = 256, in 1..=65_536;
        /// The least time between two fetches of a key set that is in use.
        pub jwks_refresh_min_ms: u64 = 10_000;
        /// The age at which a key set is fetched again.
        pub jwks_max_age_ms: u64 = 600_000;
        /// The age up to which an old key set serves while no newer one can be had; not less than `jwksMaxAgeMs`.
        pub jwks_stale_max_ms: u64 = 3_600_000;
    }
}

impl AuthConfig {
    /// Fails with a sentence that names the field.
    pub(super) fn validate(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.issuer.is_empty(), "auth.issuer must not be empty");
        anyhow::ensure!(
            self.session_secret.keys().iter().all(|key| key.len() as u64 >= SECRET_BYTES_MIN)
                && !self.session_secret.is_empty(),
            "auth.sessionSecret must have at least 32 bytes"
        );
        anyhow::ensure!(self.token_ttl_s > 0, "auth.tokenTtlS must be greater than 0");
        anyhow::ensure!(
            (1..=TIMEOUT_MS_MAX).contains(&self.timeout_ms),
            "auth.timeoutMs must be 1 to {TIMEOUT_MS_MAX}"
        );
        anyhow::ensure!((1..=5).contains(&self.attempts), "auth.attempts must be 1 to 5");
        anyhow::ensure!(self.response_bytes_max > 0, "auth.responseBytesMax must be greater than 0");
        anyhow::ensure!(self.breaker_failures > 0, "auth.breakerFailures must be greater than 0");
        anyhow::ensure!((1..=65_536).contains(&self.calls_in_flight_max), "auth.callsInFlightMax must be 1 to 65536");
        anyhow::ensure!(
            self.jwks_stale_max_ms >= self.jwks_max_age_ms,
            "auth.jwksStaleMaxMs must not be less than auth.jwksMaxAgeMs"
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::AuthConfig;

    #[test]
    fn defaults_apply_and_typing_mistakes_do_not_pass() {
        let read = |text: &str| serde_json::from_str::<AuthConfig>(text);
        let config =
            read(r#"{"sessionSecret": "0123456789abcdef0123456789abcdef", "allowedNetworks": ["10.1.0.0/16"]}"#);
        let config = config.expect("valid");
        assert!(config.validate().is_ok());
        assert_eq!((config.token_ttl_s, config.allowed_networks.len()), (900, 1));
        assert!(!format!("{config:?}").contains("0123456789"));
        assert!(read(r#"{"sesionSecret": ""}"#).is_err());
        assert!(read("{}").is_ok_and(|config| config.validate().is_err()), "a secret is needed");
    }
}
