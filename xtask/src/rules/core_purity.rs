//! The core names no clock, no chance and no I/O. `core/clippy.toml` forbids the same where clippy can tell; this also
//! finds what only a name gives away.

use anyhow::Result;

use super::{
    rust::{code_only, use_paths},
    sources::Sources,
};

/// Beginnings of paths that the core may neither import nor write out.
const FORBIDDEN: [&str; 20] = [
    "std::env",
    "std::fs",
    "std::io",
    "std::net::TcpListener",
    "std::net::TcpStream",
    "std::net::ToSocketAddrs",
    "std::net::UdpSocket",
    "std::os",
    "std::process",
    "std::thread",
    "std::time::Instant",
    "std::time::SystemTime",
    "std::time::UNIX_EPOCH",
    "std::hash::RandomState",
    "std::collections::hash_map::RandomState",
    "core::net",
    "getrandom",
    "rand",
    "sqlx",
    "tokio",
];

pub fn check(sources: &Sources) -> Result<Vec<String>> {
    Ok(sources.rust("core/src/").flat_map(|(path, text)| findings(path, text)).collect())
}

fn findings(path: &str, text: &str) -> Vec<String> {
    let code = code_only(text);
    let mut findings = Vec::new();
    for (line, named) in use_paths(&code).into_iter().chain(written_paths(&code)) {
        if FORBIDDEN.iter().any(|forbidden| begins_with(&named, forbidden)) {
            findings.push(format!("{path}:{line}: the core may not name {named}"));
        }
    }
    findings.sort();
    findings.dedup();
    findings
}

/// Paths as they stand in the code outside of imports: `std::fs::read`, `Instant::now`.
fn written_paths(code: &str) -> Vec<(usize, String)> {
    let of_path = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let lines = code.lines().enumerate();
    lines
        .flat_map(|(index, line)| line.split(|c| !of_path(c)).map(move |word| (index + 1, word)))
        .filter(|(_, word)| word.contains("::"))
        .map(|(line, word)| (line, word.trim_start_matches(':').to_owned()))
        .collect()
}

/// Whether the path is this one or goes on from it, or is a glob that brings it in.
fn begins_with(path: &str, forbidden: &str) -> bool {
    let rest = path.strip_prefix(forbidden);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
        || path.strip_suffix("::*").is_some_and(|module| forbidden.starts_with(&format!("{module}::")))
}

#[cfg(test)]
mod tests {
    use super::check;
    use crate::rules::sources::Sources;

    fn count(code: &str) -> usize {
        check(&Sources::of(&[("core/src/a.rs", code)])).unwrap().len()
    }

    #[test]
    fn clocks_chance_and_input_are_found() {
        let forbidden = [
            "use std::fs;",
            "use std::{collections::HashMap, net::TcpStream};",
            "use std::{\n    sync::Arc,\n    time::{Duration, Instant},\n};",
            "use std::time::*;",
            "use std::*;",
            "use rand::Rng as _;",
            "fn f() { std::thread::sleep(d) }",
            "fn f() -> u64 { ::std::time::SystemTime::now() }",
            "let x = std::io::stdin();",
        ];
        for code in forbidden {
            assert_eq!(count(code), 1, "{code}");
        }
    }

    #[test]
    fn what_is_pure_passes() {
        let pure = [
            "use std::{collections::HashMap, sync::Arc, time::Duration};",
            "use crate::time::Now;",
            "// unlike std::time::Instant\nlet text = \"std::fs::read\";",
            "use std::collections::hash_map::Entry;",
            "let randomised = my_rand::x();",
            "use super::*;",
        ];
        for code in pure {
            assert_eq!(count(code), 0, "{code}");
        }
    }

    #[test]
    fn other_packages_are_free() {
        assert!(check(&Sources::of(&[("node/src/a.rs", "use std::fs;")])).unwrap().is_empty());
    }
}
