//! The project's own files.

use std::{collections::BTreeMap, fs};

use anyhow::{Context, Result};

use crate::{process, root};

/// Every file that is or would be committed, by its path from the workspace's folder.
pub fn tracked_files() -> Result<Vec<String>> {
    let list = ["ls-files", "-z", "--cached", "--others", "--exclude-standard"];
    let paths = process::output(&mut process::program("git", list))?;
    let exists = |path: &&str| root::root().join(path).is_file();
    Ok(paths.split_terminator('\0').filter(exists).map(str::to_owned).collect())
}

/// Paths and texts. A file that is not UTF-8 has an empty text.
pub struct Sources(pub BTreeMap<String, String>);

impl Sources {
    pub fn read() -> Result<Sources> {
        let mut files = BTreeMap::new();
        for path in tracked_files()? {
            let bytes = fs::read(root::root().join(&path)).with_context(|| format!("could not read {path}"))?;
            files.insert(path, String::from_utf8(bytes).unwrap_or_default());
        }
        Ok(Sources(files))
    }

    #[cfg(test)]
    pub fn of(files: &[(&str, &str)]) -> Sources {
        Sources(files.iter().map(|(path, text)| (path.to_string(), text.to_string())).collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Rust files below a folder, `""` for all.
    pub fn rust(&self, folder: &str) -> impl Iterator<Item = (&str, &str)> {
        self.iter().filter(move |(path, _)| path.starts_with(folder) && path.ends_with(".rs"))
    }

    /// Whether there is a file of this path, or a folder with files in it.
    pub fn has(&self, path: &str) -> bool {
        let folder = format!("{}/", path.trim_end_matches('/'));
        self.0.keys().any(|file| file == path || file.starts_with(&folder))
    }
}
