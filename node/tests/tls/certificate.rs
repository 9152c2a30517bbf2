//! Certificates of the tests' own, and clients that believe in them.

use std::{path::Path, sync::Arc};

use appsockets_node::config::TlsConfig;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

pub const HOST: &str = "localhost";

/// One with its key.
pub struct Certificate {
    made: CertifiedKey<KeyPair>,
}

impl Certificate {
    pub fn new() -> Certificate {
        Certificate { made: generate_simple_self_signed([HOST.to_owned()]).unwrap() }
    }

    pub fn der(&self) -> &CertificateDer<'static> {
        self.made.cert.der()
    }

    pub fn pem(&self) -> String {
        self.made.cert.pem()
    }

    pub fn key_pem(&self) -> String {
        self.made.signing_key.serialize_pem()
    }

    /// Writes both files into the folder.
    pub fn write(&self, folder: &Path) -> TlsConfig {
        let (certificate, key) = (folder.join("tls.crt"), folder.join("tls.key"));
        std::fs::write(&certificate, self.pem()).unwrap();
        std::fs::write(&key, self.key_pem()).unwrap();
        TlsConfig { certificate: Some(certificate), key: Some(key) }
    }

    /// A client that believes in this one.
    pub fn connector(&self) -> TlsConnector {
        connector(&[self], &[&TLS13, &TLS12])
    }
}

/// A client that believes in these, and speaks these versions.
pub fn connector(certificates: &[&Certificate], versions: &[&'static SupportedProtocolVersion]) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    certificates.iter().for_each(|certificate| roots.add(certificate.der().clone()).unwrap());
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

/// A connection after its handshake.
pub async fn shake(connector: &TlsConnector, stream: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
    connector.connect(ServerName::try_from(HOST).unwrap(), stream).await
}
