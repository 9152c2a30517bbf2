//! Nothing in the project points at somebody's machine.

use anyhow::Result;

use super::sources::Sources;

/// Written in two parts, so that this file does not find itself.
const FOLDERS: [&str; 4] =
    [concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, text) in sources.iter() {
        for (index, line) in text.lines().enumerate() {
            if let Some(folder) = FOLDERS.iter().find(|folder| names(line, folder)) {
                findings.push(format!("{path}:{}: a path of one machine: {folder}", index + 1));
            }
        }
        // Where npm is set up to say it, this is the address that one machine fetched the package from.
        if path.ends_with("package-lock.json") && text.contains("\"resolved\": \"http") {
            findings.push(format!("{path}: holds addresses: make it with npm's omit-lockfile-registry-resolved"));
        }
    }
    Ok(findings)
}

/// Whether an absolute path of this folder stands in the line; the same words inside a longer path are another's.
fn names(line: &str, folder: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || "._-*}".contains(c);
    line.match_indices(folder).any(|(at, _)| !line[..at].ends_with(inside))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::rules::sources::Sources;

    #[test]
    fn absolute_paths_of_people_are_found() {
        let home = concat!("see /ho", "me/ann/x, \"/ro", "ot/y\"\nFILE=/wo", "rk/z");
        let found = check(&Sources::of(&[("a.md", home)])).unwrap();
        assert_eq!(found.len(), 2);
        assert!(found[1].starts_with("a.md:2: "));
    }

    #[test]
    fn longer_paths_pass() {
        let longer = concat!("target/wo", "rk/x https://shop.example/ho", "me/ and ${ROOT}/ro", "ot/");
        assert!(check(&Sources::of(&[("a.md", longer)])).unwrap().is_empty());
    }

    #[test]
    fn lock_files_hold_no_addresses() {
        let lock = "{\"resolved\": \"https://registry.example/ws.tgz\"}";
        assert_eq!(check(&Sources::of(&[("x/package-lock.json", lock)])).unwrap().len(), 1);
    }
}
