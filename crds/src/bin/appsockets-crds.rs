//! `appsockets-crds FOLDER...` writes the resources' definitions there.

use std::{env, fs, io, path::PathBuf};

fn main() -> io::Result<()> {
    for folder in env::args_os().skip(1).map(PathBuf::from) {
        for (name, text) in appsockets_crds::yaml::files() {
            fs::write(folder.join(name), text)?;
        }
    }
    Ok(())
}
