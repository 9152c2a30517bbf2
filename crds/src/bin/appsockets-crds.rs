//! `appsockets-crds FOLDER...` writes the resources' definitions there.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    let folders: Vec<_> = env::args_os().skip(1).map(PathBuf::from).collect();
    if folders.is_empty() {
        return Err(io::Error::other("name the folders to write to"));
    }
    for folder in folders {
        for (name, text) in appsockets_crds::yaml::files() {
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}
