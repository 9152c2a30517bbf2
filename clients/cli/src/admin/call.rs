//! Requests to a node's listener for administrators.

use std::{error::Error, sync::Arc, time::Duration};

use appsockets_client::Failure;
use bytes::Bytes;
use clap::Args;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{
        Client,
        connect::{Connect, HttpConnector},
    },
    rt::TokioExecutor,
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rustls::crypto::ring;
use serde_json::Value;
use tokio::time::timeout;

use crate::fault::Fault;

const LIMIT: Duration = Duration::from_secs(30);
/// Metrics of many hubs are the longest answer.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Which node, and what it knows an administrator by.
#[derive(Args)]
pub struct Node {
    /// Where the node listens for administrators
    #[arg(long, global = true, env = "APPSOCKETS_ADMIN_URL", default_value = "http://127.0.0.1:8081")]
    admin_url: String,
    /// The admin token: the file admin.token of the node's data folder holds it
    #[arg(long, global = true, env = "APPSOCKETS_ADMIN_TOKEN", hide_env_values = true)]
    admin_token: Option<String>,
    #[arg(long, global = true, env = "APPSOCKETS_HUB")]
    hub: Option<String>,
}

/// What the node has answered.
pub struct Answer {
    pub status: StatusCode,
    pub body: Bytes,
}

impl Node {
    /// The hub that was named.
    pub fn hub(&self) -> Result<&str, Fault> {
        self.hub.as_deref().ok_or_else(|| Fault::usage("which hub? Give --hub, or set APPSOCKETS_HUB"))
    }

    /// The answer as JSON; a refusal is a fault.
    pub async fn ask(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Value, Fault> {
        let Answer { status, body } = self.send(method, path, body).await?;
        if !status.is_success() {
            return Err(refusal(status, &body));
        }
        if body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_slice(&body).map_err(|_| Fault::refused("the answer is no JSON: is this a node?"))
    }

    /// Whatever the answer is.
    pub async fn send(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Answer, Fault> {
        let url = format!("{}{path}", self.admin_url.trim_end_matches('/'));
        let request = Request::builder().method(method).uri(&url).header(header::CONTENT_TYPE, "application/json");
        let token = self.admin_token.as_deref().unwrap_or_default().trim();
        let request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        let request = request.body(Full::from(body)).map_err(|error| Fault::usage(format!("{url}: {error}")))?;
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        match request.uri().scheme_str() {
            Some("http") => exchange(http, request).await,
            Some("https") => {
                let tls =
                    HttpsConnectorBuilder::new().with_provider_and_native_roots(Arc::new(ring::default_provider()));
                let tls = tls.map_err(|error| Fault::usage(format!("root certificates: {error}")))?;
                exchange(tls.https_only().enable_http1().wrap_connector(http), request).await
            }
            _ => Err(Fault::usage(format!("{} does not begin with http:// or https://", self.admin_url))),
        }
    }
}

/// Part of a path or a query.
pub fn encode(name: &str) -> String {
    utf8_percent_encode(name, NON_ALPHANUMERIC).to_string()
}

async fn exchange<C: Connect + Clone + Send + Sync + 'static>(
    connector: C,
    request: Request<Full<Bytes>>,
) -> Result<Answer, Fault> {
    let host = request.uri().authority().map(ToString::to_string).unwrap_or_default();
    let exchange = async {
        let response = Client::builder(TokioExecutor::new()).build(connector).request(request).await;
        let response = response.map_err(|error| Fault::unreachable(causes(&error)))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), BODY_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Fault::unreachable(causes(&*error)))?.to_bytes();
        Ok(Answer { status, body })
    };
    let outcome = timeout(LIMIT, exchange).await;
    outcome.unwrap_or_else(|_| Err(Fault::unreachable("no answer came in time"))).map_err(|fault| fault.of(&host))
}

fn refusal(status: StatusCode, body: &[u8]) -> Fault {
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem[name].as_str().unwrap_or_default();
    let Some(code) = problem["code"].as_u64().and_then(|code| u32::try_from(code).ok()) else {
        return Fault::refused(format!("the server answered {status}"));
    };
    let message = format!("{} {}", text("title"), text("detail")).trim_end().to_owned();
    Fault::from(Failure { code, name: text("name").to_owned(), message, retry: problem["retry"] == true })
}

/// An error with what led to it, which alone says what is wrong.
fn causes(error: &dyn Error) -> String {
    let mut texts = vec![error.to_string()];
    let mut cause = error.source();
    while let Some(error) = cause {
        texts.push(error.to_string());
        cause = error.source();
    }
    texts.join(": ")
}
