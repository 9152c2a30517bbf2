//! No source file grows beyond what one can read in one go.

use anyhow::Result;

use super::{exceptions::Exceptions, sources::Sources};

const LINES_MAX: usize = 600;
const EXTENSIONS: [&str; 13] =
    ["css", "html", "js", "jsx", "kt", "mjs", "proto", "py", "rs", "sh", "swift", "ts", "tsx"];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let written = sources.iter().filter(|(path, _)| is_source(path));
    let sizes: Vec<_> = written.map(|(path, text)| (path.to_owned(), text.lines().count())).collect();
    Ok(Exceptions::read(sources, "file-size")?.judge(&sizes, LINES_MAX))
}

fn is_source(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension))
}

#[cfg(test)]
mod tests {
    use super::{LINES_MAX, check};
    use crate::rules::sources::Sources;

    #[test]
    fn the_limit_holds_for_sources() {
        let (fits, grown) = ("x\n".repeat(LINES_MAX), "x\n".repeat(LINES_MAX + 1));
        let sources = Sources::of(&[("a.rs", &fits), ("b.py", &grown), ("Cargo.lock", &grown)]);
        assert_eq!(check(&sources).unwrap(), ["b.py has 601 lines, and at most 600 are allowed"]);
    }
}
