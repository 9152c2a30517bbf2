//! `cargo xtask e2e`: AppSockets on a real Kubernetes.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use crate::{
    Consent,
    image::{self, Profile},
    needs, process, root,
};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// What is shown: all, smoke, quickstart, refused, changes, tenants, failures, upgrade, rollout, edges, plugin, rights,
    /// gitops, chart, scale, idle or deletion
    #[arg(default_value = "all")]
    what: String,
    /// The quickstart, and a few of the others with smaller figures
    #[arg(long)]
    smoke: bool,
    /// Images of the programs as tests build them, which are there sooner and run slower; the smoke test takes them
    #[arg(long)]
    debug: bool,
    /// Runs in the cluster of this context, which has to have the images; refused where AppSockets is already, or a
    /// namespace that the suite uses
    #[arg(long)]
    context: Option<String>,
    /// Further options of the suite; `-- --help` lists them
    #[arg(last = true)]
    more: Vec<String>,
}

/// Makes the images, has a Kubernetes run where one can, and shows what is promised there.
pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER, needs::BUILDAH, needs::GO], &options.consent)?;
    let kind = process::works("docker", &["info"])
        && process::works("kind", &["version"])
        && process::works("kubectl", &["version", "--client"]);
    if options.context.is_none() && !kind {
        needs::ensure(needs::KUBERNETES, &options.consent)?;
    }
    // What other tools conclude from what resources are told.
    process::run(&mut process::program("go", ["test", "-C", "e2e/kstatus", "./..."]))?;
    let images = root::target().join("images");
    let profile = if options.smoke || options.debug { Profile::Debug } else { Profile::Release };
    let [node, operator] = image::PROGRAMS;
    image::make(&images, profile, &[node, operator, image::LOAD])?;
    image::make_next(node, &images)?;
    let built = if profile == Profile::Debug { "debug" } else { "release" };
    // kubectl finds the plug-in there.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut suite = process::cargo(["run", "--quiet", "--package", "appsockets-e2e", "--"]);
    suite.env("PATH", format!("{}:{path}", root::target().join(built).display()));
    suite.arg(if options.smoke { "smoke" } else { &options.what });
    suite.arg("--images").arg(&images).arg("--cache").arg(cache()?);
    if let Some(context) = &options.context {
        suite.args(["--context", context]);
    }
    process::run(suite.args(&options.more))
}

/// Outside the checkout, because the programs take a quarter of an hour to build and change once in a year.
fn cache() -> Result<PathBuf> {
    let caches = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let caches = caches.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    Ok(caches.context("neither XDG_CACHE_HOME nor HOME is set")?.join("appsockets/kubernetes"))
}
