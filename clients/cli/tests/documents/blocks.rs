//! The blocks of code in a document.

use std::{fs, path::PathBuf};

const MARK: &str = "<!-- not run: ";

/// One that is to be run.
#[derive(Debug, PartialEq)]
pub struct Block {
    pub language: String,
    /// Its lines, each with its end.
    pub text: String,
}

/// The workspace's folder.
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Those of a document, by its path from the workspace's folder, that do not say why they are not run.
pub fn of(path: &str) -> Vec<Block> {
    read(&fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}")))
}

/// Panics where a mark has no reason, or no block below it.
pub fn read(text: &str) -> Vec<Block> {
    let (mut blocks, mut marked) = (Vec::new(), false);
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().take_while(|line| *line != "```");
            let text = inside.map(|line| format!("{line}\n")).collect();
            if !marked {
                blocks.push(Block { language: language.to_owned(), text });
            }
            marked = false;
            continue;
        }
        assert!(!marked, "no block of code comes right after its mark: {line}");
        if let Some(reason) = line.strip_prefix(MARK) {
            assert!(reason.strip_suffix(" -->").is_some_and(|reason| !reason.is_empty()), "no reason: {line}");
            marked = true;
        }
    }
    assert!(!marked, "a mark at the end of a document");
    blocks
}

#[test]
fn only_what_is_marked_is_passed_over() {
    let text = "a\n```sh\nb\nc\n```\n<!-- not run: a drawing -->\n```text\nd\n```\n\n```json\n{}\n```\n";
    let block = |language: &str, text: &str| Block { language: language.into(), text: text.into() };
    assert_eq!(read(text), [block("sh", "b\nc\n"), block("json", "{}\n")]);
    for bad in ["<!-- not run: x -->\n\n```sh\n```\n", "<!-- not run:  -->\n```sh\n```\n", "<!-- not run: x -->\n"] {
        assert!(std::panic::catch_unwind(|| read(bad)).is_err(), "{bad}");
    }
}
