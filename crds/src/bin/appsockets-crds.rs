//! `appsockets-crds FOLDER` writes the resources' definitions there.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folder: PathBuf = env::args_os().nth(1).unwrap_or_else(|| ".".into()).into();
    for (name, text) in appsockets_crds::yaml::files() {
        fs::write(folder.join(name), text)?;
    }
    Ok(())
}
