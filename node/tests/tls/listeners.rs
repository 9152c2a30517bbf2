use std::process::Command;

use rustls::version::{TLS12, TLS13};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::{
    certificate::{Certificate, connector, shake},
    server::{PATIENCE, Server, eventually, get},
};

#[tokio::test]
async fn sessions_speak_over_both_versions_of_tls() {
    let certificate = Certificate::new();
    let server = Server::start(&certificate).await;
    for version in [&TLS13, &TLS12] {
        let connector = connector(&[&certificate], &[version]);
        let mut client = server.connect(&connector).await;
        client.send(json!({"event": "Subscribe", "payload": {"reqID": 1, "channels": [{"channel": "news"}]}})).await;
        client.until("Position").await;
        for length in [1, 100, 20_000, 60_000] {
            let text = "x".repeat(length);
            let publish = json!({"reqID": 2, "channel": "news", "event": "e", "payload": text});
            client.send(json!({"event": "Publish", "payload": {"publishes": [publish]}})).await;
            assert_eq!(client.until("Publish").await["payload"], text);
        }
    }
    let _begun = TcpStream::connect(server.address).await.unwrap();
    eventually(async || server.figure("tls_handshakes").await == 1).await;
    assert_eq!(server.figure("tls_handshakes_failed_total").await, 0);
}

#[tokio::test]
async fn streams_and_requests_come_over_tls() {
    let certificate = Certificate::new();
    let server = Server::start(&certificate).await;
    let connector = certificate.connector();
    let mut stream = server.dial(&connector).await.unwrap();
    stream.write_all(b"GET /hubs/shop/sse?channel=news HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut heard = String::new();
    while !heard.contains("Position") {
        heard.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap().into());
    }
    assert!(heard.contains("content-type: text/event-stream"), "{heard}");

    let body = r#"{"publishes": [{"channel": "news", "event": "e", "text": "over TLS"}]}"#;
    let head = "POST /hubs/shop/publish HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json";
    let mut publisher = server.dial(&connector).await.unwrap();
    let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    publisher.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, publisher.read_to_string(&mut answer)).await.unwrap().expect("an end that is said to be one");
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""success":true"#), "{answer}");
    while !heard.contains("over TLS") {
        heard.push(timeout(PATIENCE, stream.read_u8()).await.unwrap().unwrap().into());
    }
}

/// A client with a TLS that others wrote.
#[tokio::test]
async fn curl_connects() {
    let certificate = Certificate::new();
    let server = Server::start(&certificate).await;
    let port = server.address.port();
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--fail-with-body", "--cacert"])
        .arg(server.folder.path().join("tls.crt"))
        .args(["--resolve", &format!("localhost:{port}:127.0.0.1"), "--header", "content-type: application/json"])
        .args(["--data", r#"{"publishes": [{"channel": "news", "event": "e", "text": "hello"}]}"#])
        .arg(format!("https://localhost:{port}/hubs/shop/publish"));
    let output = tokio::task::spawn_blocking(move || curl.output()).await.unwrap().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains(r#""success":true"#), "{said} {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test]
async fn clients_that_do_not_believe_are_counted() {
    let certificate = Certificate::new();
    let server = Server::start(&certificate).await;
    assert!(server.dial(&Certificate::new().connector()).await.is_err());
    let mut plain = TcpStream::connect(server.address).await.unwrap();
    plain.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap().expect("an end, and not a reset");
    eventually(async || server.figure("tls_handshakes_failed_total").await == 2).await;
    server.connect(&certificate.connector()).await;
}

#[tokio::test]
async fn administrators_connect_over_tls() {
    let certificate = Certificate::new();
    let server = Server::start(&certificate).await;
    let dial = async || {
        shake(&certificate.connector(), TcpStream::connect(server.admin).await.unwrap()).await.expect("a handshake")
    };
    let hubs = get(dial().await, "/v1/hubs", &server.token).await;
    assert!(hubs.starts_with("HTTP/1.1 200 ") && hubs.contains("shop"), "{hubs}");
    assert!(get(dial().await, "/v1/hubs", "").await.starts_with("HTTP/1.1 401 "));
    assert!(get(dial().await, "/metrics", "").await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn what_watches_has_a_listener_without_administration() {
    let server = Server::start(&Certificate::new()).await;
    for (path, status) in
        [("/metrics", 200), ("/healthz", 200), ("/readyz", 200), ("/v1/hubs", 404), ("/openapi.json", 404)]
    {
        let answer = get(TcpStream::connect(server.metrics).await.unwrap(), path, &server.token).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
    }
}
