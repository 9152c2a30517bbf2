//! The sizes that were granted to single files and functions, in `xtask/exceptions.txt`. A grant is a ratchet: what
//! outgrows it fails, and so does a grant that is larger than needed.

use anyhow::{Context, Result};

use super::sources::Sources;

const PATH: &str = "xtask/exceptions.txt";

/// The grants of one rule.
pub struct Exceptions<'a> {
    rule: &'static str,
    granted: Vec<(&'a str, usize)>,
}

impl<'a> Exceptions<'a> {
    /// Reads the lines `RULE SUBJECT LINES` of this rule; other rules' lines and those that begin with `#` are passed over.
    pub fn read(sources: &'a Sources, rule: &'static str) -> Result<Exceptions<'a>> {
        let mut granted = Vec::new();
        for line in sources.text(PATH).unwrap_or_default().lines() {
            let words: Vec<_> = line.split_whitespace().collect();
            match words[..] {
                [of, subject, lines] if of == rule => {
                    let lines = lines.parse().with_context(|| format!("{PATH}: not a number: {line}"))?;
                    granted.push((subject, lines));
                }
                [] | [_, _, _] => {}
                _ if line.starts_with('#') => {}
                _ => anyhow::bail!("{PATH}: not RULE SUBJECT LINES: {line}"),
            }
        }
        Ok(Exceptions { rule, granted })
    }

    /// What is wrong with these sizes (subject, lines), given the general limit and the grants.
    pub fn judge(&self, sizes: &[(String, usize)], limit: usize) -> Vec<String> {
        let too_large = sizes.iter().filter_map(|(subject, lines)| {
            let allowed = self.granted.iter().find(|(of, _)| of == subject).map_or(limit, |(_, lines)| *lines);
            (*lines > allowed).then(|| format!("{subject} has {lines} lines, and at most {allowed} are allowed"))
        });
        too_large.chain(self.granted.iter().filter_map(|grant| self.idle(grant, sizes, limit))).collect()
    }

    fn idle(&self, (subject, granted): &(&str, usize), sizes: &[(String, usize)], limit: usize) -> Option<String> {
        let lines = sizes.iter().filter(|(of, _)| of == subject).map(|(_, lines)| *lines).max().unwrap_or(0);
        match lines {
            _ if lines <= limit => Some(format!("{PATH}: {} {subject} is no longer needed", self.rule)),
            _ if lines < *granted => Some(format!("{PATH}: {} {subject} can be lowered to {lines}", self.rule)),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Exceptions, PATH};
    use crate::rules::sources::Sources;

    fn judge(exceptions: &str, lines: usize) -> Vec<String> {
        let sources = Sources::of(&[(PATH, exceptions)]);
        Exceptions::read(&sources, "size").unwrap().judge(&[("a.rs".to_owned(), lines)], 10)
    }

    #[test]
    fn a_grant_holds_up_to_its_number() {
        assert!(judge("", 10).is_empty());
        assert_eq!(judge("", 11), ["a.rs has 11 lines, and at most 10 are allowed"]);
        assert!(judge("# why\n\nsize a.rs 12\nother a.rs 99", 12).is_empty());
        assert_eq!(judge("size a.rs 12", 13), ["a.rs has 13 lines, and at most 12 are allowed"]);
    }

    #[test]
    fn a_grant_that_is_too_large_must_shrink() {
        assert_eq!(judge("size a.rs 12", 11), [format!("{PATH}: size a.rs can be lowered to 11")]);
        assert_eq!(judge("size a.rs 12", 10), [format!("{PATH}: size a.rs is no longer needed")]);
        assert_eq!(judge("size gone.rs 12", 1), [format!("{PATH}: size gone.rs is no longer needed")]);
    }

    #[test]
    fn what_cannot_be_read_is_an_error() {
        assert!(Exceptions::read(&Sources::of(&[(PATH, "size a.rs")]), "size").is_err());
        assert!(Exceptions::read(&Sources::of(&[(PATH, "size a.rs many")]), "size").is_err());
    }
}
