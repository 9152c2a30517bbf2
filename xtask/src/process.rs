//! Running other programs.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, bail};

use crate::root;

/// Cargo, in the workspace's folder.
pub fn cargo<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    program(cargo, arguments)
}

/// Any program, in the workspace's folder.
pub fn program<S: AsRef<OsStr>>(name: impl AsRef<OsStr>, arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(name);
    command.args(arguments).current_dir(root::root());
    command
}

/// Says what is run, runs it, and fails if it does.
pub fn run(command: &mut Command) -> Result<()> {
    let line = shown(command);
    eprintln!("$ {line}");
    let status = command.status().with_context(|| format!("could not start: {line}"))?;
    if !status.success() {
        bail!("failed ({status}): {line}");
    }
    Ok(())
}

/// What the program prints, or an error that holds what it complained of.
pub fn output(command: &mut Command) -> Result<String> {
    let line = shown(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("could not start: {line}"))?;
    if !output.status.success() {
        bail!("failed ({}): {line}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    String::from_utf8(output.stdout).with_context(|| format!("not UTF-8: the output of {line}"))
}

/// Whether the program exists and ends well.
pub fn works(name: impl AsRef<OsStr>, arguments: &[&str]) -> bool {
    let mut command = program(name, arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// A program that is ended with its owner.
pub struct Background(pub Child);

impl Drop for Background {
    fn drop(&mut self) {
        // It may have ended by itself, and then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The command as one would type it in the workspace's folder.
fn shown(command: &Command) -> String {
    let root = root::root();
    let short = |text: &OsStr| Path::new(text).strip_prefix(&root).unwrap_or(Path::new(text)).display().to_string();
    let program = Path::new(command.get_program());
    let program = if program.starts_with(&root) { None } else { program.file_name() };
    let program = short(program.unwrap_or(command.get_program()));
    std::iter::once(program).chain(command.get_args().map(short)).collect::<Vec<_>>().join(" ")
}
