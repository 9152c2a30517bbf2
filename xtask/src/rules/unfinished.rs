//! Nothing is left for later inside the files: what is open has an issue.

use anyhow::Result;

use super::sources::Sources;

/// Written in two parts, so that this file does not find itself.
const MARKS: [&str; 5] = [
    concat!("TO", "DO"),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("to", "do!"),
    concat!("unimple", "mented!"),
];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    let mut findings = Vec::new();
    for (path, text) in sources.iter().filter(|(path, _)| !path.contains(".lock") && !path.contains("-lock.")) {
        for (index, line) in text.lines().enumerate() {
            if let Some(mark) = MARKS.iter().find(|mark| holds_word(line, mark)) {
                findings.push(format!("{path}:{}: {mark}", index + 1));
            }
        }
    }
    Ok(findings)
}

fn holds_word(line: &str, word: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let after = &line[at + word.len()..];
        !line[..at].ends_with(in_word) && !after.starts_with(in_word)
    })
}

#[cfg(test)]
mod tests {
    use super::{MARKS, check};
    use crate::rules::sources::Sources;

    #[test]
    fn every_mark_is_found() {
        for mark in MARKS {
            let text = format!("fine\n    {mark}(later)\n");
            assert_eq!(check(&Sources::of(&[("a.rs", &text)])).unwrap(), [format!("a.rs:2: {mark}")]);
        }
    }

    #[test]
    fn longer_words_and_lock_files_pass() {
        let text = format!("{}S s{}x", MARKS[0], MARKS[1]);
        assert!(check(&Sources::of(&[("a.rs", &text), ("package-lock.json", MARKS[0])])).unwrap().is_empty());
    }
}
