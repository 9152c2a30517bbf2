//! Commands as a reader types them.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};

/// For anything that a node that works does in a moment.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// A shell that finds the tool by its name.
pub fn shell(script: &str) -> Command {
    let tools = Path::new(env!("CARGO_BIN_EXE_appsockets")).parent().unwrap();
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let mut shell = Command::new("sh");
    shell.args(["-ec", script]).env("PATH", path).stdin(Stdio::null());
    shell
}

/// What it prints, if it succeeds.
#[track_caller]
pub fn printed(shell: &mut Command) -> String {
    let output = shell.output().unwrap();
    assert!(output.status.success(), "{shell:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A command that goes on to print lines, ended with its owner.
pub struct Stream {
    child: Child,
    lines: Receiver<String>,
}

impl Stream {
    /// The shell becomes the command, so that ending the one ends the other.
    pub fn start(command: &str, variables: &[(&str, String)]) -> Stream {
        let mut shell = shell(&format!("exec {command}"));
        shell.envs(variables.iter().map(|(name, value)| (name, value)));
        let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Stream { child, lines }
    }

    /// Passes over lines until one holds this.
    pub fn wait_for(&self, part: &str) -> String {
        let deadline = Instant::now() + DEADLINE;
        loop {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) if line.contains(part) => return line,
                Ok(_) => {}
                Err(error) => panic!("is the program there? It printed no line with {part}: {error}"),
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
