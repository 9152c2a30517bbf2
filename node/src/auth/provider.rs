//! The tenant's own service that says who a session is: asked over HTTP or NATS, with bounds on time, size and number
//! of calls.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use appsockets_core::{code::ErrorCode, identity::Identity, message::Payload};
use bytes::Bytes;
use hyper::StatusCode;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    AuthError,
    breaker::{Breaker, Pass},
    clock::Clock,
    config::AuthConfig,
    fetch::{Answer, FetchError, TIMEOUT_MS_MAX},
    over_http::OverHttp,
    over_nats::OverNats,
    question,
};

/// How many may wait for each that is being asked about.
const WAITING_PER_CALL: usize = 16;
/// Of one provider.
pub const HEADERS_MAX: usize = 32;
/// The wait before the second attempt, in milliseconds; doubles with each further one.
const PAUSE_MS: u64 = 100;

/// A provider as the settings have it, and how it has been doing.
pub struct Provider {
    way: Way,
    timeout: Duration,
    attempts: u32,
    clock: Clock,
    /// Those who are called or wait.
    seats: Semaphore,
    /// Those who are called.
    calls: Semaphore,
    breaker: Mutex<Breaker>,
}

/// How it is reached.
pub enum Way {
    Http(Box<OverHttp>),
    Nats(OverNats),
}

/// A call that the breaker let pass; one that is given up is abandoned.
struct Call<'a> {
    provider: &'a Provider,
    pass: Option<Pass>,
}

impl Provider {
    /// Fails with a sentence for the author of the settings.
    pub fn new(way: Way, timeout_ms: Option<u32>, config: &AuthConfig, clock: Clock) -> Result<Self, &'static str> {
        let timeout_ms = timeout_ms.map_or(config.timeout_ms, u64::from);
        if !(1..=TIMEOUT_MS_MAX).contains(&timeout_ms) {
            return Err("timeoutMs must be 1 to 10000");
        }
        Ok(Provider {
            way,
            timeout: Duration::from_millis(timeout_ms),
            attempts: config.attempts,
            clock,
            seats: Semaphore::new(config.calls_in_flight_max * (1 + WAITING_PER_CALL)),
            calls: Semaphore::new(config.calls_in_flight_max),
            breaker: Mutex::new(Breaker::new(config.breaker_failures, config.breaker_open_ms)),
        })
    }

    /// Takes at most the time of all attempts, their pauses, and one attempt of waiting.
    pub async fn ask(&self, hub: &str, session: &str, payload: &Payload) -> Result<Identity, AuthError> {
        let body = question::question(hub, session, payload)?;
        let (_seat, _turn) = self.wait().await?;
        let call = self.admit()?;
        let outcome = self.attempts(body).await;
        call.report(is_healthy(&outcome));
        let answer = outcome.map_err(|error| unavailable(error.to_string()))?;
        match answer.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(question::refused()),
            status if status.is_success() => question::identity(&answer.body, self.clock.unix_ms()),
            status => Err(unavailable(format!("status {}", status.as_u16()))),
        }
    }

    async fn wait(&self) -> Result<(SemaphorePermit<'_>, SemaphorePermit<'_>), AuthError> {
        if self.breaker().refuses(self.clock.mono_ms()) {
            return Err(left_alone());
        }
        let seat = self.seats.try_acquire().map_err(|_| unavailable("too many wait for the provider"))?;
        match tokio::time::timeout(self.timeout, self.calls.acquire()).await {
            Ok(Ok(turn)) => Ok((seat, turn)),
            Ok(Err(_)) | Err(_) => Err(unavailable("the provider is busy with others")),
        }
    }

    fn admit(&self) -> Result<Call<'_>, AuthError> {
        let pass = self.breaker().admit(self.clock.mono_ms()).ok_or_else(left_alone)?;
        Ok(Call { provider: self, pass: Some(pass) })
    }

    async fn attempts(&self, body: Bytes) -> Result<Answer, FetchError> {
        let mut attempt = 1;
        loop {
            let outcome = self.send(body.clone()).await;
            if attempt >= self.attempts || !is_worth_repeating(&outcome) {
                return outcome;
            }
            tokio::time::sleep(pause(attempt)).await;
            attempt += 1;
        }
    }

    async fn send(&self, body: Bytes) -> Result<Answer, FetchError> {
        match &self.way {
            Way::Http(http) => http.send(body, self.timeout).await,
            Way::Nats(nats) => nats.send(body, self.timeout).await,
        }
    }

    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Call<'_> {
    fn report(mut self, healthy: bool) {
        if let Some(pass) = self.pass.take() {
            self.provider.breaker().report(pass, healthy, self.provider.clock.mono_ms());
        }
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        if let Some(pass) = self.pass.take() {
            self.provider.breaker().abandon(pass, self.provider.clock.mono_ms());
        }
    }
}

fn is_worth_repeating(outcome: &Result<Answer, FetchError>) -> bool {
    match outcome {
        Ok(answer) => is_overloaded(answer.status),
        Err(FetchError::TimedOut | FetchError::Broken(_)) => true,
        Err(FetchError::Refused | FetchError::TooLarge | FetchError::Unsendable) => false,
    }
}

/// An answer that is merely wrong does not count against the provider: a client, whose bytes it is asked about, could
/// otherwise shut out all others.
fn is_healthy(outcome: &Result<Answer, FetchError>) -> bool {
    match outcome {
        Ok(answer) => !is_overloaded(answer.status),
        Err(FetchError::TooLarge | FetchError::Unsendable) => true,
        Err(FetchError::TimedOut | FetchError::Broken(_) | FetchError::Refused) => false,
    }
}

fn is_overloaded(status: StatusCode) -> bool {
    status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS
}

/// Half of the wait is chance, so that those who failed together do not come back together.
fn pause(attempt: u32) -> Duration {
    let whole = PAUSE_MS << attempt.min(5);
    let chance = u64::from(getrandom::u32().unwrap_or_default()) % (whole / 4 + 1);
    Duration::from_millis(whole / 4 + chance)
}

fn left_alone() -> AuthError {
    unavailable("the provider failed too often and is left alone for a while")
}

fn unavailable(detail: impl Into<String>) -> AuthError {
    AuthError::new(ErrorCode::AuthUnavailable, detail)
}
