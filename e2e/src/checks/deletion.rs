//! Everything can be deleted, in whatever order, and nothing hangs.

use std::time::Duration;

use anyhow::Context;

use crate::kubernetes::{GONE, Kubernetes, SHOP, SYSTEM, until};

/// What of a namespace may be there after its deletion was asked for, in seconds.
const WITHIN: u64 = 90;

/// What goes before the namespace.
const ORDERS: [(&str, &[&[&str]]); GONE.len() - 1] = [
    ("the namespace alone", &[]),
    ("the cluster", &[&["-n", "NAME", "delete", "appsocketscluster/main", "--wait=false"]]),
    ("the hub", &[&["-n", "NAME", "delete", "hub/demo", "--wait=false"]]),
    (
        "all pods at nothing",
        &[&["-n", "NAME", "patch", "appsocketscluster/main", "--type=merge", "-p", r#"{"spec":{"replicas":0}}"#]],
    ),
    ("the cluster, leaving what it made", &[&["-n", "NAME", "delete", "appsocketscluster/main", "--cascade=orphan"]]),
    ("the Secrets", &[&["-n", "NAME", "delete", "secrets", "--all"]]),
    ("the operator's rights", &[&["delete", "clusterrolebinding/appsockets-operator"]]),
    ("the operator", &[&["delete", "namespace", SYSTEM, "--wait=false"]]),
];

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let mut slowest = Duration::ZERO;
    for (name, (what, before)) in GONE.into_iter().zip(ORDERS) {
        fill(kubernetes, name)?;
        for arguments in before {
            let arguments: Vec<_> =
                arguments.iter().map(|argument| if *argument == "NAME" { name } else { argument }).collect();
            kubernetes.kubectl(&arguments).with_context(|| format!("{what} can't be deleted"))?;
        }
        slowest = slowest.max(empty(kubernetes, name).await.with_context(|| format!("first {what}"))?);
    }
    let [.., last] = GONE;
    fill(kubernetes, last)?;
    kubernetes.kubectl(&["delete", "-f", "crds/", "--wait=false"])?;
    slowest = slowest.max(empty(kubernetes, last).await.context("first the definitions")?);
    slowest = slowest.max(empty(kubernetes, SHOP).await.context("the definitions went first")?);
    let orders = ORDERS.len() + 2;
    println!("deletion: {orders} orders, each empty within {:.1} s, no finalizer touched", slowest.as_secs_f64());
    Ok(())
}

/// A namespace with a cluster of one node and a hub, as the quickstart has them, and an operator with all its rights.
fn fill(kubernetes: &Kubernetes<'_>, name: &str) -> anyhow::Result<()> {
    let apply = || kubernetes.kubectl(&["apply", "-f", "deploy/operator.yaml"]);
    // Its namespace may still be going.
    let waited = |_| kubernetes.kubectl(&["wait", "--for=delete", "namespace", SYSTEM, "--timeout=90s"]);
    apply().or_else(waited).and_then(|_| apply())?;
    let quickstart = std::fs::read_to_string("deploy/quickstart.yaml")?;
    let objects = quickstart.replace(SHOP, name).replace("replicas: 3", "replicas: 1");
    kubernetes.apply(&objects)?;
    kubernetes.wait_ready(name, "appsocketscluster/main", 60)?;
    kubernetes.wait_ready(name, "hub/demo", 60).map(drop)
}

/// Deletes a namespace, and gives how long it took to be gone.
async fn empty(kubernetes: &Kubernetes<'_>, name: &str) -> anyhow::Result<Duration> {
    kubernetes.kubectl(&["delete", "namespace", name, "--wait=false"])?;
    let gone = until("the namespace is gone", WITHIN, async || {
        let namespace = kubernetes.kubectl(&["get", "namespace", name, "-o", "yaml", "--ignore-not-found"])?;
        Ok(if namespace.is_empty() { Ok(()) } else { Err(namespace) })
    });
    gone.await
}
