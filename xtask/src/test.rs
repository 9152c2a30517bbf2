//! `cargo xtask test`: everything that can be tested on one machine.

use std::fs;

use anyhow::Result;
use clap::Args;

use crate::{Consent, needs, process, root, rules, sim, tools};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Run only the tests whose name holds one of these
    filter: Vec<String>,
}

/// The documentation's tests come first, so that the last line printed is the summary of the whole suite.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(needs::TESTS, &options.consent)?;
    tools::foreign_clients()?;
    let mut nextest = tools::cargo_tool(&tools::NEXTEST)?;
    if options.filter.is_empty() && has_doctests()? {
        process::run(&mut process::cargo(["test", "--workspace", "--doc", "--quiet"]))?;
    }
    if options.filter.is_empty() {
        sim::broken()?;
    }
    process::run(nextest.args(["run", "--workspace"]).args(&options.filter))
}

/// Whether any library's documentation holds a block of code. Without one Cargo would end with "0 passed".
fn has_doctests() -> Result<bool> {
    let mut sources = rules::tracked_files()?;
    sources.retain(|path| path.ends_with(".rs") && !path.contains("/tests/"));
    for path in sources {
        if holds_doctest(&fs::read_to_string(root::root().join(path))?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Blocks that name another language, such as `text`, are not run.
fn holds_doctest(source: &str) -> bool {
    let mut inside = false;
    for line in source.lines().map(str::trim_start) {
        let Some(text) = line.strip_prefix("///").or_else(|| line.strip_prefix("//!")) else { continue };
        let Some(language) = text.trim_start().strip_prefix("```") else { continue };
        if !inside && matches!(language, "" | "rust" | "no_run" | "should_panic" | "compile_fail") {
            return true;
        }
        inside = !inside;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::holds_doctest;

    #[test]
    fn blocks_of_rust_are_tests_and_others_are_not() {
        assert!(holds_doctest("/// Adds.\n///\n/// ```\n/// assert!(true);\n/// ```\nfn add() {}"));
        assert!(holds_doctest("//! ```text\n//! a\n//! ```\n//! ```no_run\n//! f();\n//! ```"));
        assert!(!holds_doctest("//! ```text\n//! a -> b\n//! ```\nlet a = \"```\";"));
    }
}
