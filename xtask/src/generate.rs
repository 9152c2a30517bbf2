//! `cargo xtask generate`: the parts of the documents that follow from the code.
//!
//! What the core knows is checked by `cargo xtask lint`. The node's configuration is asked of the node and the custom
//! resources of their package, which takes a build of them, so there tests see to it that the files are fresh.

use std::fs;

use anyhow::{Context, Result};
use appsockets_core::code;

use crate::{process, region, root};

/// Writes the content of a region.
type Write = fn() -> String;

/// The documents with generated regions, each with its regions' names and what writes them.
const DOCUMENTS: &[(&str, &[(&str, Write)])] =
    &[("docs/protocol.md", &[("error codes", code::error_table), ("close codes", code::close_table)])];

/// The document with a region that the node prints, and its name.
const CONFIGURATION: (&str, &str) = ("docs/configuration.md", "node configuration");

pub fn run() -> Result<()> {
    let read = |path: &str| fs::read_to_string(root::root().join(path)).context("could not read it");
    let mut documents = documents(read)?;
    documents.push(configuration(read)?);
    for document in documents.iter().filter(|document| document.is_stale()) {
        fs::write(root::root().join(document.path), &document.fresh)
            .with_context(|| format!("could not write {}", document.path))?;
        eprintln!("wrote {}", document.path);
    }
    let folders = ["crds", "charts/appsockets/files/crds"].map(|folder| root::root().join(folder));
    process::run(process::cargo(["run", "--quiet", "--package", "appsockets-crds", "--"]).args(folders))
}

fn configuration(read: impl Fn(&str) -> Result<String>) -> Result<Document> {
    let (path, name) = CONFIGURATION;
    let current = read(path).context(path)?;
    let mut node = process::cargo(["run", "--quiet", "--package", "appsockets-node", "--", "config", "reference"]);
    let fresh = region::replace(&current, name, &process::output(&mut node)?).context(path)?;
    Ok(Document { path, current, fresh })
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
