//! `cargo xtask generate`: the parts of the documents that follow from the code.

use std::fs;

use anyhow::{Context, Result};
use appsockets_core::code;

use crate::{region, root};

/// Writes the content of a region.
type Write = fn() -> String;

/// The documents with generated regions, each with its regions' names and what writes them.
const DOCUMENTS: &[(&str, &[(&str, Write)])] =
    &[("docs/protocol.md", &[("error codes", code::error_table), ("close codes", code::close_table)])];

pub fn run() -> Result<()> {
    let read = |path: &str| fs::read_to_string(root::root().join(path)).context("could not read it");
    for document in documents(read)?.iter().filter(|document| document.is_stale()) {
        fs::write(root::root().join(document.path), &document.fresh)
            .with_context(|| format!("could not write {}", document.path))?;
        eprintln!("wrote {}", document.path);
    }
    Ok(())
}

/// A document as it is and as it ought to be.
#[derive(Debug)]
pub struct Document {
    pub path: &'static str,
    current: String,
    fresh: String,
}

impl Document {
    pub fn is_stale(&self) -> bool {
        self.current != self.fresh
    }
}

/// All documents, given what reads one by its path.
pub fn documents(read: impl Fn(&str) -> Result<String>) -> Result<Vec<Document>> {
    let documents = DOCUMENTS.iter().map(|(path, regions)| {
        let current = read(path).context(*path)?;
        let fresh = regions
            .iter()
            .try_fold(current.clone(), |text, (name, write)| region::replace(&text, name, &write()).context(*path))?;
        Ok(Document { path, current, fresh })
    });
    documents.collect()
}
