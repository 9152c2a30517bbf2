//! Every path that `ARCHITECTURE.md` names exists: a map that has rotted is worse than none.

use anyhow::{Context, Result};

use super::sources::Sources;

const MAP: &str = "ARCHITECTURE.md";
const EXTENSIONS: [&str; 14] =
    ["css", "html", "js", "json", "kt", "md", "mjs", "proto", "py", "rs", "swift", "toml", "ts", "yaml"];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let map = sources.text(MAP).with_context(|| format!("{MAP} is missing"))?;
    let absent = paths(map).filter(|(_, path)| !exists(sources, path));
    Ok(absent.map(|(line, path)| format!("{MAP}:{line}: there is no {path}")).collect())
}

/// What stands in backticks and reads as a path, with its line. Blocks of code are drawings and not searched.
fn paths(map: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    let prose = map.lines().enumerate().filter(move |(_, line)| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    prose.flat_map(|(index, line)| {
        let quoted = line.split('`').skip(1).step_by(2);
        quoted.filter(|text| reads_as_path(text)).map(move |path| (index + 1, path))
    })
}

fn reads_as_path(text: &str) -> bool {
    let of_path = |c: char| c.is_ascii_alphanumeric() || "._-/*".contains(c);
    let extension = text.rsplit_once('.').is_some_and(|(_, extension)| EXTENSIONS.contains(&extension));
    // A leading slash is an address of the product's HTTP interface.
    text.chars().all(of_path) && !text.starts_with('/') && (text.contains('/') || extension)
}

/// A star stands for any rest of the path.
fn exists(sources: &Sources, path: &str) -> bool {
    match path.split_once('*') {
        None => sources.has(path),
        Some((start, _)) => sources.iter().any(|(file, _)| file.starts_with(start)),
    }
}

#[cfg(test)]
mod tests {
    use super::{MAP, check};
    use crate::rules::sources::Sources;

    fn findings(map: &str) -> Vec<String> {
        check(&Sources::of(&[(MAP, map), ("core/src/lib.rs", ""), ("Cargo.toml", "")])).unwrap()
    }

    #[test]
    fn named_paths_must_exist() {
        assert_eq!(
            findings("See `core/src/gone.rs`.\n`README.md`, `node/`"),
            [
                "ARCHITECTURE.md:1: there is no core/src/gone.rs",
                "ARCHITECTURE.md:2: there is no README.md",
                "ARCHITECTURE.md:2: there is no node/",
            ]
        );
        assert_eq!(findings("`peer/*.rs`").len(), 1);
    }

    #[test]
    fn files_folders_and_other_words_pass() {
        let map = "`core/`, `core/src`, `core/src/*.rs`, `Cargo.toml`, `GET /hubs`, `/hubs/x`, `Session`, `a::b`\n";
        assert_eq!(findings(map), [""; 0]);
        assert_eq!(findings("```text\n`gone/`\n```\n"), [""; 0]);
    }

    #[test]
    fn there_must_be_a_map() {
        assert!(check(&Sources::of(&[])).is_err());
    }
}
