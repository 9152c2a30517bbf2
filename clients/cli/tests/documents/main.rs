//! Every block of code in the documents is run, or has a line above it that says why not:
//! `<!-- not run: a drawing -->`.

mod blocks;
mod configuration;
mod conversation;
mod like;
mod node;
mod protocol;
mod provider;
mod readme;
mod shell;
mod tool;

use std::{fs, path::Path};

/// The documents whose blocks are run by a test of this name.
const RUN: [&str; 4] = ["README.md", "clients/cli/README.md", "docs/configuration.md", "docs/protocol.md"];

#[test]
fn no_block_is_left_out() {
    let mut documents = Vec::new();
    collect(&blocks::root(), &mut documents);
    for path in RUN {
        assert!(documents.iter().any(|document| document == path), "there is no {path}");
    }
    for path in documents.iter().filter(|path| !RUN.contains(&path.as_str())) {
        let runnable = blocks::of(path);
        assert!(
            runnable.is_empty(),
            "no test runs this block of {path}, and it does not say why: {}",
            runnable[0].text
        );
    }
}

/// Documents, by their paths from the workspace's folder. What was built or fetched is none of the project's.
fn collect(folder: &Path, documents: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() && !matches!(name, "target" | "node_modules") && !name.starts_with('.') {
            collect(&path, documents);
        } else if name.ends_with(".md") {
            documents.push(path.strip_prefix(blocks::root()).unwrap().to_str().unwrap().to_owned());
        }
    }
}
