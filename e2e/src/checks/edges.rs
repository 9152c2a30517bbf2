//! Nodes that only hold connections, beside those that have the channels.

use std::{collections::BTreeMap, time::Duration};

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;

use super::{
    quickstart,
    rollout::{CLUSTER, patch},
};
use crate::kubernetes::{Kubernetes, SHOP, is_ready, until};

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    patch(kubernetes, r#"{"edges":{"replicas":2}}"#)?;
    let came = led_to(kubernetes, "edge", 2).await?;
    kubernetes.wait_ready(SHOP, CLUSTER, 120)?;
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    let status = kubernetes.status(SHOP, CLUSTER)?;
    ensure!(status["edges"]["readyReplicas"] == 2 && status["readyReplicas"] == 3, "the cluster says {status}");
    println!("edges: clients are led to two edge nodes alone after {:.1} s", came.as_secs_f64());
    let said = kubernetes.plugin(&["--namespace", SHOP, "status", "main"])?;
    let accept: Vec<_> = said.lines().filter(|line| line.contains("accepts")).map(str::trim).collect();
    ensure!(accept.len() == 2 && accept.iter().all(|line| line.starts_with("main-edge-")), "status says {said}");
    through_both(kubernetes).await?;

    let before = uids(kubernetes).await?;
    patch(kubernetes, r#"{"config":{"session.rateLimit":"502"}}"#)?;
    let mut order = Vec::new();
    let renewed = until("all nodes are others", 300, async || {
        let now = uids(kubernetes).await?;
        for old in before.keys().filter(|uid| !now.contains_key(*uid)) {
            if !order.contains(old) {
                order.push(old.clone());
            }
        }
        Ok(if order.len() == before.len() { Ok(()) } else { Err(format!("{} of {}", order.len(), before.len())) })
    });
    let renewed = renewed.await?;
    let roles: Vec<_> = order.iter().filter_map(|uid| before.get(uid)).collect();
    ensure!(roles == ["core", "core", "core", "edge", "edge"], "nodes became new in this order: {roles:?}");
    kubernetes.wait_ready(SHOP, CLUSTER, 120)?;
    led_to(kubernetes, "edge", 2).await?;
    through_both(kubernetes).await?;
    println!("edges: core nodes and then edge nodes became new within {:.1} s", renewed.as_secs_f64());

    patch(kubernetes, r#"{"edges":null}"#)?;
    led_to(kubernetes, "core", 3).await?;
    let gone = until("the edge nodes are gone, and their set", 120, async || {
        let objects = "statefulset/main-edge,poddisruptionbudget/main-edge";
        let left =
            objects.split(',').filter(|object| kubernetes.kubectl(&["-n", SHOP, "get", *object]).is_ok()).count();
        let pods = kubernetes.node_pods(SHOP).await?.len();
        Ok(if (pods, left) == (3, 0) { Ok(()) } else { Err(format!("{pods} pods, {left} objects")) })
    });
    let gone = gone.await?;
    kubernetes.wait_ready(SHOP, CLUSTER, 60)?;
    let status = kubernetes.status(SHOP, CLUSTER)?;
    ensure!(status["edges"].is_null() && status["readyReplicas"] == 3, "the cluster says {status}");
    println!("edges: no longer asked for, they are gone after {:.1} s", gone.as_secs_f64());
    Ok(())
}

fn role(pod: &Pod) -> &str {
    pod.labels().get("appsockets.io/role").map_or("", String::as_str)
}

/// The pods that are there, with what their nodes do.
async fn uids(kubernetes: &Kubernetes<'_>) -> anyhow::Result<BTreeMap<String, String>> {
    let pods = kubernetes.node_pods(SHOP).await?;
    Ok(pods.iter().map(|pod| (pod.uid().unwrap_or_default(), role(pod).to_owned())).collect())
}

/// Waits until the Service for clients leads to so many nodes of a role, and to no others.
async fn led_to(kubernetes: &Kubernetes<'_>, wanted: &str, nodes: usize) -> anyhow::Result<Duration> {
    let led = until("clients are led where they ought to", 180, async || {
        let pods = kubernetes.node_pods(SHOP).await?;
        let accepts = |pod: &&Pod| pod.labels().get("appsockets.io/accepting").is_some_and(|accepts| accepts == "true");
        let taking: Vec<_> = pods.iter().filter(|pod| is_ready(pod)).filter(accepts).map(role).collect();
        let are_right = taking.len() == nodes && taking.iter().all(|role| *role == wanted);
        Ok(if are_right { Ok(()) } else { Err(format!("{taking:?}")) })
    });
    led.await
}

/// What is published at one edge node arrives at the other, by the core node that owns the channel.
async fn through_both(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let pods = kubernetes.node_pods(SHOP).await?;
    let edges: Vec<_> =
        pods.iter().filter(|pod| role(pod) == "edge" && is_ready(pod)).map(ResourceExt::name_any).collect();
    let [first, second] = &edges[..] else { anyhow::bail!("the edge nodes are {edges:?}") };
    quickstart::message(kubernetes, first, second).await
}
