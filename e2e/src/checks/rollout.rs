//! What replaces pods, and what does not.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Context;
use kube::ResourceExt;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::failures::leader;
use crate::{
    forward::Forward,
    kubernetes::{BAR, Kubernetes, SHOP, SYSTEM, condition, until},
};

pub const CLUSTER: &str = "appsocketscluster/main";

pub async fn run(kubernetes: &Kubernetes<'_>, short: bool) -> anyhow::Result<()> {
    restarts(kubernetes, if short { 3 } else { 30 }).await?;
    paused(kubernetes).await?;
    bad_image(kubernetes).await?;
    if !short {
        canary(kubernetes).await?;
        to_nothing_and_back(kubernetes).await?;
    }
    Ok(())
}

/// The pods of nodes that are not leaving, with their uids.
async fn pods(kubernetes: &Kubernetes<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let pods = kubernetes.node_pods(SHOP).await?.into_iter();
    let pods = pods.filter(|pod| pod.metadata.deletion_timestamp.is_none());
    Ok(pods.map(|pod| (pod.name_any(), pod.uid().unwrap_or_default())).collect())
}

fn generation(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    kubernetes.kubectl(&["-n", SHOP, "get", "statefulset/main", "-o", "jsonpath={.metadata.generation}"])
}

pub fn patch(kubernetes: &Kubernetes<'_>, spec: &str) -> anyhow::Result<()> {
    let patch = format!(r#"{{"spec":{spec}}}"#);
    kubernetes.kubectl(&["-n", SHOP, "patch", CLUSTER, "--type=merge", "-p", &patch]).map(drop)
}

/// Waits until the cluster says a word, and gives how long that took.
async fn says(kubernetes: &Kubernetes<'_>, word: &str, seconds: u64) -> anyhow::Result<Duration> {
    let what = format!("the cluster says {word}");
    let said = until(&what, seconds, async || {
        let status = kubernetes.status(SHOP, CLUSTER)?.to_string();
        Ok(if status.contains(word) { Ok(()) } else { Err(status) })
    });
    said.await
}

/// Operators that come and go replace no pod, and neither does another Deployment of them.
async fn restarts(kubernetes: &Kubernetes<'_>, times: usize) -> anyhow::Result<()> {
    let (before, written) = (pods(kubernetes).await?, generation(kubernetes)?);
    for _ in 0..times {
        restart(kubernetes).await?;
    }
    kubernetes.kubectl(&["-n", SYSTEM, "set", "env", "deployment/appsockets-operator", "RUST_LOG=info"])?;
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/appsockets-operator", "--timeout=120s"])?;
    // One that acts has looked at everything once a change is in effect.
    kubernetes.kubectl(&["-n", SHOP, "annotate", "hub/demo", "looked-at=yes", "--overwrite"])?;
    patch(kubernetes, &json!({"tenants": {"namespaces": [BAR]}}).to_string())?;
    kubernetes.wait_ready(SHOP, CLUSTER, 60)?;
    let same = pods(kubernetes).await? == before && generation(kubernetes)? == written;
    anyhow::ensure!(same, "pods or the StatefulSet were changed by {times} restarts of the operator");
    println!("rollout: {times} restarts of the operator and another Deployment of it changed no pod");
    Ok(())
}

/// Deletes the operator that acts, and waits until another one does.
async fn restart(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let old = leader(kubernetes).await?;
    kubernetes.kubectl(&["-n", SYSTEM, "delete", "pod", &old, "--wait=false"])?;
    let next = until("another operator acts", 60, async || {
        let new = leader(kubernetes).await?;
        Ok(if new == old { Err(new) } else { Ok(()) })
    });
    next.await.map(drop)
}

/// An operator that begins with a paused cluster sees that its nodes serve what they ought to, and tells them nothing.
async fn paused(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    patch(kubernetes, r#"{"paused":true}"#)?;
    says(kubernetes, r#""Paused""#, 30).await?;
    restart(kubernetes).await?;
    // What the last one has written stays until this one has looked, so its own counts are asked for.
    let recognized = until("the new operator takes every resource for Ready", 30, async || {
        // One that has the lease may have begun so short a time ago that nobody reaches it.
        let counts = match counts(kubernetes).await {
            Ok(counts) => counts,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let is = |line: &str| counts.lines().any(|other| other == line);
        let none = is(r#"appsockets_operator_resources{ready="Unknown"} 0"#);
        let some = !is(r#"appsockets_operator_resources{ready="True"} 0"#);
        Ok(if none && some { Ok(()) } else { Err(counts) })
    });
    let recognized = recognized.await;
    let demo = kubernetes.status(SHOP, "hub/demo")?;
    let later = json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "metadata": {"name": "later", "namespace": SHOP},
        "spec": {"clusterRef": {"name": "main"}},
    });
    kubernetes.apply_value(&later)?;
    let waits = until("a new hub is told of the pause", 30, async || {
        let status = kubernetes.status(SHOP, "hub/later")?;
        let holds = condition(&status, "Ready")["status"] == "Unknown" && !condition(&status, "Paused").is_null();
        Ok(if holds { Ok(()) } else { Err(status.to_string()) })
    });
    let waits = waits.await;
    patch(kubernetes, r#"{"paused":false}"#)?;
    let (recognized, _) = (recognized?, waits?);
    anyhow::ensure!(condition(&demo, "Ready")["status"] == "True", "a hub of a paused cluster is told {demo}");
    let took = kubernetes.wait_ready(SHOP, "hub/later", 30)?;
    kubernetes.kubectl(&["-n", SHOP, "delete", "hub/later"])?;
    kubernetes.wait_ready(SHOP, CLUSTER, 30)?;
    println!(
        "rollout: another operator sees after {:.1} s that all of a paused cluster is Ready; unpaused, a new hub is after {:.1} s",
        recognized.as_secs_f64(),
        took.as_secs_f64()
    );
    Ok(())
}

/// How many resources the operator that acts tells what, as lines of its metrics.
async fn counts(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    let forward = Forward::to(kubernetes, SYSTEM, &leader(kubernetes).await?, 9090).await?;
    let mut stream = TcpStream::connect(("127.0.0.1", forward.port)).await?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: e2e\r\nconnection: close\r\n\r\n").await?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await?;
    let lines = text.lines().filter(|line| line.starts_with("appsockets_operator_resources{"));
    Ok(lines.collect::<Vec<_>>().join("\n"))
}

/// It costs the additional pod alone, is said, and heals when it is taken back.
async fn bad_image(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let image = kubernetes.kubectl(&["-n", SHOP, "get", CLUSTER, "-o", "jsonpath={.spec.image}"])?;
    let before = pods(kubernetes).await?;
    patch(kubernetes, r#"{"image":"localhost/appsockets-node:no-such-thing"}"#)?;
    let said = says(kubernetes, "RolloutStalled", 120).await?;
    let meanwhile = pods(kubernetes).await?;
    anyhow::ensure!(before.iter().all(|pod| meanwhile.contains_key(pod.0)), "a pod that served is gone");
    anyhow::ensure!(meanwhile.len() == before.len() + 1, "there is more than one additional pod: {meanwhile:?}");
    patch(kubernetes, &format!(r#"{{"image":"{image}"}}"#))?;
    let healed = kubernetes.wait_ready(SHOP, CLUSTER, 120)?;
    anyhow::ensure!(pods(kubernetes).await? == before, "other pods are there than before");
    println!(
        "rollout: a bad image is said after {:.1} s and costs the additional pod; taken back it is well after {:.1} s",
        said.as_secs_f64(),
        healed.as_secs_f64()
    );
    Ok(())
}

/// After the first new pod somebody has to say that it goes on.
async fn canary(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let before = pods(kubernetes).await?;
    patch(kubernetes, r#"{"update":{"pauseAfter":1},"config":{"session.rateLimit":"500"}}"#)?;
    says(kubernetes, r#""waitingFor":"Canary""#, 120).await.context("it does not wait after the first pod")?;
    let meanwhile = pods(kubernetes).await?;
    anyhow::ensure!(before.iter().all(|pod| meanwhile.contains_key(pod.0)), "an old pod is gone already");
    kubernetes.plugin(&["--namespace", SHOP, "promote", "main"])?;
    let took = kubernetes.wait_ready(SHOP, CLUSTER, 300)?;
    let after = pods(kubernetes).await?;
    anyhow::ensure!(after.len() == before.len(), "there are {} pods: {after:?}", after.len());
    anyhow::ensure!(before.values().all(|uid| !after.values().any(|new| new == uid)), "an old pod is still there");
    println!("rollout: a canary waited, and {:.1} s after it was promoted all pods are new", took.as_secs_f64());
    patch(kubernetes, r#"{"update":null}"#)?;
    kubernetes.wait_ready(SHOP, CLUSTER, 60).map(drop)
}

async fn to_nothing_and_back(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    patch(kubernetes, r#"{"replicas":0}"#)?;
    let gone = until("all pods are gone", 90, async || {
        let pods = pods(kubernetes).await?;
        Ok(if pods.is_empty() { Ok(()) } else { Err(format!("{pods:?}")) })
    });
    gone.await?;
    patch(kubernetes, r#"{"replicas":3}"#)?;
    let took = kubernetes.wait_ready(SHOP, CLUSTER, 120)?;
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    println!("rollout: from no node to three that serve everything in {:.1} s", took.as_secs_f64());
    Ok(())
}
