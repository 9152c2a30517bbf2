//! `cargo xtask lint`: what can be judged without running the product.

use anyhow::{Result, bail};
use clap::Args;

use crate::{Consent, needs, process, rules, tools};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
}

type Check = fn() -> Result<()>;

const CHECKS: [(&str, Check); 5] = [
    ("house rules", rules::check),
    ("format", format),
    ("alerts", alerts),
    ("clippy", clippy),
    ("dependencies", dependencies),
];

/// Goes through all checks, also after one has failed, so that one run shows everything there is to do.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER, needs::PYTHON, needs::PROMTOOL], &options.consent)?;
    let mut failed = Vec::new();
    for (name, check) in CHECKS {
        if let Err(error) = check() {
            eprintln!("{name}: {error:#}\n");
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("lint failed: {}", failed.join(", "));
    }
    eprintln!("lint: all is well");
    Ok(())
}

fn format() -> Result<()> {
    process::run(&mut process::cargo(["fmt", "--all", "--check"]))
}

/// That Prometheus takes them, and that they go off when they must.
fn alerts() -> Result<()> {
    process::run(&mut process::program("promtool", ["check", "rules", "charts/appsockets/files/alerts.yaml"]))?;
    process::run(&mut process::program("promtool", ["test", "rules", "deploy/alerts.test.yaml"]))
}

fn clippy() -> Result<()> {
    process::run(&mut process::cargo(["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))
}

/// Licences, sources and second versions, by `deny.toml`. Not advisories: those change without a change of ours.
fn dependencies() -> Result<()> {
    let mut deny = tools::cargo_tool(&tools::DENY)?;
    process::run(deny.args(["--log-level", "error", "check", "bans", "licenses", "sources"]))
}
