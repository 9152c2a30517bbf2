//! `cargo xtask schemathesis`: the administration of a node, asked everything that its own description allows, and much
//! that it does not.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::Stdio,
};

use anyhow::{Context, Result};
use clap::Args;

use crate::{Consent, dev, needs, process, root, tools};

/// What it was seen to work with. Its report names cases by their seed, which holds for one release only.
const PACKAGE: &str = "schemathesis==4.32.5";

/// What is not asked, and why.
const CONFIG: &str = "xtask/schemathesis.toml";

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    consent: Consent,
    /// Cases of each operation in each phase, at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    cases: u32,
    /// The same cases as another run with this seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

pub fn run(options: &Options) -> Result<()> {
    needs::ensure(&[needs::C_COMPILER, needs::PYTHON], &options.consent)?;
    let suite = tools::venv("schemathesis", &[PACKAGE])?.join("bin/st");
    process::run(&mut process::cargo(["build", "--package", "appsockets-node", "--bin", "appsockets-node"]))?;
    let folder = root::target().join("schemathesis");
    // What an earlier run has left would make this one another one.
    if folder.exists() {
        fs::remove_dir_all(&folder).with_context(|| format!("could not clear {}", folder.display()))?;
    }
    fs::create_dir_all(&folder).with_context(|| format!("could not make {}", folder.display()))?;
    let admin = dev::address(9002)?;
    let _node = start(&folder, admin)?;
    let token = fs::read_to_string(folder.join("admin.token")).context("the node has made no admin token")?;
    let mut suite = process::program(suite, ["--config-file"]);
    suite.arg(root::root().join(CONFIG)).env("APPSOCKETS_ADMIN_TOKEN", token.trim());
    // It leaves its notes where it runs.
    process::run(suite.args(arguments(admin, options)).current_dir(&folder))
}

/// A node that serves when this returns, with nothing in it.
fn start(data: &Path, admin: SocketAddr) -> Result<process::Background> {
    let program = root::target().join("debug/appsockets-node");
    let mut command = process::program(&program, ["--listen", "127.0.0.1:0", "--data"]);
    command
        .arg(data)
        .args(["--admin", &admin.to_string()])
        .env("APPSOCKETS_DEBUG__LEVEL", "error")
        .stdout(Stdio::piped());
    let child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
    let mut node = process::Background(child);
    let stdout = node.0.stdout.take().context("the node has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    anyhow::ensure!(line.starts_with("listening"), "the node ended before it served");
    Ok(node)
}

fn arguments(admin: SocketAddr, options: &Options) -> Vec<String> {
    let (cases, seed) = (options.cases.to_string(), options.seed.to_string());
    let url = format!("http://{admin}/openapi.json");
    let arguments = ["run", &url, "--continue-on-failure", "--max-examples", &cases, "--seed", &seed];
    arguments.into_iter().map(str::to_owned).collect()
}
