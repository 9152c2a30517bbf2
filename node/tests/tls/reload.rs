use std::fs;

use rustls::version::{TLS12, TLS13};
use serde_json::json;

use super::{
    certificate::{Certificate, connector},
    server::{Server, eventually},
};

#[tokio::test]
async fn new_connections_get_the_new_certificate_and_old_ones_live_on() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let connector = connector(&[&old, &new], &[&TLS13, &TLS12]);
    let server = Server::start(&old).await;
    let mut before = server.connect(&connector).await;
    assert_eq!(before.shown(), *old.der());
    new.write(server.folder.path());
    // The same client, which could go on with what it knows of the old certificate.
    eventually(async || server.connect(&connector).await.shown() == *new.der()).await;
    before.send(json!({"event": "Subscribe", "payload": {"reqID": 1, "channels": [{"channel": "news"}]}})).await;
    before.until("Subscribe").await;
    assert_eq!(before.shown(), *old.der());
    assert_eq!(server.figure("tls_certificates_refused_total").await, 0);
}

#[tokio::test]
async fn a_bad_pair_keeps_the_old() {
    let (old, new) = (Certificate::new(), Certificate::new());
    let connector = connector(&[&old, &new], &[&TLS13]);
    let server = Server::start(&old).await;
    let certificate = server.folder.path().join("tls.crt");
    let mut refused = 0;
    // A key that is another's, no PEM, and PEM without a certificate.
    for bad in [new.pem(), "nonsense".to_owned(), new.key_pem()] {
        fs::write(&certificate, bad).unwrap();
        // Clients and administrators each have a listener that refuses it.
        refused += 2;
        eventually(async || server.figure("tls_certificates_refused_total").await == refused).await;
        assert_eq!(server.connect(&connector).await.shown(), *old.der());
    }
    fs::remove_file(&certificate).unwrap();
    eventually(async || server.figure("tls_certificates_refused_total").await == refused + 2).await;
    assert_eq!(server.connect(&connector).await.shown(), *old.der());
    new.write(server.folder.path());
    eventually(async || server.connect(&connector).await.shown() == *new.der()).await;
}
