//! Ways to a port of a pod, which lead there from wherever the suite runs.

use std::process::Stdio;

use anyhow::{Context, bail};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, body::Bytes};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Child,
};

use crate::kubernetes::Kubernetes;

/// A port of this machine that leads to one of a pod, until it is dropped.
pub struct Forward {
    pub port: u16,
    _kubectl: Child,
}

impl Forward {
    pub async fn to(kubernetes: &Kubernetes<'_>, namespace: &str, pod: &str, port: u16) -> anyhow::Result<Forward> {
        let mut command = tokio::process::Command::from(kubernetes.place.kubectl());
        command.args(["-n", namespace, "port-forward", &format!("pod/{pod}"), &format!(":{port}")]);
        let mut kubectl = command.stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true).spawn()?;
        let mut lines = BufReader::new(kubectl.stdout.take().context("kubectl has an output")?).lines();
        while let Some(line) = lines.next_line().await? {
            let port = line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
            if let Some(port) = port {
                let port = port.parse()?;
                // It says a line for each connection, which somebody has to take.
                tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
                return Ok(Forward { port, _kubectl: kubectl });
            }
        }
        bail!("kubectl forwards no port of {pod}")
    }
}

/// The administration of one node.
pub struct Admin {
    forward: Forward,
    token: String,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Admin {
    pub async fn of(kubernetes: &Kubernetes<'_>, namespace: &str, pod: &str, token: &str) -> anyhow::Result<Admin> {
        let forward = Forward::to(kubernetes, namespace, pod, 8081).await?;
        // A connection for each request: one that was kept may be closed just when it is used again.
        let client = Client::builder(TokioExecutor::new()).pool_max_idle_per_host(0).build_http();
        Ok(Admin { forward, token: token.to_owned(), client })
    }

    /// What is found at a path; None: there is nothing.
    pub async fn get(&self, path: &str) -> anyhow::Result<Option<Value>> {
        self.ask(Method::GET, path).await
    }

    pub async fn ask(&self, method: Method, path: &str) -> anyhow::Result<Option<Value>> {
        let (status, body) = self.call(method, path).await?;
        match status {
            StatusCode::NOT_FOUND => Ok(None),
            status if status.is_success() => Ok(Some(serde_json::from_slice(&body).unwrap_or_default())),
            status => bail!("{path}: {status}: {}", String::from_utf8_lossy(&body)),
        }
    }

    async fn call(&self, method: Method, path: &str) -> anyhow::Result<(StatusCode, Bytes)> {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.forward.port))
            .header("authorization", format!("Bearer {}", self.token))
            .body(Full::default())?;
        let response = self.client.request(request).await.with_context(|| format!("{path} can't be asked for"))?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }
}
