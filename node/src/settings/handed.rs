//! What the operator handed over, kept in the data folder for the next start: nodes go on with it when the operator and
//! the API server are gone.
//!
//! Sealed under the membership secret: it holds secrets of tenants.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
};

use appsockets_core::settings::{
    entry::{Entry, Source},
    push::{Handed, PushStamp},
    resource::Resource,
};
use serde::{Deserialize, Serialize};

use crate::{
    ciphers::Ciphers,
    secret::{self, Secret},
};

const FILE: &str = "operator.settings";

/// Where it is kept.
#[derive(Clone, Debug)]
pub struct Kept {
    path: PathBuf,
    ciphers: Arc<Ciphers>,
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
    pub fn new(folder: &Path, membership: &Secret) -> Kept {
        let ciphers = Arc::new(Ciphers::new(membership.clone(), "settings of the operator"));
        Kept { path: folder.join(FILE), ciphers }
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
        let plain = self.ciphers.open(sealed, &[])?;
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
        self.ciphers.seal(&plain, &[])
    }
}
