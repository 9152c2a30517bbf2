//! The authenticator against real sockets: providers and key sets are served by the tests themselves.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use appsockets_core::{
    code::ErrorCode,
    identity::Identity,
    message::{Form, Payload},
    session::request::Credentials,
    settings::{
        hub::Hub,
        resource::{AuthProviderSpec, HttpProviderSpec, HubSpec, JwtSpec},
    },
};
use axum::{Router, body::Body, extract::Request, response::Response};
use bytes::Bytes;

use super::{AuthConfig, AuthError, Authenticator};

mod jwks;
mod keys;
mod nats;
mod nats_server;
mod provider;
mod token;

/// Longer than anything here takes, so that only what never happens reaches it.
const DEADLINE: Duration = Duration::from_secs(30);

fn config() -> AuthConfig {
    AuthConfig {
        session_secret: b"a secret of 32 bytes for sessions".to_vec().into(),
        allow_private_addresses: true,
        timeout_ms: 10_000,
        ..AuthConfig::default()
    }
}

fn authenticator(config: AuthConfig) -> Authenticator {
    Authenticator::new(config, None).expect("a valid configuration")
}

fn hub(auth: Option<AuthProviderSpec>) -> Hub {
    Hub { auth: auth.map(Arc::new), ..Hub::with_spec("shop", &HubSpec::default()) }
}

fn http_hub(url: &str) -> Hub {
    let http = HttpProviderSpec { method: None, url: url.to_owned(), headers: Default::default(), timeout_ms: None };
    hub(Some(AuthProviderSpec { http: Some(http), ..AuthProviderSpec::default() }))
}

fn jwt_hub(jwt: JwtSpec) -> Hub {
    hub(Some(AuthProviderSpec { jwt: Some(jwt), ..AuthProviderSpec::default() }))
}

fn opaque(text: &str) -> Credentials {
    Credentials::Opaque(Payload { bytes: Bytes::copy_from_slice(text.as_bytes()), form: Form::Text })
}

fn code<T: std::fmt::Debug>(outcome: Result<T, AuthError>) -> ErrorCode {
    outcome.expect_err("a refusal").code
}

/// One answer of a [`Server`].
#[derive(Clone)]
enum Reply {
    Answer(u16, String),
    Redirect(String),
    Hang,
}

/// Gives its replies one after the other, and the last one again and again.
#[derive(Clone, Default)]
struct Server {
    replies: Arc<Mutex<VecDeque<Reply>>>,
    asked: Arc<AtomicUsize>,
    /// Head and body of the last request.
    last: Arc<Mutex<(String, Bytes)>>,
}

impl Server {
    async fn start(replies: impl Into<VecDeque<Reply>>) -> (Self, String) {
        let server = Server { replies: Arc::new(Mutex::new(replies.into())), ..Server::default() };
        let this = server.clone();
        let address = serve(Router::new().fallback(move |request: Request| this.clone().reply(request))).await;
        (server, format!("http://{address}/path?key=1"))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn now_replies(&self, reply: Reply) {
        *self.replies.lock().expect("not poisoned") = [reply].into();
    }

    async fn reply(self, request: Request) -> Response {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let (head, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap_or_default();
        *self.last.lock().expect("not poisoned") = (format!("{} {} {:?}", head.method, head.uri, head.headers), body);
        let (status, location, body) = match self.next() {
            Reply::Answer(status, body) => (status, String::new(), body),
            Reply::Redirect(location) => (307, location, String::new()),
            Reply::Hang => std::future::pending().await,
        };
        let response = Response::builder().status(status).header("location", location);
        response.body(Body::from(body)).expect("a valid response")
    }

    fn next(&self) -> Reply {
        let mut replies = self.replies.lock().expect("not poisoned");
        let first = replies.front().cloned().expect("a reply");
        if replies.len() > 1 {
            replies.pop_front();
        }
        first
    }
}

/// Serves until the test's runtime ends.
async fn serve(router: Router) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Tries until the outcome is as wanted.
async fn until<F, T>(mut attempt: impl FnMut() -> F, wanted: impl Fn(&Result<T, AuthError>) -> bool)
where
    F: Future<Output = Result<T, AuthError>>,
{
    let start = Instant::now();
    while !wanted(&attempt().await) {
        assert!(start.elapsed() < DEADLINE, "it never came to that");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn user(identity: &Identity) -> &str {
    &identity.user_id
}
