//! Secrets: from the configuration, or made once and kept in the data folder. None of them is ever shown.

use std::{
    fmt,
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use anyhow::Context;
use appsockets_proto::configuration::keys_fingerprint;
use arc_swap::ArcSwap;
use hkdf::Hkdf;
use serde::{Deserialize, Serialize, Serializer};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::{random, settings::Settings};

/// Signs session tokens.
pub const SESSION: &str = "session.secret";
/// What administrators show.
pub const ADMIN: &str = "admin.token";
/// How often files with secrets are looked at.
const INTERVAL: Duration = Duration::from_secs(1);
/// Keys that a secret may have at a time.
const KEYS_MAX: usize = 8;

/// The keys of a secret: the first is what this node uses, and the others are accepted as well.
pub type Keys = Arc<[Vec<u8>]>;

/// What nodes know and others do not. It may get other keys while the node runs, and whoever has a clone then has them, too.
///
/// In text each line is a key.
#[derive(Clone, Deserialize)]
#[serde(from = "String")]
pub struct Secret(Arc<Inner>);

struct Inner {
    keys: ArcSwap<Keys>,
    /// Where it is read from, and how many bytes each key has at least.
    file: OnceLock<(PathBuf, u64)>,
}

impl Secret {
    pub fn keys(&self) -> Keys {
        Keys::clone(&self.0.keys.load())
    }

    /// The key that this node uses; empty if there is none.
    pub fn first(&self) -> Vec<u8> {
        self.0.keys.load().first().cloned().unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.0.keys.load().is_empty()
    }

    /// Compared in constant time, so that no answer's time tells how much of a guess was right.
    pub fn knows(&self, shown: &[u8]) -> bool {
        self.0.keys.load().iter().fold(false, |known, key| known | bool::from(key.ct_eq(shown)))
    }

    /// Gives it other keys.
    pub fn replace(&self, keys: Keys) {
        self.0.keys.store(Arc::new(keys));
    }

    /// Says which file it is read from, and how many bytes each of its keys has at least.
    pub fn comes_from(&self, file: PathBuf, bytes_min: u64) {
        // A secret has one file.
        _ = self.0.file.set((file, bytes_min));
    }

    /// Whether its file now gives it other keys.
    async fn read_again(&self) -> bool {
        let Some((path, bytes_min)) = self.0.file.get() else { return false };
        // What is not there at the moment, or can't be used, leaves it as it is.
        let Ok(text) = tokio::fs::read_to_string(path).await else { return false };
        let keys = lines(&text);
        let changed = is_usable(&text, *bytes_min) && keys != self.keys();
        if changed {
            tracing::info!(file = %path.display(), keys = keys.len(), "A secret has other keys.");
            self.replace(keys);
        }
        changed
    }

    fn new(keys: Keys) -> Secret {
        Secret(Arc::new(Inner { keys: ArcSwap::from_pointee(keys), file: OnceLock::new() }))
    }
}

impl Default for Secret {
    fn default() -> Self {
        Secret::from(String::new())
    }
}

/// One key.
impl From<Vec<u8>> for Secret {
    fn from(key: Vec<u8>) -> Self {
        Secret::new([key].into())
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Secret::new(lines(&text))
    }
}

/// Not as it is: this is for showing a configuration.
impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "(secret)" })
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

fn lines(text: &str) -> Keys {
    text.lines().filter(|line| !line.is_empty()).map(|line| line.as_bytes().to_vec()).collect()
}

/// Whether a text holds a secret whose keys have so many bytes at least.
pub fn is_usable(text: &str, bytes_min: u64) -> bool {
    let keys = lines(text);
    (1..=KEYS_MAX).contains(&keys.len()) && keys.iter().all(|key| key.len() as u64 >= bytes_min)
}

/// What nodes of a cluster share.
#[derive(Clone, Debug)]
pub struct Shared {
    pub session: Secret,
    pub membership: Secret,
    pub rpc: Secret,
    pub admin: Secret,
    /// Where NATS is. Only watched: it is no key, and nodes may have users of their own there.
    pub nats: Secret,
    /// The name of the cluster where the session secret follows from the others, because none is configured.
    pub session_of: Option<String>,
}

impl Shared {
    /// Says which keys these are, without saying them.
    pub fn fingerprint(&self, certificates: &[Vec<u8>]) -> String {
        keys_fingerprint(self.all().map(Secret::keys), certificates)
    }

    /// In the order in which the operator names them.
    fn all(&self) -> [&Secret; 4] {
        [&self.session, &self.membership, &self.rpc, &self.admin]
    }

    /// Makes the session secret, if it follows from another one: each node must take the tokens of the others.
    pub fn derive(&self) {
        let Some(cluster) = &self.session_of else { return };
        let derive = |key: &Vec<u8>| {
            let mut derived = vec![0; 32];
            // Refused only for lengths that no key has.
            let made = Hkdf::<Sha256>::new(Some(cluster.as_bytes()), key).expand(b"session tokens", &mut derived);
            debug_assert!(made.is_ok());
            derived
        };
        self.session.replace(self.rpc.keys().iter().map(derive).collect());
    }

    /// Reads secrets again as their files change, for ever.
    pub async fn watch(&self, settings: &Settings) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            let mut any = false;
            for secret in self.all() {
                any |= secret.read_again().await;
            }
            self.nats.read_again().await;
            if any {
                self.derive();
                settings.keep_again().await;
            }
        }
    }
}

/// The secret of this name in the data folder. Readable by the node's user alone.
pub fn read_or_make(folder: &Path, name: &str) -> anyhow::Result<Vec<u8>> {
    let path = folder.join(name);
    match std::fs::read(&path) {
        Ok(secret) => return Ok(secret),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(error).with_context(|| format!("{} can't be read", path.display())),
    }
    let secret = format!("{:032x}{:032x}", random::secret(), random::secret()).into_bytes();
    write(&path, &secret)?;
    Ok(secret)
}

/// Writes a file that the node's user alone can read. Beside it first and then renamed, so that no half is ever read.
pub fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let new = path.with_added_extension("new");
    std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&new, path))
        .with_context(|| format!("{} can't be written", path.display()))
}
