//! What the operator handed over, kept in the data folder for the next start: nodes go on with it when the operator and
//! the API server are gone.
//!
//! XChaCha20-Poly1305 under a key that follows from the membership secret (HKDF-SHA256): it holds secrets of tenants.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context;
use appsockets_core::settings::{
    entry::{Entry, Source},
    push::{Handed, PushStamp},
    resource::Resource,
};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce, aead::Aead};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;

use crate::secret;

const FILE: &str = "operator.settings";
const NONCE_BYTES: usize = 24;

/// Where it is kept.
#[derive(Clone)]
pub struct Kept {
    path: PathBuf,
    cipher: XChaCha20Poly1305,
}

impl std::fmt::Debug for Kept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Kept").field("path", &self.path).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct Content {
    stamp: PushStamp,
    entries: Vec<Row>,
}

#[derive(Serialize, Deserialize)]
struct Row {
    uid: String,
    generation: u64,
    resource: Resource,
}

impl Kept {
    pub fn new(folder: &Path, membership_secret: &[u8]) -> Kept {
        let mut key = [0; 32];
        let made = Hkdf::<Sha256>::new(None, membership_secret).expand(b"settings of the operator", &mut key);
        debug_assert!(made.is_ok(), "HKDF refuses only lengths that no key has");
        Kept { path: folder.join(FILE), cipher: XChaCha20Poly1305::new(&key.into()) }
    }

    /// What was kept last; nothing if there is none, or none that this node can use: it then waits for the operator.
    pub fn read(&self) -> Handed {
        match std::fs::read(&self.path) {
            Ok(sealed) => self.open(&sealed).unwrap_or_else(|| {
                tracing::error!(path = %self.path.display(), "What the operator handed over can't be used: waiting for it to do so again.");
                Handed::default()
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => Handed::default(),
            Err(error) => {
                tracing::error!(path = %self.path.display(), %error, "What the operator handed over can't be read.");
                Handed::default()
            }
        }
    }

    /// What was sealed here or by another node of the cluster; None: by nobody of them.
    pub fn open(&self, sealed: &[u8]) -> Option<Handed> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_BYTES>()?;
        let plain = self.cipher.decrypt(&XNonce::from(*nonce), sealed).ok()?;
        let Content { stamp, entries } = serde_json::from_slice(&plain).ok()?;
        let entries = entries
            .into_iter()
            .map(|Row { uid, generation, resource }| Arc::new(Entry::new(Source::Operator, uid, generation, resource)));
        Some(Handed::new(stamp, entries))
    }

    /// Keeps it for the next start.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, handed: &Handed) -> anyhow::Result<()> {
        secret::write(&self.path, &self.seal(handed)?)
    }

    /// In the form that every node of the cluster can open; empty if there was no push.
    ///
    /// # Errors
    /// There are no random bytes, or too many of others.
    pub fn seal(&self, handed: &Handed) -> anyhow::Result<Vec<u8>> {
        let Some(stamp) = handed.stamp() else { return Ok(Vec::new()) };
        let entries = handed.entries().map(|entry| Row {
            uid: entry.uid.to_string(),
            generation: entry.generation,
            resource: entry.resource.clone(),
        });
        let plain = serde_json::to_vec(&Content { stamp, entries: entries.collect() })?;
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).context("the operating system gives no random bytes")?;
        let sealed =
            self.cipher.encrypt(&XNonce::from(nonce), &*plain).map_err(|_| anyhow::anyhow!("it is too large"))?;
        Ok([&nonce[..], &sealed].concat())
    }
}
