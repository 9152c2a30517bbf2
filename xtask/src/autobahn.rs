//! `cargo xtask autobahn`: the WebSocket framing, judged by the Autobahn suite's fuzzing client.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde_json::{Value, json};

use crate::{dev, process, root, tools};

#[derive(Args)]
pub struct Options {
    /// Only these cases, separated by commas: `1.*,5.3`
    #[arg(long, value_delimiter = ',', default_value = "*")]
    cases: Vec<String>,
    /// Judge an echo server that runs already, at this ws:// address
    #[arg(long)]
    server: Option<String>,
}

/// Compression is not offered, so its cases have nothing to judge.
const EXCLUDED: [&str; 2] = ["12.*", "13.*"];

/// The suite is of 2018 and runs on Python 2.7 only. These are the releases that it was seen to work with.
const PACKAGES: &str = include_str!("../autobahn.txt");

/// The last releases of virtualenv that make environments for Python 2.7.
const VIRTUALENV: &str = "virtualenv<20.22";

const START_DEADLINE: Duration = Duration::from_secs(20);

/// The longest single case (9.*, megabytes in small pieces) stays well below this.
const SILENCE_MAX: Duration = Duration::from_secs(150);

pub fn run(options: &Options) -> Result<()> {
    let wstest = install()?;
    let report = root::target().join("autobahn");
    match &options.server {
        Some(url) => judge(&wstest, &report, url, &options.cases),
        None => {
            let address = dev::address(9001)?;
            let _echo = start_echo(address)?;
            judge(&wstest, &report, &format!("ws://{address}"), &options.cases)
        }
    }
}

/// The suite's program, in an environment of its own.
fn install() -> Result<PathBuf> {
    let folder = root::tools().join("autobahn");
    tools::unless_stamped(&folder, PACKAGES, || {
        let python =
            python2().context("Python 2.7 is missing, which the suite needs: `pyenv install 2.7.18` brings it")?;
        let virtualenv = tools::venv("virtualenv", &[VIRTUALENV])?.join("bin/python");
        let make = ["-m", "virtualenv", "--quiet", "--clear", "--python"];
        process::run(process::program(virtualenv, make).arg(python).arg(&folder))?;
        process::run(process::program(folder.join("bin/python"), tools::PIP_INSTALL).args(PACKAGES.lines()))
    })?;
    Ok(folder.join("bin/wstest"))
}

/// Python 2.7 on the PATH, else one of pyenv's.
fn python2() -> Option<PathBuf> {
    let pyenv = process::output(&mut process::program("pyenv", ["root"])).ok();
    let versions = pyenv.and_then(|root| fs::read_dir(Path::new(root.trim()).join("versions")).ok());
    let of_pyenv = versions.into_iter().flatten().flatten().map(|version| version.path().join("bin/python2.7"));
    let is_python2 =
        |path: &PathBuf| process::works(path, &["-c", "import sys; assert sys.version_info[:2] == (2, 7)"]);
    std::iter::once(PathBuf::from("python2.7")).chain(of_pyenv).find(is_python2)
}

/// The node's WebSocket edge with an echo behind it.
fn start_echo(address: SocketAddr) -> Result<process::Background> {
    let example = ["--release", "--package", "appsockets-node", "--example", "echo"];
    process::run(process::cargo(["build"]).args(example))?;
    let program = root::target().join("release/examples/echo");
    let mut command = process::program(&program, ["--listen", &address.to_string(), "--admin", "127.0.0.1:0"]);
    let child = command.spawn().with_context(|| format!("could not start {}", program.display()))?;
    let mut echo = process::Background(child);
    let deadline = Instant::now() + START_DEADLINE;
    while TcpStream::connect(address).is_err() {
        if let Some(status) = echo.0.try_wait()? {
            bail!("the echo server ended before it served: {status}");
        }
        if Instant::now() > deadline {
            bail!("the echo server does not serve at {address}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(echo)
}

fn judge(wstest: &Path, report: &Path, url: &str, cases: &[String]) -> Result<()> {
    // A report of an earlier run must not speak for this one.
    if report.exists() {
        fs::remove_dir_all(report).with_context(|| format!("could not clear {}", report.display()))?;
    }
    fs::create_dir_all(report).with_context(|| format!("could not make {}", report.display()))?;
    let spec = report.join("spec.json");
    fs::write(&spec, specification(report, url, cases).to_string())?;
    run_suite(process::program(wstest, ["--mode", "fuzzingclient", "--spec"]).arg(&spec))?;

    let index = fs::read_to_string(report.join("index.json")).context("the suite wrote no index.json")?;
    let verdict = Verdict::read(&serde_json::from_str(&index)?)?;
    eprintln!("autobahn: {} cases, {} failed; see {}", verdict.cases, verdict.failed.len(), report.display());
    match verdict.failed.is_empty() {
        true => Ok(()),
        false => bail!("failed cases:\n  {}", verdict.failed.join("\n  ")),
    }
}

/// The suite waits for ever for a server that fell silent, and also where no case has the given name.
fn run_suite(wstest: &mut Command) -> Result<()> {
    let mut child = wstest.env("PYTHONUNBUFFERED", "1").stdout(Stdio::piped()).spawn().context("could not start it")?;
    let stdout = child.stdout.take().context("the suite has no output")?;
    let mut suite = process::Background(child);
    let (said, heard) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        BufReader::new(stdout).lines().map_while(Result::ok).try_for_each(|line| said.send(line))
    });
    loop {
        match heard.recv_timeout(SILENCE_MAX) {
            Ok(line) => println!("{line}"),
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the suite came to a stop: are there cases of this name, and does the server still answer?")
            }
        }
    }
    let status = suite.0.wait()?;
    if !status.success() {
        bail!("the suite failed: {status}");
    }
    Ok(())
}

fn specification(report: &Path, url: &str, cases: &[String]) -> Value {
    json!({
        "outdir": report,
        "servers": [{ "agent": "AppSockets", "url": url }],
        "cases": cases,
        "exclude-cases": EXCLUDED,
        "exclude-agent-cases": {},
    })
}

/// What the suite found.
#[derive(Debug, PartialEq)]
struct Verdict {
    cases: usize,
    failed: Vec<String>,
}

impl Verdict {
    /// Reads the suite's index: agent, then case, then how the server behaved and how it closed.
    fn read(index: &Value) -> Result<Verdict> {
        let agents = index.as_object().context("index.json holds no agents")?;
        let results: Vec<_> = agents.values().filter_map(Value::as_object).flatten().collect();
        if results.is_empty() {
            bail!("no case was run: are there cases of this name?");
        }
        let failed = results.iter().filter_map(|(case, result)| fault(case, result)).collect();
        Ok(Verdict { cases: results.len(), failed })
    }
}

fn fault(case: &str, result: &Value) -> Option<String> {
    let of = |key| result.get(key).and_then(Value::as_str).unwrap_or("absent");
    let (behavior, close) = (of("behavior"), of("behaviorClose"));
    let is_good = |word| matches!(word, "OK" | "NON-STRICT" | "INFORMATIONAL");
    (!is_good(behavior) || !is_good(close)).then(|| format!("{case}: {behavior}, close {close}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Verdict;

    #[test]
    fn every_bad_word_of_the_index_fails() {
        let index = json!({"AppSockets": {
            "1.1.1": {"behavior": "OK", "behaviorClose": "OK"},
            "7.1.6": {"behavior": "INFORMATIONAL", "behaviorClose": "INFORMATIONAL"},
            "6.4.1": {"behavior": "NON-STRICT", "behaviorClose": "OK"},
            "2.1": {"behavior": "FAILED", "behaviorClose": "OK"},
            "2.2": {"behavior": "OK", "behaviorClose": "UNCLEAN"},
            "2.3": {},
        }});
        let verdict = Verdict::read(&index).unwrap();
        assert_eq!(verdict.cases, 6);
        assert_eq!(verdict.failed, ["2.1: FAILED, close OK", "2.2: OK, close UNCLEAN", "2.3: absent, close absent"]);
    }

    #[test]
    fn a_run_without_cases_is_no_success() {
        assert!(Verdict::read(&json!({"AppSockets": {}})).is_err());
        assert!(Verdict::read(&json!({})).is_err());
    }
}
