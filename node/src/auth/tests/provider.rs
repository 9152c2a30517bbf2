//! Opaque credentials and the hub's HTTP provider.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use appsockets_core::{
    code::ErrorCode,
    settings::resource::{AuthProviderSpec, HttpProviderSpec},
};
use axum::Router;
use tokio::{io::AsyncReadExt, sync::Semaphore, task::JoinSet};

use super::{
    AuthConfig, DEADLINE, Reply, Server, authenticator, code, config, http_hub, hub, opaque, serve, until, user,
};

const GOOD: &str = r#"{"success": true, "userID": "ann", "extra": {"name": "Ann"},
    "channelAuthorizations": [{"channel": "c:*", "subscribe": true}], "rpcAuthorizations": [{"method": "m"}]}"#;

fn good() -> Reply {
    Reply::Answer(200, GOOD.to_owned())
}

fn status(status: u16) -> Reply {
    Reply::Answer(status, "no".to_owned())
}

#[tokio::test]
async fn a_provider_is_asked_as_configured_and_its_answer_taken() {
    let (server, url) = Server::start([good()]).await;
    let headers = [("authorization".to_owned(), "Bearer t".to_owned())].into();
    let http = HttpProviderSpec { method: Some("PUT".to_owned()), url, headers, timeout_ms: Some(9_000) };
    let hub = hub(Some(AuthProviderSpec { http: Some(http), ..AuthProviderSpec::default() }));
    let identity = authenticator(config()).authenticate(&hub, "s1", &opaque("let me in")).await.expect("accepted");
    assert_eq!((user(&identity), identity.extra["name"].as_str()), ("ann", "Ann"));
    assert!(identity.channels[0].subscribe && !identity.channels[0].publish);
    assert_eq!((&*identity.rpcs[0].method, identity.expires_unix_ms), ("m", None));
    let (head, body) = server.last.lock().expect("not poisoned").clone();
    assert!(head.starts_with("PUT /path?key=1 ") && head.contains("application/json"), "{head}");
    assert!(head.contains(r#""authorization": "Bearer t""#), "{head}");
    assert_eq!(body, r#"{"hubID":"shop","sessionID":"s1","text":"let me in"}"#);
}

#[tokio::test]
async fn refusals_are_final() {
    for reply in [Reply::Answer(200, r#"{"success": false}"#.to_owned()), status(401), status(403)] {
        let (server, url) = Server::start([reply]).await;
        let outcome = authenticator(config()).authenticate(&http_hub(&url), "s", &opaque("x")).await;
        assert_eq!((code(outcome), server.asked()), (ErrorCode::AuthFailed, 1));
    }
}

#[tokio::test]
async fn failures_of_a_moment_are_tried_again() {
    for reply in [status(500), status(503), status(429)] {
        let (server, url) = Server::start([reply, good()]).await;
        let outcome = authenticator(config()).authenticate(&http_hub(&url), "s", &opaque("x")).await;
        assert_eq!((user(&outcome.expect("the second answer")), server.asked()), ("ann", 2));
    }
}

#[tokio::test]
async fn a_provider_that_does_not_answer_is_given_up() {
    let (server, url) = Server::start([Reply::Hang]).await;
    let config = AuthConfig { timeout_ms: 500, ..config() };
    let outcome = authenticator(config).authenticate(&http_hub(&url), "s", &opaque("x")).await;
    assert_eq!((code(outcome), server.asked()), (ErrorCode::AuthUnavailable, 2));
}

#[tokio::test]
async fn nobody_listening_is_no_answer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}/", listener.local_addr().expect("bound"));
    drop(listener);
    let outcome = authenticator(config()).authenticate(&http_hub(&url), "s", &opaque("x")).await;
    assert_eq!(code(outcome), ErrorCode::AuthUnavailable);
}

#[tokio::test]
async fn https_begins_with_a_handshake() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let hub = http_hub(&format!("https://{}/", listener.local_addr().expect("bound")));
    let first = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        drop(listener);
        socket.read_u8().await.expect("a byte")
    });
    assert_eq!(code(authenticator(config()).authenticate(&hub, "s", &opaque("x")).await), ErrorCode::AuthUnavailable);
    assert_eq!(first.await.expect("no panic"), 0x16, "a TLS handshake record");
}

#[tokio::test]
async fn wrong_answers_are_not_tried_again() {
    let huge = format!(r#"{{"success": true, "userID": "ann", "more": "{}"}}"#, "x".repeat(64 * 1024));
    let (elsewhere, elsewhere_url) = Server::start([good()]).await;
    for reply in [
        Reply::Answer(200, "hello".to_owned()),
        Reply::Answer(200, huge),
        Reply::Redirect(elsewhere_url.clone()),
        status(404),
    ] {
        let (server, url) = Server::start([reply]).await;
        let outcome = authenticator(config()).authenticate(&http_hub(&url), "s", &opaque("x")).await;
        assert_eq!((code(outcome), server.asked()), (ErrorCode::AuthUnavailable, 1));
    }
    assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
}

#[tokio::test]
async fn a_provider_that_keeps_failing_is_left_alone() {
    let (server, url) = Server::start([status(500)]).await;
    let config = AuthConfig { attempts: 1, breaker_failures: 3, breaker_open_ms: 3_600_000, ..config() };
    let (authenticator, hub) = (authenticator(config), http_hub(&url));
    for _ in 0..10 {
        let outcome = authenticator.authenticate(&hub, "s", &opaque("x")).await;
        assert_eq!(code(outcome), ErrorCode::AuthUnavailable);
    }
    assert_eq!(server.asked(), 3);
    authenticator.forget(&hub.id);
    let _ = authenticator.authenticate(&hub, "s", &opaque("x")).await;
    assert_eq!(server.asked(), 4, "a hub made anew begins anew");
}

#[tokio::test]
async fn a_provider_that_has_recovered_is_asked_again() {
    let (server, url) = Server::start([status(500), status(500), status(500), good()]).await;
    let config = AuthConfig { attempts: 1, breaker_failures: 2, breaker_open_ms: 20, ..config() };
    let (authenticator, hub, credentials) = (authenticator(config), http_hub(&url), opaque("x"));
    until(|| authenticator.authenticate(&hub, "s", &credentials), Result::is_ok).await;
    assert_eq!(server.asked(), 4);
}

#[tokio::test]
async fn clients_can_not_shut_each_other_out() {
    let (server, url) = Server::start([status(400)]).await;
    let config = AuthConfig { breaker_failures: 1, ..config() };
    let (authenticator, hub) = (authenticator(config), http_hub(&url));
    for _ in 0..3 {
        assert_eq!(code(authenticator.authenticate(&hub, "s", &opaque("x")).await), ErrorCode::AuthUnavailable);
    }
    server.now_replies(good());
    assert!(authenticator.authenticate(&hub, "s", &opaque("y")).await.is_ok());
}

#[tokio::test]
async fn private_addresses_are_not_connected_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.set_nonblocking(true).expect("a socket");
    let port = listener.local_addr().expect("bound").port();
    let strict = authenticator(AuthConfig { allow_private_addresses: false, timeout_ms: 500, ..config() });
    for (host, expected) in [
        ("127.0.0.1", ErrorCode::AuthNotConfigured),
        ("0x7f.1", ErrorCode::AuthNotConfigured),
        ("[::ffff:127.0.0.1]", ErrorCode::AuthNotConfigured),
        ("localhost", ErrorCode::AuthUnavailable),
    ] {
        let hub = http_hub(&format!("http://{host}:{port}/"));
        assert_eq!(code(strict.authenticate(&hub, "s", &opaque("x")).await), expected, "{host}");
    }
    assert!(listener.accept().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock));
}

#[tokio::test]
async fn an_allowed_network_can_be_reached() {
    let (_, url) = Server::start([good()]).await;
    let networks = vec!["127.0.0.0/8".parse().expect("a network")];
    let config = AuthConfig { allow_private_addresses: false, allowed_networks: networks, ..config() };
    assert!(authenticator(config).authenticate(&http_hub(&url), "s", &opaque("x")).await.is_ok());
}

#[tokio::test]
async fn calls_of_a_hub_are_bounded() {
    let (open, running, most) = (Arc::new(Semaphore::new(0)), AtomicUsize::new(0), AtomicUsize::new(0));
    let counts = Arc::new((running, most));
    let (gate, seen) = (open.clone(), counts.clone());
    let router = Router::new().fallback(move || {
        let (gate, seen) = (gate.clone(), seen.clone());
        async move {
            seen.1.fetch_max(seen.0.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let _open = gate.acquire().await;
            seen.0.fetch_sub(1, Ordering::SeqCst);
            GOOD
        }
    });
    let hub = Arc::new(http_hub(&format!("http://{}/", serve(router).await)));
    let authenticator = Arc::new(authenticator(AuthConfig { calls_in_flight_max: 2, ..config() }));
    let mut calls = JoinSet::new();
    for _ in 0..40 {
        let (authenticator, hub) = (authenticator.clone(), hub.clone());
        calls.spawn(async move { authenticator.authenticate(&hub, "s", &opaque("x")).await });
    }
    // Two are called and 32 wait while the gate is shut; the other six are refused at once.
    for _ in 0..6 {
        let refused = tokio::time::timeout(DEADLINE, calls.join_next()).await.expect("in time");
        assert_eq!(code(refused.expect("a call").expect("no panic")), ErrorCode::AuthUnavailable);
    }
    let start = Instant::now();
    while counts.0.load(Ordering::SeqCst) < 2 {
        assert!(start.elapsed() < DEADLINE, "two calls never came");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    open.add_permits(1);
    let rest = calls.join_all().await;
    assert_eq!((rest.len(), rest.iter().filter(|outcome| outcome.is_ok()).count()), (34, 34));
    assert_eq!(counts.1.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn opaque_credentials_need_a_provider() {
    let authenticator = authenticator(config());
    for hub in [hub(None), hub(Some(AuthProviderSpec::default()))] {
        assert_eq!(code(authenticator.authenticate(&hub, "s", &opaque("x")).await), ErrorCode::AuthNotConfigured);
    }
}

#[test]
fn settings_that_can_not_work_are_told() {
    let authenticator = authenticator(config());
    let check = |method: Option<&str>, url: &str, header: &str, timeout_ms: Option<u32>| {
        let headers = [(header.to_owned(), "v".to_owned())].into();
        let http = HttpProviderSpec { method: method.map(str::to_owned), url: url.to_owned(), headers, timeout_ms };
        authenticator.check(&AuthProviderSpec { http: Some(http), ..AuthProviderSpec::default() })
    };
    assert_eq!(check(None, "https://auth.example/", "x-key", None), Ok(()));
    for (method, url, header, timeout_ms) in [
        (Some("CONNECT"), "https://auth.example/", "x-key", None),
        (None, "auth.example", "x-key", None),
        (None, "https://auth.example/", "Transfer-Encoding", None),
        (None, "https://auth.example/", "host", None),
        (None, "https://auth.example/", "a b", None),
        (None, "https://auth.example/", "x-key", Some(0)),
        (None, "https://auth.example/", "x-key", Some(10_001)),
    ] {
        assert!(check(method, url, header, timeout_ms).is_err_and(|error| error.starts_with("http: ")));
    }
}
