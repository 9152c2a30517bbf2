//! Parts of a document that a program writes: what stands between `<!-- generated: NAME -->` and `<!-- end -->`.

use anyhow::{Context, Result};

const END: &str = "<!-- end -->";

/// The document with the region's content replaced. Fails if the document has no such region.
pub fn replace(document: &str, name: &str, content: &str) -> Result<String> {
    let start = format!("<!-- generated: {name} -->");
    let (before, rest) = document.split_once(&start).with_context(|| format!("there is no {start}"))?;
    let (_, after) = rest.split_once(END).with_context(|| format!("there is no {END} after {start}"))?;
    Ok(format!("{before}{start}\n{}\n{END}{after}", content.trim()))
}

#[cfg(test)]
mod tests {
    use super::replace;

    const DOCUMENT: &str =
        "# A\n\n<!-- generated: one -->\nold\n<!-- end -->\n\n<!-- generated: two -->\n<!-- end -->\n";

    #[test]
    fn only_the_named_region_changes() {
        let replaced = replace(DOCUMENT, "one", "new\n").unwrap();
        assert_eq!(replaced, DOCUMENT.replace("old", "new"));
        let replaced = replace(&replaced, "two", "b").unwrap();
        assert!(replaced.ends_with("<!-- generated: two -->\nb\n<!-- end -->\n"));
        assert_eq!(replace(&replaced, "two", "b").unwrap(), replaced);
    }

    #[test]
    fn a_missing_region_is_an_error() {
        assert!(replace(DOCUMENT, "three", "x").is_err());
        assert!(replace("<!-- generated: one -->", "one", "x").is_err());
    }
}
