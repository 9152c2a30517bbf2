//! What `cargo xtask generate` writes is as fresh as the code it follows from.

use anyhow::{Context, Result};

use super::sources::Sources;
use crate::generate;

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let documents = generate::documents(|path| sources.text(path).map(str::to_owned).context("the file is missing"))?;
    let stale = documents.iter().filter(|document| document.is_stale());
    Ok(stale.map(|document| format!("{} is stale: run cargo xtask generate", document.path)).collect())
}

#[cfg(test)]
mod tests {
    use appsockets_core::code;

    use super::check;
    use crate::rules::sources::Sources;

    fn findings(errors: &str, closes: &str) -> Vec<String> {
        let document = format!(
            "<!-- generated: error codes -->\n{errors}<!-- end -->\n<!-- generated: close codes -->\n{closes}<!-- end -->\n"
        );
        check(&Sources::of(&[("docs/protocol.md", &document)])).unwrap()
    }

    #[test]
    fn stale_tables_are_found() {
        assert!(findings(&code::error_table(), &code::close_table()).is_empty());
        assert_eq!(findings("", &code::close_table()).len(), 1);
        assert_eq!(findings(&code::error_table(), "| 4000 |\n").len(), 1);
    }

    #[test]
    fn the_document_must_be_there() {
        assert!(check(&Sources::of(&[])).is_err());
    }
}
