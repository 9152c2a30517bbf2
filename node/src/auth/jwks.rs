//! A tenant's JSON Web Key Set: fetched when it is needed, kept, and fetched again when a token names a key that it
//! lacks, which is how a rotation is noticed.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use appsockets_core::code::ErrorCode;
use http_body_util::Full;
use hyper::{Request, header};
use jsonwebtoken::{Algorithm, Header};
use serde::Deserialize;
use serde_json::Value;

use super::{AuthError, clock::Clock, config::AuthConfig, fetch::Fetcher, guard::Target, key::Key, token::invalid};

/// Keys of one set that are kept.
const KEYS_MAX: usize = 64;
/// While there are no keys at all, nothing works, so the next attempt comes sooner.
const RETRY_MS: u64 = 1_000;

pub struct Jwks {
    target: Target,
    /// What the tenant allows.
    algorithms: Vec<Algorithm>,
    bounds: Bounds,
    fetcher: Fetcher,
    clock: Clock,
    cache: Mutex<Cache>,
    /// Held while the set is fetched, so that those who come meanwhile wait for the same answer.
    turn: tokio::sync::Mutex<()>,
}

#[derive(Clone, Copy)]
struct Bounds {
    timeout: Duration,
    refresh_min_ms: u64,
    max_age_ms: u64,
    stale_max_ms: u64,
}

#[derive(Clone, Default)]
struct Cache {
    keys: Option<Kept>,
    /// How many fetches have ended.
    fetches: u64,
    ended_ms: u64,
    failed: bool,
}

#[derive(Clone)]
struct Kept {
    keys: Arc<[Key]>,
    since_ms: u64,
}

#[derive(Deserialize)]
struct KeySet {
    keys: Vec<Value>,
}

impl Jwks {
    pub fn new(
        target: Target,
        algorithms: Vec<Algorithm>,
        config: &AuthConfig,
        fetcher: Fetcher,
        clock: Clock,
    ) -> Self {
        let bounds = Bounds {
            timeout: Duration::from_millis(config.timeout_ms),
            refresh_min_ms: config.jwks_refresh_min_ms,
            max_age_ms: config.jwks_max_age_ms,
            stale_max_ms: config.jwks_stale_max_ms,
        };
        Jwks {
            target,
            algorithms,
            bounds,
            fetcher,
            clock,
            cache: Mutex::default(),
            turn: tokio::sync::Mutex::default(),
        }
    }

    /// Keys of which one may have signed a token with this header. Waits for a fetch if one is due.
    pub async fn keys(self: &Arc<Self>, header: &Header) -> Result<Vec<Key>, AuthError> {
        let before = self.cached();
        if let Some(kept) = before.within(self.bounds.max_age_ms, self.clock.mono_ms())
            && kept.has(header)
        {
            return Ok(kept.fitting(header));
        }
        if self.is_due(&before) {
            self.refresh(before.fetches).await;
        }
        let now = self.cached();
        match now.within(self.bounds.stale_max_ms, self.clock.mono_ms()) {
            Some(kept) if kept.has(header) => Ok(kept.fitting(header)),
            Some(_) if !now.failed => Err(invalid("the key set has no key that fits the token")),
            _ => Err(AuthError::new(ErrorCode::AuthUnavailable, "the key set can't be had")),
        }
    }

    fn is_due(&self, cache: &Cache) -> bool {
        let pause = match cache.keys {
            Some(_) => self.bounds.refresh_min_ms,
            None => self.bounds.refresh_min_ms.min(RETRY_MS),
        };
        cache.fetches == 0 || self.clock.mono_ms() >= cache.ended_ms.saturating_add(pause)
    }

    /// In a task of its own, so that one who stops waiting does not take the answer away from the others.
    async fn refresh(self: &Arc<Self>, fetches: u64) {
        let this = self.clone();
        let refresh = async move {
            let _turn = this.turn.lock().await;
            if this.cached().fetches == fetches {
                this.fetch().await;
            }
        };
        if let Err(error) = tokio::spawn(refresh).await {
            tracing::error!(%error, "the refresh of a key set ended early");
        }
    }

    async fn fetch(&self) {
        let keys = self.fetched().await;
        let now_ms = self.clock.mono_ms();
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.fetches += 1;
        cache.ended_ms = now_ms;
        cache.failed = keys.is_err();
        match keys {
            Ok(keys) => cache.keys = Some(Kept { keys, since_ms: now_ms }),
            Err(detail) => tracing::warn!(%detail, host = self.target.uri().host(), "a key set could not be fetched"),
        }
    }

    async fn fetched(&self) -> Result<Arc<[Key]>, String> {
        let request = Request::get(self.target.uri()).header(header::ACCEPT, "application/json");
        let request = request.body(Full::default()).map_err(|error| error.to_string())?;
        let answer = self.fetcher.send(request, self.bounds.timeout).await.map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("status {}", answer.status.as_u16()));
        }
        let set: KeySet = serde_json::from_slice(&answer.body).map_err(|_| "not a key set".to_owned())?;
        // A key that can't be used, perhaps of a kind from the future, must not hide those that can.
        let keys = set.keys.into_iter().filter_map(|key| self.usable(key));
        Ok(keys.take(KEYS_MAX).collect())
    }

    fn usable(&self, key: Value) -> Option<Key> {
        let mut key = Key::from_jwk(&serde_json::from_value(key).ok()?)?;
        if !self.algorithms.is_empty() {
            key.restrict(&self.algorithms);
        }
        (!key.is_useless()).then_some(key)
    }

    fn cached(&self) -> Cache {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Cache {
    /// The keys, if they are not older than that.
    fn within(&self, age_ms: u64, now_ms: u64) -> Option<&Kept> {
        self.keys.as_ref().filter(|kept| now_ms.saturating_sub(kept.since_ms) <= age_ms)
    }
}

impl Kept {
    fn has(&self, header: &Header) -> bool {
        self.keys.iter().any(|key| key.fits(header))
    }

    /// A token that names no key may be tried with a few.
    fn fitting(&self, header: &Header) -> Vec<Key> {
        self.keys.iter().filter(|key| key.fits(header)).take(4).cloned().collect()
    }
}
