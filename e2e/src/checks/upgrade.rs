//! What clients notice of pods that are replaced, added and removed, and of machines that are emptied.

use std::time::{Duration, Instant};

use anyhow::Context;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use crate::{
    forward::{Admin, Forward},
    kubernetes::{Kubernetes, SHOP, SYSTEM, until},
};

const CLUSTER: &str = "appsocketscluster/main";
/// The fullest node may have so many times the mean in the end.
const EVEN: f64 = 1.15;
/// A client that moves more often moves for nothing.
const MOVES_MAX: f64 = 1.5;

pub async fn run(kubernetes: &Kubernetes<'_>, sessions: usize) -> anyhow::Result<()> {
    let load = Load::begin(kubernetes, sessions).await?;
    let mut shows = Shows { kubernetes, load, sessions, most: Vec::new() };
    println!("upgrade: sessions before: {:?}", shows.each().await?);
    let config = |limit: u32| format!(r#"{{"config":{{"session.rateLimit":"{limit}"}}}}"#);
    shows.show("other pods", || patch(kubernetes, &config(501))).await?;
    shows.show("3 to 5 nodes", || patch(kubernetes, r#"{"replicas":5}"#)).await?;
    shows.show("5 to 2 nodes", || patch(kubernetes, r#"{"replicas":2}"#)).await?;
    shows.show("2 to 3 nodes", || patch(kubernetes, r#"{"replicas":3}"#)).await?;
    let machine = machine_of_a_node(kubernetes).await?;
    shows.show("a machine is drained", || drain(kubernetes, &machine)).await?;
    kubernetes.kubectl(&["uncordon", &machine])?;
    let deployment = "deployment/appsockets-operator";
    kubernetes.kubectl(&["-n", SYSTEM, "scale", deployment, "--replicas=0"])?;
    kubernetes.kubectl(&["-n", SYSTEM, "wait", "--for=delete", "pods", "--all", "--timeout=60s"])?;
    let plainly = shows.plainly().await;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", deployment, "--replicas=2"])?;
    plainly?;
    shows.end().await
}

fn patch(kubernetes: &Kubernetes<'_>, spec: &str) -> anyhow::Result<()> {
    let patch = format!(r#"{{"spec":{spec}}}"#);
    kubernetes.kubectl(&["-n", SHOP, "patch", CLUSTER, "--type=merge", "-p", &patch]).map(drop)
}

async fn machine_of_a_node(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    let pods = kubernetes.node_pods(SHOP).await?;
    let pod = pods.first().context("there is no node")?;
    pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("a pod runs nowhere")
}

/// As who looks after a machine does, but that other pods stay.
fn drain(kubernetes: &Kubernetes<'_>, machine: &str) -> anyhow::Result<()> {
    let selector = "--pod-selector=appsockets.io/cluster=main";
    kubernetes
        .kubectl(&["drain", machine, "--ignore-daemonsets", "--delete-emptydir-data", selector, "--timeout=120s"])
        .map(drop)
}

/// The load, in a pod of its own: what it connects to is reached from inside alone.
struct Load {
    forward: Forward,
}

impl Load {
    async fn begin(kubernetes: &Kubernetes<'_>, sessions: usize) -> anyhow::Result<Load> {
        let of_hub = |kind: &str, name: &str, spec: Value| {
            json!({
                "apiVersion": "appsockets.io/v1alpha1", "kind": kind, "spec": spec,
                "metadata": {"name": name, "namespace": SHOP},
            })
        };
        let limits = json!({"sessionMessagesPerSecond": 1_000_000});
        let hub = json!({
            "clusterRef": {"name": "main"}, "defaultPublic": true, "allowAnonymous": true, "defaultRulesRef": {"name": "load"},
            "limits": limits,
        });
        let rules = json!({
            "hubRef": {"name": "load"}, "public": true, "allowAnonymous": true, "clientPublish": true, "presence": true,
        });
        kubernetes.apply_value(&of_hub("ChannelRules", "load", rules))?;
        kubernetes.apply_value(&of_hub("Hub", "load", hub))?;
        kubernetes.wait_ready(SHOP, "hub/load", 30)?;
        let arguments = ["load", "--url", "ws://main:80", "--hub", "load", "--subscribers", &sessions.to_string()]
            .map(str::to_owned);
        let restricted = json!({
            "runAsNonRoot": true, "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        });
        let container = json!({
            "name": "load", "image": format!("localhost/appsockets-bench:{}", env!("CARGO_PKG_VERSION")),
            "args": arguments, "securityContext": restricted,
        });
        kubernetes.apply_value(&json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "load", "namespace": SHOP},
            "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]},
        }))?;
        let there = until("all sessions are there", 180, async || {
            let log = kubernetes.kubectl(&["-n", SHOP, "logs", "load"]).unwrap_or_else(|error| error.to_string());
            Ok(if log.contains("sessions are there") { Ok(()) } else { Err(log) })
        });
        there.await?;
        Ok(Load { forward: Forward::to(kubernetes, SHOP, "load", 9000).await? })
    }

    async fn ask(&self, what: &str) -> anyhow::Result<Value> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.forward.port)).await?;
        stream.write_all(format!("{what}\n").as_bytes()).await?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line).await?;
        serde_json::from_str(&line).with_context(|| format!("the load says {line:?}"))
    }

    /// How often clients have connected again, and how often others saw one leave that had not left.
    async fn moves(&self) -> anyhow::Result<(u64, u64)> {
        let figures = self.ask("figures").await?;
        let moves = figures["reconnects"].as_u64().zip(figures["leaves"].as_u64());
        moves.with_context(|| format!("the load does not tell how often clients moved: {figures}"))
    }
}

/// What happens to clients while something happens to nodes.
struct Shows<'a> {
    kubernetes: &'a Kubernetes<'a>,
    load: Load,
    sessions: usize,
    /// What is more than it may be.
    most: Vec<String>,
}

impl Shows<'_> {
    /// Does something to the cluster, waits until that is over and sessions are even, and tells what clients noticed.
    async fn show(&mut self, what: &str, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let (before, began) = (self.load.moves().await?, Instant::now());
        act()?;
        self.kubernetes.wait_ready(SHOP, CLUSTER, 600)?;
        let ready = began.elapsed();
        self.all_back().await?;
        let even = until("sessions are even", 90, async || {
            let each = self.each().await?;
            Ok(if fullest(&each) <= EVEN { Ok(()) } else { Err(format!("{each:?}")) })
        });
        let even = even.await;
        if self.tell(what, before, ready).await? > MOVES_MAX {
            self.most.push(what.to_owned());
        }
        even.map(drop)
    }

    async fn tell(&self, what: &str, before: (u64, u64), ready: Duration) -> anyhow::Result<f64> {
        let ((reconnects, leaves), each) = (self.load.moves().await?, self.each().await?);
        let (of_each, leaves) = ((reconnects - before.0) as f64 / self.sessions as f64, leaves - before.1);
        println!(
            "upgrade: {what}: over after {:.1} s, {of_each:.2} reconnects for each client, {leaves} false leaves, sessions \
             {each:?}, fullest {:.2} times the mean",
            ready.as_secs_f64(),
            fullest(&each)
        );
        Ok(of_each)
    }

    /// As a StatefulSet does it alone: one pod after the other, wherever its clients go.
    async fn plainly(&self) -> anyhow::Result<()> {
        let (before, began) = (self.load.moves().await?, Instant::now());
        for pod in self.kubernetes.node_pods(SHOP).await? {
            let pod = format!("pod/{}", pod.name_any());
            self.kubernetes.kubectl(&["-n", SHOP, "delete", &pod])?;
            let ready = until("the pod is ready again", 60, async || {
                let wait = ["-n", SHOP, "wait", "--for=condition=Ready", "--timeout=10s", &*pod];
                Ok(self.kubernetes.kubectl(&wait).map(drop).map_err(|error| error.to_string()))
            });
            ready.await?;
        }
        let took = began.elapsed();
        self.all_back().await?;
        self.tell("for comparison, one pod after the other without an operator", before, took).await.map(drop)
    }

    async fn all_back(&self) -> anyhow::Result<()> {
        let back = until("all sessions are back", 90, async || {
            let each = self.each().await?;
            Ok(if each.iter().sum::<u64>() as usize >= self.sessions { Ok(()) } else { Err(format!("{each:?}")) })
        });
        back.await.map(drop)
    }

    /// How many sessions each node has.
    async fn each(&self) -> anyhow::Result<Vec<u64>> {
        let token = self.kubernetes.admin_token(SHOP, "main").await?;
        let mut each = Vec::new();
        for pod in self.kubernetes.node_pods(SHOP).await? {
            let node = Admin::of(self.kubernetes, SHOP, &pod.name_any(), &token).await?;
            let said = node.get("/v1/stop").await?.context("a node does not say how many sessions it has")?;
            each.push(said["sessions"].as_u64().unwrap_or(0));
        }
        Ok(each)
    }

    async fn end(self) -> anyhow::Result<()> {
        let told = self.load.ask("end").await?;
        println!("upgrade: {told}");
        self.kubernetes.kubectl(&["-n", SHOP, "delete", "pod/load", "hub/load", "channelrules/load"])?;
        for wrong in ["lost", "doubled", "reordered", "told", "epochsEnded", "ended", "refused"] {
            anyhow::ensure!(told[wrong] == 0, "{wrong}: {}", told[wrong]);
        }
        anyhow::ensure!(self.most.is_empty(), "clients moved more often than they must: {}", self.most.join(", "));
        Ok(())
    }
}

/// The fullest, as times of the mean.
fn fullest(each: &[u64]) -> f64 {
    let most = each.iter().copied().max().unwrap_or(0);
    most as f64 * each.len() as f64 / each.iter().sum::<u64>().max(1) as f64
}
