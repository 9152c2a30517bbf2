//! Secrets that are not configured: made once, kept in the data folder.

use std::{
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use anyhow::Context;
use hkdf::Hkdf;
use sha2::Sha256;

use crate::random;

/// Signs session tokens.
pub const SESSION: &str = "session.secret";
/// What administrators show.
pub const ADMIN: &str = "admin.token";

/// The secret that all nodes of a cluster sign session tokens with, unless they are configured with one: each must take
/// the tokens of the others.
pub fn shared_by(cluster: &str, rpc_secret: &[u8]) -> Vec<u8> {
    let mut secret = vec![0; 32];
    // Refused only for lengths that no key has.
    let made = Hkdf::<Sha256>::new(Some(cluster.as_bytes()), rpc_secret).expand(b"session tokens", &mut secret);
    debug_assert!(made.is_ok());
    secret
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
