//! What a provider or a token says of a session, checked before anyone relies on it.

use std::{collections::BTreeMap, sync::Arc};

use appsockets_core::{
    channel,
    identity::{ChannelAuthorization, Identity, RpcAuthorization},
};
use serde::de::DeserializeOwned;

use super::token::Claims;

/// Authorizations of one session, for channels and methods together.
pub const AUTHORIZATIONS_MAX: usize = 1_000;
/// Keys and values of `extra` together.
pub const EXTRA_BYTES_MAX: usize = 8 * 1024;

/// The parts that provider and token share. A list that is `null` is empty: some languages write empty ones so.
#[derive(Debug, Default)]
pub struct Grant {
    pub channels: Option<Vec<ChannelAuthorization>>,
    pub rpcs: Option<Vec<RpcAuthorization>>,
    pub extra: Option<BTreeMap<String, String>>,
}

impl Grant {
    /// The identity, if everything is within its bounds; else a sentence that tells what is not.
    pub fn identity(self, user_id: &str, expires_unix_ms: Option<u64>) -> Result<Identity, &'static str> {
        let channels = self.channels.unwrap_or_default();
        let rpcs = self.rpcs.unwrap_or_default();
        let extra = self.extra.unwrap_or_default();
        if !channel::is_valid_name(user_id) {
            return Err("the user id must have 1 to 255 bytes without control characters");
        }
        if channels.len() + rpcs.len() > AUTHORIZATIONS_MAX {
            return Err("more than 1000 authorizations");
        }
        let mut patterns =
            channels.iter().map(|granted| &granted.channel).chain(rpcs.iter().map(|granted| &granted.method));
        if !patterns.all(|pattern| channel::is_valid_name(pattern)) {
            return Err("a pattern must have 1 to 255 bytes without control characters");
        }
        if extra.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>() > EXTRA_BYTES_MAX {
            return Err("more than 8192 bytes of extra");
        }
        Ok(Identity { user_id: Arc::from(user_id), extra, channels, rpcs, expires_unix_ms })
    }

    /// From the claims `channels`, `rpcs` and `extra` of a token.
    pub fn from_claims(claims: &mut Claims) -> Result<Self, &'static str> {
        Ok(Grant {
            channels: claim(claims, "channels").map_err(|_| "the claim channels can't be read")?,
            rpcs: claim(claims, "rpcs").map_err(|_| "the claim rpcs can't be read")?,
            extra: claim(claims, "extra").map_err(|_| "the claim extra can't be read")?,
        })
    }
}

fn claim<T: DeserializeOwned>(claims: &mut Claims, name: &str) -> serde_json::Result<Option<T>> {
    claims.remove(name).map_or(Ok(None), serde_json::from_value)
}

#[cfg(test)]
mod tests {
    use super::Grant;
    use appsockets_core::identity::{ChannelAuthorization, RpcAuthorization};

    fn channels(count: usize) -> Option<Vec<ChannelAuthorization>> {
        Some(vec![ChannelAuthorization { channel: "a".into(), publish: true, subscribe: true }; count])
    }

    #[test]
    fn bounds_hold() {
        let rpcs = || Some(vec![RpcAuthorization { method: "m".into() }]);
        let extra = |bytes: usize| Some([("k".to_owned(), "x".repeat(bytes - 1))].into());
        let ok = |grant: Grant, user: &str| grant.identity(user, None).is_ok();
        assert!(ok(Grant { channels: channels(999), rpcs: rpcs(), extra: extra(8192) }, &"u".repeat(255)));
        assert!(!ok(Grant { channels: channels(1_000), rpcs: rpcs(), ..Grant::default() }, "u"));
        assert!(!ok(Grant { extra: extra(8193), ..Grant::default() }, "u"));
        for user in ["", "a\n", &"u".repeat(256)] {
            assert!(!ok(Grant::default(), user));
        }
        for pattern in ["", "a\0", &"c".repeat(256)] {
            let channels = vec![ChannelAuthorization { channel: pattern.into(), publish: true, subscribe: false }];
            assert!(!ok(Grant { channels: Some(channels), ..Grant::default() }, "u"));
            let rpcs = vec![RpcAuthorization { method: pattern.into() }];
            assert!(!ok(Grant { rpcs: Some(rpcs), ..Grant::default() }, "u"));
        }
    }
}
