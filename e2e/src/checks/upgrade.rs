//! What clients notice of pods that are replaced, added and removed, and of machines that are emptied.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

use super::rollout::{CLUSTER, patch};
use crate::{
    forward::{Admin, Forward},
    kubernetes::{Kubernetes, SHOP, SYSTEM, is_ready, until},
};

/// The fullest node may have so many times the mean in the end.
const EVEN: f64 = 1.15;
/// A client that moves more often moves for nothing.
const MOVES_MAX: f64 = 1.5;
/// Sessions that are spread anew have come to rest when nobody has moved for so long.
const REST: Duration = Duration::from_secs(10);
const OPERATOR: &str = "deployment/appsockets-operator";

pub async fn run(kubernetes: &Kubernetes<'_>, sessions: usize) -> anyhow::Result<()> {
    let load = Load::begin(kubernetes, sessions).await?;
    let mut shows = Shows { kubernetes, load, sessions, before: json!({}), most: Vec::new() };
    shows.at_rest(3).await?;
    shows.tell("before", 3, Duration::ZERO).await?;
    let old = uids(&kubernetes.node_pods(SHOP).await?);
    shows.show("another image", 3, || patch(kubernetes, &other_pods(kubernetes)?)).await?;
    let new = uids(&kubernetes.node_pods(SHOP).await?);
    ensure!(new.is_disjoint(&old), "an old pod is still there, or none was replaced");
    shows.show("3 to 5 nodes", 5, || patch(kubernetes, r#"{"replicas":5}"#)).await?;
    shows.show("5 to 2 nodes", 2, || patch(kubernetes, r#"{"replicas":2}"#)).await?;
    shows.show("2 to 3 nodes", 3, || patch(kubernetes, r#"{"replicas":3}"#)).await?;
    shows.show("to 2 edge nodes", 2, || patch(kubernetes, r#"{"edges":{"replicas":2}}"#)).await?;
    // While core nodes are still meant to send sessions to edge nodes.
    shows.show("back at once", 3, || patch(kubernetes, r#"{"edges":null}"#)).await?;
    shows.show("to edge nodes again", 2, || patch(kubernetes, r#"{"edges":{"replicas":2}}"#)).await?;
    shows
        .show("other edge nodes", 2, || {
            patch(kubernetes, r#"{"edges":{"replicas":2,"resources":{"limits":{"memory":"2Gi"}}}}"#)
        })
        .await?;
    shows.show("back from edge nodes", 3, || patch(kubernetes, r#"{"edges":null}"#)).await?;
    let (machine, nodes) = machine_with_fewest(kubernetes).await?;
    let what = format!("a machine with {nodes} of 3 nodes is drained");
    let drained = shows.show(&what, 3, || drain(kubernetes, &machine)).await;
    kubernetes.kubectl(&["uncordon", &machine])?;
    drained?;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"])?;
    let plainly = shows.plainly().await;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"])?;
    plainly?;
    shows.end().await
}

/// The image under its other name. Where the suite brings no images, other configuration makes other pods as well.
fn other_pods(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    if kubernetes.place.is_shared() {
        return Ok(r#"{"config":{"session.rateLimit":"501"}}"#.to_owned());
    }
    let image = kubernetes.kubectl(&["-n", SHOP, "get", CLUSTER, "-o", "jsonpath={.spec.image}"])?;
    Ok(json!({"image": format!("{image}-next")}).to_string())
}

/// Which pods there are that are not going.
fn uids(pods: &[Pod]) -> BTreeSet<String> {
    let stay = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_none());
    stay.filter_map(ResourceExt::uid).collect()
}

/// The machine below a node with the fewest nodes, and how many: clients move with each that is evicted.
async fn machine_with_fewest(kubernetes: &Kubernetes<'_>) -> anyhow::Result<(String, usize)> {
    let mut machines = BTreeMap::new();
    for pod in kubernetes.node_pods(SHOP).await? {
        let machine = pod.spec.and_then(|spec| spec.node_name).context("a pod runs nowhere")?;
        *machines.entry(machine).or_default() += 1;
    }
    machines.into_iter().min_by_key(|(_, nodes)| *nodes).context("there is no node")
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
        // By its address: thousands who ask for it by name at a time are the cluster's name service to measure.
        let address = ["-n", SHOP, "get", "service", "main", "-o", "jsonpath={.spec.clusterIP}"];
        let url = format!("ws://{}:80", kubernetes.kubectl(&address)?.trim());
        let arguments =
            ["load", "--url", &url, "--hub", "load", "--subscribers", &sessions.to_string()].map(str::to_owned);
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

    /// How many clients there are, and how often they have connected again.
    async fn moves(&self) -> anyhow::Result<(u64, u64)> {
        let said = self.ask("moves").await?;
        let moves = said["clients"].as_u64().zip(said["reconnects"].as_u64());
        moves.with_context(|| format!("the load does not tell how often clients moved: {said}"))
    }
}

/// What happens to clients while something happens to nodes.
struct Shows<'a> {
    kubernetes: &'a Kubernetes<'a>,
    load: Load,
    sessions: usize,
    /// What the load had told at the end of what was shown last.
    before: Value,
    /// What is more than it may be.
    most: Vec<String>,
}

impl Shows<'_> {
    /// Does something to the cluster, waits until that is over and sessions are even, and tells what clients noticed.
    async fn show(&mut self, what: &str, nodes: usize, act: impl FnOnce() -> anyhow::Result<()>) -> anyhow::Result<()> {
        let began = Instant::now();
        act()?;
        self.kubernetes.wait_ready(SHOP, CLUSTER, 600)?;
        let ready = began.elapsed();
        let rest = self.at_rest(nodes).await;
        if self.tell(what, nodes, ready).await? > MOVES_MAX {
            self.most.push(what.to_owned());
        }
        rest.with_context(|| what.to_owned())
    }

    /// Waits until all clients are back and even, every node takes clients, and nobody moves any more: what moves later
    /// would count for what is shown next.
    async fn at_rest(&self, nodes: usize) -> anyhow::Result<()> {
        let (mut moves, mut since) = (None, Instant::now());
        let rest = until("clients come to rest", 180, async || {
            let ((clients, now), each) = (self.load.moves().await?, self.each().await?);
            if moves.replace(now) != Some(now) {
                since = Instant::now();
            }
            let taking = self.taking()?;
            let are_even = each.len() == nodes && each.iter().sum::<u64>() >= clients && fullest(&each) <= EVEN;
            let rests = are_even && taking == nodes && since.elapsed() >= REST;
            let seen = || format!("{each:?} of {clients} clients, {taking} of {nodes} nodes take clients");
            Ok(if rests { Ok(()) } else { Err(seen()) })
        });
        rest.await.map(drop)
    }

    /// How many nodes clients are led to.
    fn taking(&self) -> anyhow::Result<usize> {
        let slices = "kubernetes.io/service-name=main";
        let path = "jsonpath={range .items[*].endpoints[?(@.conditions.ready==true)]}{.targetRef.name}{\"\\n\"}{end}";
        let said = self.kubernetes.kubectl(&["-n", SHOP, "get", "endpointslices", "-l", slices, "-o", path])?;
        Ok(said.lines().filter(|line| !line.is_empty()).count())
    }

    /// Tells what clients have noticed since it was told last, and fails if they should not have.
    async fn tell(&mut self, what: &str, nodes: usize, ready: Duration) -> anyhow::Result<f64> {
        let (told, each) = (self.load.ask("settle").await?, self.each().await?);
        let since = |name: &str| told[name].as_i64().unwrap_or(0) - self.before[name].as_i64().unwrap_or(0);
        let of_each = since("reconnects") as f64 / self.sessions as f64;
        println!(
            "upgrade: {what}: over after {:.1} s; {of_each:.2} disconnects for each client (never, once, twice, more often: {}); \
             acknowledged {}, lost {}, doubled {}, out of order {}, false leaves {}, longest gap {} ms; clients {each:?}, \
             fullest {:.2} times the mean",
            ready.as_secs_f64(),
            told["moved"],
            since("acknowledged"),
            since("lost"),
            since("doubled"),
            since("reordered"),
            since("leaves"),
            told["longestGapMs"],
            fullest(&each),
        );
        ensure!(since("acknowledged") > 0, "{what}: nothing was acknowledged, which says nothing: {told}");
        must_be_well(what, &told)?;
        ensure!(each.len() == nodes, "{what}: {} nodes are ready, of {nodes}", each.len());
        self.before = told;
        Ok(of_each)
    }

    /// As a StatefulSet does it alone: one pod after the other, wherever its clients go.
    async fn plainly(&mut self) -> anyhow::Result<()> {
        let kubernetes = self.kubernetes;
        kubernetes.kubectl(&["-n", SYSTEM, "wait", "--for=delete", "pods", "--all", "--timeout=60s"])?;
        // Clients may just have been led to some nodes alone; without an operator it would stay so.
        let label =
            ["label", "pods", "-l", "appsockets.io/cluster=main", "appsockets.io/accepting=true", "--overwrite"];
        kubernetes.kubectl(&[&["-n", SHOP], &label[..]].concat())?;
        let began = Instant::now();
        for pod in kubernetes.node_pods(SHOP).await? {
            let name = pod.name_any();
            kubernetes.kubectl(&["-n", SHOP, "delete", "pod", &name])?;
            let again = until("the pod is made anew, and takes clients", 90, async || {
                let pods = kubernetes.node_pods(SHOP).await?;
                let new = pods.iter().any(|new| new.name_any() == name && new.uid() != pod.uid() && is_ready(new));
                let taking = self.taking()?;
                Ok(if new && taking == pods.len() { Ok(()) } else { Err(format!("{taking} take clients")) })
            });
            again.await?;
        }
        let took = began.elapsed();
        let back = until("all clients are back", 90, async || {
            let ((clients, _), each) = (self.load.moves().await?, self.each().await?);
            Ok(if each.iter().sum::<u64>() >= clients { Ok(()) } else { Err(format!("{each:?}")) })
        });
        back.await?;
        self.tell("for comparison, one pod after the other without an operator", 3, took).await.map(drop)
    }

    /// How many connections each node has that is ready and takes clients, or has some still.
    async fn each(&self) -> anyhow::Result<Vec<u64>> {
        let token = self.kubernetes.admin_token(SHOP, "main").await?;
        let mut each = Vec::new();
        for pod in self.kubernetes.node_pods(SHOP).await?.iter().filter(|pod| is_ready(pod)) {
            // One that goes just now is not counted.
            let Ok(node) = Admin::of(self.kubernetes, SHOP, &pod.name_any(), &token).await else { continue };
            let Ok(said) = node.get("/v1/stop").await else { continue };
            let connections = said.as_ref().and_then(|said| said["connections"].as_u64());
            let connections = connections.context("a node does not say how many connections it has")?;
            if connections > 0 || pod.labels().get("appsockets.io/accepting").is_some_and(|accepts| accepts == "true") {
                each.push(connections);
            }
        }
        Ok(each)
    }

    async fn end(self) -> anyhow::Result<()> {
        let told = self.load.ask("end").await?;
        println!("upgrade: in all {told}");
        self.kubernetes.kubectl(&["-n", SHOP, "delete", "pod/load", "hub/load", "channelrules/load"])?;
        must_be_well("in all", &told)?;
        ensure!(self.most.is_empty(), "clients moved more often than they must: {}", self.most.join(", "));
        Ok(())
    }
}

/// Nothing that was acknowledged may be missing, twice there or in another order, nor may anybody be told that it may be.
fn must_be_well(what: &str, told: &Value) -> anyhow::Result<()> {
    for wrong in ["lost", "doubled", "reordered", "told", "epochsEnded", "ended", "refused"] {
        ensure!(told[wrong] == 0, "{what}: {wrong}: {}", told[wrong]);
    }
    Ok(())
}

/// The fullest, as times of the mean.
fn fullest(each: &[u64]) -> f64 {
    let most = each.iter().copied().max().unwrap_or(0);
    most as f64 * each.len() as f64 / each.iter().sum::<u64>().max(1) as f64
}
