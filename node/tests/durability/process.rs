//! A node in a process of its own, which can be killed, and HTTP with it.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Mutex,
    time::Duration,
};

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, body::Bytes, header::CONTENT_TYPE};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;

/// For anything that a node that works does in a moment.
const DEADLINE: Duration = Duration::from_secs(20);

/// A node with the demonstration hub, killed at the latest with its owner.
pub struct Process {
    /// Gone once it was killed.
    child: Mutex<Option<Child>>,
    client: Client<HttpConnector, Full<Bytes>>,
    url: String,
}

impl Process {
    /// Starts a node on a folder, and waits until it serves.
    pub async fn start(data: &Path) -> Process {
        let mut child = Command::new(env!("CARGO_BIN_EXE_appsockets-node"))
            .arg("--data")
            .arg(data)
            .args(["--hubs", concat!(env!("CARGO_MANIFEST_DIR"), "/demo/hubs.yaml"), "--listen", "127.0.0.1:0"])
            .env("APPSOCKETS_DEBUG__LEVEL", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        // Owned from here on, so that a failure to start leaves no process behind.
        let client = Client::builder(TokioExecutor::new()).build_http();
        let mut process = Process { child: Mutex::new(Some(child)), client, url: String::new() };
        let line = tokio::task::spawn_blocking(|| first_line(stdout));
        let line = tokio::time::timeout(DEADLINE, line).await.expect("the node did not start in time").unwrap();
        process.url = line.strip_prefix("listening on ").expect("the node ended before it served").trim().to_owned();
        process
    }

    /// SIGKILL. Of those who call it at the same time, one kills and the others wait until it is done.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Whether [`Process::kill`] was called: what fails from then on, fails for that.
    pub fn was_killed(&self) -> bool {
        self.child.lock().unwrap().is_none()
    }

    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.send(Method::GET, path, String::new()).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.send(Method::POST, path, body.to_string()).await
    }

    /// Fails unless the whole answer has come, and is one of success.
    async fn send(&self, method: Method, path: &str, body: String) -> anyhow::Result<Value> {
        let request = Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.url))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::from(body))?;
        let answer = async {
            let response = self.client.request(request).await?;
            let status = response.status();
            anyhow::Ok((status, response.into_body().collect().await?.to_bytes()))
        };
        let (status, body) = tokio::time::timeout(DEADLINE, answer).await.context("no answer in time")??;
        if !status.is_success() {
            bail!("{status}: {}", body.escape_ascii());
        }
        Ok(serde_json::from_slice(&body)?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn first_line(stdout: ChildStdout) -> String {
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).unwrap();
    line
}
