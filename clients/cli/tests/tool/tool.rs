//! The tool as a process.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, Receiver},
    thread,
    time::Duration,
};

use super::server::Server;

/// No test waits longer than this for anything. It only ends those that would wait for ever.
const PATIENCE: Duration = Duration::from_secs(30);

/// How a run has ended, and what it said.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Ran {
    #[track_caller]
    pub fn is_done(&self) -> &str {
        assert_eq!((self.code, &*self.err), (0, ""), "{}", self.out);
        self.out.trim_end()
    }

    #[track_caller]
    pub fn is_fault(&self, code: i32, says: &str) {
        assert!(self.code == code && self.err.contains(says), "{self:?}");
    }
}

/// With nothing but what it is given.
pub fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_appsockets"));
    command.env_clear().args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn ran(command: &mut Command) -> Ran {
    finished(command.spawn().unwrap())
}

fn finished(child: Child) -> Ran {
    let id = child.id();
    let (said, heard) = mpsc::channel();
    thread::spawn(move || said.send(child.wait_with_output()));
    let Ok(output) = heard.recv_timeout(PATIENCE) else {
        signal("TERM", id);
        panic!("it does not end");
    };
    let (output, text) = (output.unwrap(), |bytes| String::from_utf8(bytes).unwrap());
    Ran { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
}

impl Server {
    /// The tool, told about this node by its environment.
    pub fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = command(arguments);
        command.env("APPSOCKETS_URL", format!("ws://{}", self.address)).env("APPSOCKETS_HUB", "shop");
        command.env("APPSOCKETS_ADMIN_URL", format!("http://{}", self.admin));
        command.env("APPSOCKETS_ADMIN_TOKEN", &self.token);
        command
    }

    pub fn run(&self, arguments: &[&str]) -> Ran {
        ran(&mut self.tool(arguments))
    }

    /// With this on its standard input.
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Ran {
        let mut child = self.tool(arguments).stdin(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(input).unwrap();
        finished(child)
    }

    /// One that goes on.
    pub fn follow(&self, arguments: &[&str]) -> Running {
        let mut child = self.tool(arguments).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (said, lines) = mpsc::channel();
        thread::spawn(move || output.lines().map_while(Result::ok).try_for_each(|line| said.send(line)));
        Running { child, lines }
    }
}

/// Every shell can do this by itself.
fn signal(name: &str, process: u32) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {process}")]).status();
    assert!(status.unwrap().success(), "{process} does not run");
}

/// A tool that runs. Killed when dropped.
pub struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    pub fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("a line comes")
    }

    /// The next line that holds this.
    pub fn line_with(&self, part: &str) -> String {
        loop {
            let line = self.line();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// Asks it to end, as Ctrl-C does.
    pub fn interrupt(&mut self) -> ExitStatus {
        signal("INT", self.child.id());
        self.child.wait().unwrap()
    }

    pub fn ended(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It fails only where the process has ended.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
