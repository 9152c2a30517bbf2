//! The house rules as a program, one rule a file. Each gives its findings, one sentence each; none means all is well.

use anyhow::{Result, bail};

mod architecture;
mod core_dependencies;
mod core_purity;
mod exceptions;
mod file_size;
mod function_size;
mod generated;
mod machine_paths;
mod rust;
mod sources;
mod unfinished;

use sources::Sources;
pub use sources::tracked_files;

type Rule = fn(&Sources) -> Result<Vec<String>>;

const RULES: &[(&str, Rule)] = &[
    ("architecture", architecture::check),
    ("core dependencies", core_dependencies::check),
    ("core purity", core_purity::check),
    ("file size", file_size::check),
    ("function size", function_size::check),
    ("generated", generated::check),
    ("machine paths", machine_paths::check),
    ("unfinished", unfinished::check),
];

/// Applies every rule, says all findings, and fails if there is one.
pub fn check() -> Result<()> {
    let sources = Sources::read()?;
    let mut count = 0;
    for (name, rule) in RULES {
        let findings = rule(&sources).unwrap_or_else(|error| vec![format!("{error:#}")]);
        count += findings.len();
        findings.iter().for_each(|finding| eprintln!("{name}: {finding}"));
    }
    match count {
        0 => Ok(()),
        _ => bail!("{count} findings"),
    }
}
