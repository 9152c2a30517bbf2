//! The HTTP client behind the guard: connections are pooled, redirects are not followed, answers have a bound in size
//! and time.

use std::{error::Error, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use super::guard::{Guard, Refused, Resolver};

/// The longest time-out of one attempt that anyone may set, in milliseconds.
pub const TIMEOUT_MS_MAX: u64 = 10_000;

/// Head of an answer, in bytes.
const HEAD_BYTES_MAX: usize = 32 * 1024;
/// Idle connections that are kept for each host.
const IDLE_MAX: usize = 16;
const IDLE_TIME: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Fetcher {
    client: Client<HttpsConnector<HttpConnector<Resolver>>, Full<Bytes>>,
    body_bytes_max: usize,
}

#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no answer. The texts are for the log; none holds the address, which may carry a secret.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    #[error("the name leads only to addresses that are not allowed")]
    Refused,
    #[error("no answer in time")]
    TimedOut,
    #[error("the answer is too large")]
    TooLarge,
    #[error("the question is too large for what carries it")]
    Unsendable,
    #[error("the connection failed: {0}")]
    Broken(String),
}

impl Fetcher {
    /// Fails if TLS can't be set up.
    pub fn new(guard: Guard, body_bytes_max: usize) -> anyhow::Result<Self> {
        let mut http = HttpConnector::new_with_resolver(Resolver(guard));
        http.enforce_http(false);
        http.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIME)
            .pool_max_idle_per_host(IDLE_MAX)
            .http1_max_buf_size(HEAD_BYTES_MAX)
            .build(tls()?.https_or_http().enable_http1().wrap_connector(http));
        Ok(Fetcher { client, body_bytes_max })
    }

    /// One attempt. The address of the request must come from a [`super::guard::Target`].
    pub async fn send(&self, request: Request<Full<Bytes>>, timeout: Duration) -> Result<Answer, FetchError> {
        let exchange = async {
            let answer = self.client.request(request).await.map_err(|error| FetchError::of(&error))?;
            self.read(answer).await
        };
        tokio::time::timeout(timeout, exchange).await.unwrap_or(Err(FetchError::TimedOut))
    }

    async fn read(&self, answer: Response<Incoming>) -> Result<Answer, FetchError> {
        let status = answer.status();
        match Limited::new(answer.into_body(), self.body_bytes_max).collect().await {
            Ok(body) => Ok(Answer { status, body: body.to_bytes() }),
            // The body of a failure tells nothing that is used; it is read only to keep the connection.
            Err(_) if !status.is_success() => Ok(Answer { status, body: Bytes::new() }),
            Err(error) if error.is::<LengthLimitError>() => Err(FetchError::TooLarge),
            Err(error) => Err(FetchError::of(&*error)),
        }
    }
}

impl FetchError {
    fn of(error: &(dyn Error + 'static)) -> Self {
        let mut texts = Vec::new();
        let mut cause = Some(error);
        while let Some(error) = cause {
            if is_refused(error) {
                return FetchError::Refused;
            }
            texts.push(error.to_string());
            cause = error.source();
        }
        FetchError::Broken(texts.join(": "))
    }
}

/// An `io::Error` does not show what it wraps as its source.
fn is_refused(error: &(dyn Error + 'static)) -> bool {
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|inner| inner.is::<Refused>())
}

fn tls() -> anyhow::Result<HttpsConnectorBuilder<hyper_rustls::builderstates::WantsSchemes>> {
    let provider = Arc::new(ring::default_provider());
    match HttpsConnectorBuilder::new().with_provider_and_native_roots(provider.clone()) {
        Ok(builder) => Ok(builder),
        Err(error) => {
            // A node without any must start all the same: its providers may all be within its cluster.
            tracing::warn!(%error, "no root certificates: auth providers can be reached only without TLS");
            let config = ClientConfig::builder_with_provider(provider)
                .with_safe_default_protocol_versions()?
                .with_root_certificates(RootCertStore::empty())
                .with_no_client_auth();
            Ok(HttpsConnectorBuilder::new().with_tls_config(config))
        }
    }
}
