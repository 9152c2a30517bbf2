//! TLS for a listener, by a certificate that is replaced when its files change.

use std::{
    fmt, fs,
    io::{self, ErrorKind},
    mem,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::NoServerSessionStorage,
    version::{TLS12, TLS13},
};
use tokio::{net::TcpStream, time};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use xxhash_rust::xxh3::xxh3_128;

use crate::config::TlsConfig;

/// How often the files are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// What one connection may hold of encrypted bytes that the kernel does not take: about one record.
const UNSENT_BYTES_MAX: usize = 16 << 10;

/// What a listener needs to speak TLS.
pub struct Tls {
    /// The key of the configuration under which the files are named.
    section: &'static str,
    certificate: PathBuf,
    key: PathBuf,
    loaded: Stamp,
    current: ArcSwap<ServerConfig>,
    handshakes: AtomicU64,
    handshakes_failed: AtomicU64,
    refused: AtomicU64,
}

impl Tls {
    /// Reads the files of a section of the configuration; none if it names none.
    ///
    /// # Errors
    /// A file can't be read, holds no PEM of its kind, or the key is not the certificate's.
    pub fn load(section: &'static str, config: &TlsConfig) -> anyhow::Result<Option<Arc<Tls>>> {
        let TlsConfig { certificate: Some(certificate), key: Some(key) } = config else { return Ok(None) };
        let pair = Pair::read(certificate, key);
        let loaded = stamp(&pair);
        let current = pair.and_then(|pair| pair.config()).with_context(|| section.to_owned())?;
        Ok(Some(Arc::new(Tls {
            section,
            certificate: certificate.clone(),
            key: key.clone(),
            loaded,
            current: ArcSwap::from_pointee(current),
            handshakes: AtomicU64::new(0),
            handshakes_failed: AtomicU64::new(0),
            refused: AtomicU64::new(0),
        })))
    }

    /// Shakes hands with a client, within this time.
    ///
    /// # Errors
    /// The client does not speak TLS, or not in time, or the socket failed.
    pub async fn accept(&self, stream: TcpStream, timeout: Duration) -> io::Result<TlsStream<TcpStream>> {
        let _under_way = UnderWay::new(&self.handshakes);
        let acceptor = TlsAcceptor::from(self.current.load_full());
        let shaking = acceptor.accept_with(stream, |session| session.set_buffer_limit(Some(UNSENT_BYTES_MAX)));
        let shaken = time::timeout(timeout, shaking).await.unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()));
        if shaken.is_err() {
            self.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        }
        shaken
    }

    /// How many handshakes are under way.
    pub fn handshakes(&self) -> u64 {
        self.handshakes.load(Ordering::Relaxed)
    }

    /// How many handshakes failed.
    pub fn handshakes_failed(&self) -> u64 {
        self.handshakes_failed.load(Ordering::Relaxed)
    }

    /// How many times the files changed into something that can't be used.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Replaces the certificate whenever its files have changed, for new connections. What can't be used is logged and
    /// counted, and the certificate stays.
    pub async fn watch(&self) {
        let (mut taken, mut seen) = (self.loaded, self.loaded);
        loop {
            time::sleep(INTERVAL).await;
            let pair = self.look().await;
            let now = stamp(&pair);
            // Found the same twice, they are no longer being written.
            if mem::replace(&mut seen, now) == now && taken != now {
                taken = now;
                self.take(pair);
            }
        }
    }

    async fn look(&self) -> anyhow::Result<Pair> {
        let (certificate, key) = (self.certificate.clone(), self.key.clone());
        tokio::task::spawn_blocking(move || Pair::read(&certificate, &key)).await?
    }

    fn take(&self, pair: anyhow::Result<Pair>) {
        match pair.and_then(|pair| pair.config()) {
            Ok(config) => {
                // All of it is new, also the key of the tickets, so nobody goes on with the old certificate.
                self.current.store(Arc::new(config));
                tracing::info!(section = self.section, "a new certificate is in use");
            }
            Err(error) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                let error = format!("{error:#}");
                tracing::warn!(section = self.section, error, "the new certificate can't be used, the old one stays");
            }
        }
    }
}

/// How addresses of a listener begin.
pub fn scheme(secured: bool) -> &'static str {
    if secured { "https" } else { "http" }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("section", &self.section).finish_non_exhaustive()
    }
}

/// Counts one until it is dropped, which a task that is aborted does as well.
struct UnderWay<'a>(&'a AtomicU64);

impl UnderWay<'_> {
    fn new(count: &AtomicU64) -> UnderWay<'_> {
        count.fetch_add(1, Ordering::Relaxed);
        UnderWay(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is in the two files.
struct Pair {
    certificate: Vec<u8>,
    key: Vec<u8>,
}

impl Pair {
    fn read(certificate: &Path, key: &Path) -> anyhow::Result<Pair> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("{} can't be read", path.display()));
        Ok(Pair { certificate: read(certificate)?, key: read(key)? })
    }

    fn config(&self) -> anyhow::Result<ServerConfig> {
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .context("the certificate's file is not PEM")?;
        anyhow::ensure!(!chain.is_empty(), "the certificate's file holds no certificate");
        let key = PrivateKeyDer::from_pem_slice(&self.key).context("the key's file holds no private key in PEM")?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .context("the certificate and the key can't be used together")?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Clients keep what lets them come back without a whole handshake, so that the node keeps nothing.
        config.ticketer = ring::Ticketer::new()?;
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(config)
    }
}

/// Tells one state of the files from another. Not by their time, which stays the same for two writes in one tick. None:
/// they can't be read.
type Stamp = Option<(u128, u128)>;

fn stamp(pair: &anyhow::Result<Pair>) -> Stamp {
    pair.as_ref().ok().map(|Pair { certificate, key }| (xxh3_128(certificate), xxh3_128(key)))
}
