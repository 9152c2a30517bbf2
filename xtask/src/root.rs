//! Where things are.

use std::path::PathBuf;

/// The workspace's folder. Asked for when it runs, so that a program built elsewhere does not look there.
pub fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    match package.as_deref().and_then(|package| package.parent()) {
        Some(root) => root.to_owned(),
        None => PathBuf::from("."),
    }
}

/// Cargo's output folder.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => root().join(folder),
        None => root().join("target"),
    }
}

/// What the commands install for themselves. The tests look here too, so it does not move with Cargo's output folder.
pub fn tools() -> PathBuf {
    root().join("target/tools")
}
