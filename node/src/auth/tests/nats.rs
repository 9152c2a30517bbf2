//! Opaque credentials and the hub's provider over NATS.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use appsockets_core::{
    code::ErrorCode,
    settings::{
        hub::Hub,
        resource::{AuthProviderSpec, NatsProviderSpec},
    },
};
use async_nats::{Client, HeaderMap};
use futures_util::StreamExt;
use rcgen::generate_simple_self_signed;

use super::{AuthConfig, Authenticator, DEADLINE, code, config, hub, nats_server::NatsServer, opaque, until, user};
use crate::nats::{Nats, NatsConfig};

const SUBJECT: &str = "appsockets.auth.shop";
/// Not as it stands in an address.
const PASSWORD: &str = "p@ss word";
const GOOD: &str = r#"{"success": true, "userID": "ann", "extra": {"name": "Ann"}, "expiresAt": 9999999999999,
    "channelAuthorizations": [{"channel": "c:*", "subscribe": true}], "rpcAuthorizations": [{"method": "m"}]}"#;

fn nats_hub(subject: &str) -> Hub {
    let headers = [("X-Key".to_owned(), "hush".to_owned())].into();
    let nats = NatsProviderSpec { subject: subject.to_owned(), headers, timeout_ms: None };
    hub(Some(AuthProviderSpec { nats: Some(Box::new(nats)), ..AuthProviderSpec::default() }))
}

async fn connected(url: &str, config: AuthConfig) -> Authenticator {
    connected_by(NatsConfig { url: url.to_owned().into(), ..NatsConfig::default() }, config).await
}

async fn connected_by(nats: NatsConfig, config: AuthConfig) -> Authenticator {
    let nats = Nats::start(&nats).await.expect("a valid configuration");
    assert!(nats.is_some());
    Authenticator::new(config, nats).expect("a valid configuration")
}

/// A service that answers what it is told to, and nothing where that is nothing.
#[derive(Clone, Default)]
struct Service {
    asked: Arc<AtomicUsize>,
    last: Arc<Mutex<(HeaderMap, String)>>,
}

impl Service {
    async fn start(url: &str, answer: impl Fn(usize) -> Option<(HeaderMap, String)> + Send + 'static) -> Service {
        // Servers without users take any.
        let options = async_nats::ConnectOptions::with_user_and_password("ann".to_owned(), PASSWORD.to_owned());
        let client = options.retry_on_initial_connect().connect(url).await.expect("an address");
        let mut questions = client.subscribe("appsockets.>").await.expect("subscribed");
        // Once this is answered, the server has the subscription.
        tokio::time::timeout(DEADLINE, client.flush()).await.expect("in time").expect("connected");
        let service = Service::default();
        let this = service.clone();
        tokio::spawn(async move {
            while let Some(question) = questions.next().await {
                let before = this.asked.fetch_add(1, Ordering::SeqCst);
                let body = String::from_utf8(question.payload.to_vec()).expect("JSON");
                *this.last.lock().expect("not poisoned") = (question.headers.unwrap_or_default(), body);
                this.give(&client, question.reply.expect("a request"), answer(before)).await;
            }
        });
        service
    }

    async fn give(&self, client: &Client, to: async_nats::Subject, answer: Option<(HeaderMap, String)>) {
        let Some((headers, body)) = answer else { return };
        client.publish_with_headers(to, headers, body.into()).await.expect("published");
    }

    async fn answering(url: &str, body: &str) -> Service {
        let body = body.to_owned();
        Service::start(url, move |_| Some((HeaderMap::new(), body.clone()))).await
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_provider_is_asked_as_configured_and_its_answer_taken() {
    let server = NatsServer::start(&[]);
    let service = Service::answering(&server.url(), GOOD).await;
    let authenticator = connected(&server.url(), config()).await;
    let identity = authenticator.authenticate(&nats_hub(SUBJECT), "s1", &opaque("let me in")).await.expect("accepted");
    assert_eq!((user(&identity), identity.extra["name"].as_str()), ("ann", "Ann"));
    assert!(identity.channels[0].subscribe && !identity.channels[0].publish);
    assert_eq!((&*identity.rpcs[0].method, identity.expires_unix_ms), ("m", Some(9_999_999_999_999)));
    let (headers, body) = service.last.lock().expect("not poisoned").clone();
    assert_eq!(headers.get("X-Key").map(|value| value.as_str()), Some("hush"));
    assert_eq!(body, r#"{"hubID":"shop","sessionID":"s1","text":"let me in"}"#);
}

#[tokio::test]
async fn refusals_are_final() {
    let failed = |code: &str| {
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Service-Error", "no");
        headers.insert("Nats-Service-Error-Code", code);
        (headers, String::new())
    };
    for answer in [(HeaderMap::new(), r#"{"success": false}"#.to_owned()), failed("401"), failed("403")] {
        let server = NatsServer::start(&[]);
        let service = Service::start(&server.url(), move |_| Some(answer.clone())).await;
        let authenticator = connected(&server.url(), config()).await;
        let outcome = authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await;
        assert_eq!((code(outcome), service.asked()), (ErrorCode::AuthFailed, 1));
    }
}

#[tokio::test]
async fn failures_of_a_moment_are_tried_again() {
    for status in ["500", "429", "200", "x"] {
        let server = NatsServer::start(&[]);
        let answer = move |before| match before {
            0 => {
                let mut headers = HeaderMap::new();
                headers.insert("Nats-Service-Error-Code", status);
                Some((headers, GOOD.to_owned()))
            }
            _ => Some((HeaderMap::new(), GOOD.to_owned())),
        };
        let service = Service::start(&server.url(), answer).await;
        let authenticator = connected(&server.url(), config()).await;
        let outcome = authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await;
        assert_eq!((user(&outcome.expect("the second answer")), service.asked()), ("ann", 2), "{status}");
    }
}

#[tokio::test]
async fn nobody_listening_is_told_at_once_and_counts() {
    let server = NatsServer::start(&[]);
    // The test would take hours if it waited for the time of an attempt.
    let config = AuthConfig { attempts: 1, breaker_failures: 2, breaker_open_ms: 3_600_000, ..config() };
    let authenticator = connected(&server.url(), config).await;
    for detail in ["nobody listens", "nobody listens", "left alone"] {
        let error =
            authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await.expect_err("nobody is there");
        assert_eq!(error.code, ErrorCode::AuthUnavailable);
        assert!(error.detail.contains(detail), "{error}");
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    let server = NatsServer::start(&[]);
    let service = Service::start(&server.url(), |_| None).await;
    let authenticator = connected(&server.url(), AuthConfig { timeout_ms: 500, ..config() }).await;
    let error = authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await.expect_err("no answer");
    assert_eq!((error.code, service.asked()), (ErrorCode::AuthUnavailable, 2));
    assert!(error.detail.contains("no answer in time"), "{error}");
}

#[tokio::test]
async fn a_server_that_comes_back_is_found_again() {
    let server = NatsServer::start(&[]);
    let (address, url) = (server.address, server.url());
    let service = Service::answering(&url, GOOD).await;
    let config = AuthConfig { attempts: 1, breaker_open_ms: 1, timeout_ms: 500, ..config() };
    let (authenticator, hub, credentials) = (connected(&url, config).await, nats_hub(SUBJECT), opaque("x"));
    assert!(authenticator.authenticate(&hub, "s", &credentials).await.is_ok());
    drop(server);
    until(
        || authenticator.authenticate(&hub, "s", &credentials),
        |outcome| outcome.as_ref().is_err_and(|error| error.detail.contains("no connection")),
    )
    .await;
    let asked = service.asked();
    let _server = NatsServer::start_at(address, &[]).expect("the same port");
    until(|| authenticator.authenticate(&hub, "s", &credentials), Result::is_ok).await;
    assert!(service.asked() > asked);
}

#[tokio::test]
async fn a_server_may_begin_later_than_the_node() {
    let server = NatsServer::start(&[]);
    let (address, url) = (server.address, server.url());
    drop(server);
    let (authenticator, hub, credentials) = (connected(&url, config()).await, nats_hub(SUBJECT), opaque("x"));
    let asked = authenticator.authenticate(&hub, "s", &credentials);
    let later = async {
        let server = tokio::task::spawn_blocking(move || NatsServer::start_at(address, &[])).await.expect("no panic");
        (Service::answering(&url, GOOD).await, server)
    };
    let (first, (service, _server)) = tokio::join!(asked, later);
    // It may have been asked before the service was there.
    if first.is_err() {
        until(|| authenticator.authenticate(&hub, "s", &credentials), Result::is_ok).await;
    }
    assert!(service.asked() > 0);
}

#[tokio::test]
async fn wrong_answers_are_not_tried_again_and_shut_nobody_out() {
    let huge = format!(r#"{{"success": true, "userID": "ann", "more": "{}"}}"#, "x".repeat(64 * 1024));
    for (body, detail) in [("hello", "the provider's answer is wrong"), (&huge, "too large")] {
        let server = NatsServer::start(&[]);
        let body = body.to_owned();
        let first = move |before| Some((HeaderMap::new(), if before == 0 { body.clone() } else { GOOD.to_owned() }));
        let service = Service::start(&server.url(), first).await;
        let authenticator = connected(&server.url(), AuthConfig { breaker_failures: 1, ..config() }).await;
        let error = authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await.expect_err("a wrong one");
        assert_eq!((error.code, service.asked()), (ErrorCode::AuthUnavailable, 1));
        assert!(error.detail.contains(detail), "{error}");
        assert!(authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await.is_ok());
    }
}

#[tokio::test]
async fn what_nats_does_not_take_shuts_nobody_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("nats.conf");
    std::fs::write(&file, "max_payload: 1000").expect("written");
    let server = NatsServer::start(&["--config", file.to_str().expect("UTF-8")]);
    let service = Service::answering(&server.url(), GOOD).await;
    let authenticator = connected(&server.url(), AuthConfig { breaker_failures: 1, ..config() }).await;
    let hub = nats_hub(SUBJECT);
    // The client learns with the connection what the server takes.
    assert!(authenticator.authenticate(&hub, "s", &opaque("x")).await.is_ok());
    let error = authenticator.authenticate(&hub, "s", &opaque(&"x".repeat(1000))).await.expect_err("too large");
    assert!(error.code == ErrorCode::AuthUnavailable && error.detail.contains("too large"), "{error}");
    assert!(authenticator.authenticate(&hub, "s", &opaque("x")).await.is_ok());
    assert_eq!(service.asked(), 2);
}

#[tokio::test]
async fn without_nats_a_hub_refuses() {
    assert!(Nats::start(&NatsConfig::default()).await.expect("valid").is_none());
    let authenticator = Authenticator::new(config(), None).expect("valid");
    let error = authenticator.authenticate(&nats_hub(SUBJECT), "s", &opaque("x")).await.expect_err("no NATS");
    assert_eq!(error.code, ErrorCode::AuthNotConfigured);
    assert!(error.detail.contains("nats.url"), "{error}");
}

#[tokio::test]
async fn only_subjects_that_the_administrator_allows_are_asked() {
    let server = NatsServer::start(&[]);
    let service = Service::answering(&server.url(), GOOD).await;
    let authenticator = connected(&server.url(), config()).await;
    for subject in ["appsockets.orders.remove", "appsockets.auth", "appsockets.authors.x", "appsockets.auth.*"] {
        let error = authenticator.authenticate(&nats_hub(subject), "s", &opaque("x")).await.expect_err("forbidden");
        assert_eq!(error.code, ErrorCode::AuthNotConfigured, "{subject}");
    }
    assert_eq!(service.asked(), 0);
    let url = server.url().into();
    let nats = NatsConfig { url, auth_subjects: vec!["appsockets.*.who".to_owned()], ..NatsConfig::default() };
    let authenticator = connected_by(nats, config()).await;
    assert!(authenticator.authenticate(&nats_hub("appsockets.shop.who"), "s", &opaque("x")).await.is_ok());
}

#[tokio::test]
async fn a_node_shows_who_it_is_and_takes_a_new_password() {
    let free = NatsServer::start(&[]);
    let server = NatsServer::start(&["--user", "ann", "--pass", PASSWORD]);
    let with = |password: &str| format!("nats://ann:{password}@{}", server.address);
    let service = Service::answering(&server.url(), GOOD).await;
    let nats = NatsConfig { url: free.url().into(), ..NatsConfig::default() };
    let config = AuthConfig { attempts: 1, timeout_ms: 500, breaker_failures: 1_000_000, ..config() };
    let (authenticator, hub, credentials) = (connected_by(nats.clone(), config).await, nats_hub(SUBJECT), opaque("x"));
    assert_eq!(code(authenticator.authenticate(&hub, "s", &credentials).await), ErrorCode::AuthUnavailable);
    nats.url.replace([with("wrong").into_bytes()].into());
    let error = authenticator.authenticate(&hub, "s", &credentials).await.expect_err("a wrong password");
    assert!(error.detail.contains("no connection to NATS"), "{error}");
    nats.url.replace([b"no address:".to_vec()].into());
    assert!(authenticator.authenticate(&hub, "s", &credentials).await.is_err());
    nats.url.replace([with("p%40ss%20word").into_bytes()].into());
    until(|| authenticator.authenticate(&hub, "s", &credentials), Result::is_ok).await;
    assert_eq!(service.asked(), 1);
}

#[tokio::test]
async fn only_a_server_with_a_certificate_that_was_signed_is_talked_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
    let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
    std::fs::write(&certificate, made.cert.pem()).expect("written");
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("written");
    let path = |path: &Path| path.to_str().expect("a plain path").to_owned();
    let server = NatsServer::start(&["--tls", "--tlscert", &path(&certificate), "--tlskey", &path(&key)]);
    let (hub, credentials) = (nats_hub(SUBJECT), opaque("x"));
    let config = AuthConfig { attempts: 1, timeout_ms: 2_000, breaker_failures: 1_000_000, ..config() };
    for (authority, expected) in [(None, "there is no connection"), (Some(certificate), "nobody listens")] {
        let nats = NatsConfig { url: format!("tls://{}", server.address).into(), authority, ..NatsConfig::default() };
        let authenticator = connected_by(nats, config.clone()).await;
        let error = authenticator.authenticate(&hub, "s", &credentials).await.expect_err("no service is there");
        assert!(error.detail.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn what_can_not_be_read_ends_the_start() {
    let missing = |nats: NatsConfig| async move {
        let url = "nats://127.0.0.1:1".to_owned().into();
        let error = Nats::start(&NatsConfig { url, ..nats }).await.err().expect("a missing file");
        format!("{error:#}")
    };
    let file = Some("/nonexistent/file".into());
    let error = missing(NatsConfig { credentials: file.clone(), ..NatsConfig::default() }).await;
    assert!(error.starts_with("nats.credentials: /nonexistent/file"), "{error}");
    let error = missing(NatsConfig { authority: file, ..NatsConfig::default() }).await;
    assert!(error.starts_with("nats.authority: /nonexistent/file"), "{error}");
}
