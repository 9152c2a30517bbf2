//! Installing by Helm, from the first time to after it was uninstalled.

use std::time::Instant;

use anyhow::Context;
use serde_json::Value;

use crate::kubernetes::{Kubernetes, SHOP, SYSTEM, until};

const CHART: &str = "charts/appsockets";
/// Where the chart is installed with a cluster of its own.
const RELEASE: [&str; 4] = ["release", CHART, "--namespace", SYSTEM];

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    kubernetes.helm(&["lint", "--strict", CHART])?;
    says_what_is_wrong(kubernetes)?;
    same_as_without_helm(kubernetes)?;
    for more in [&[][..], &["--set", "cluster.enabled=true,operator.namespaced=true,crds.keep=false,labels.team=a"]] {
        let rendered = template(kubernetes, more)?;
        kubernetes.dry_run(&rendered).context("the API server refuses what the chart renders")?;
    }
    taken_over(kubernetes)?;
    let began = Instant::now();
    from_nothing(kubernetes).await?;
    println!("chart: installed, with a cluster of three and a hub after {:.1} s", began.elapsed().as_secs_f64());
    kubernetes.helm(&with(&["upgrade"], &["--wait", "--set", "cluster.enabled=true"]))?;
    kubernetes.wait_ready(SYSTEM, "appsocketscluster/main", 120)?;
    let nodes = pods(kubernetes)?;
    kubernetes
        .helm(&with(&["upgrade"], &["--wait", "--set", "cluster.enabled=true,operator.log=debug,labels.team=a"]))?;
    kubernetes.wait_ready(SYSTEM, "appsocketscluster/main", 120)?;
    anyhow::ensure!(pods(kubernetes)? == nodes, "another Deployment of the operator has replaced nodes");

    kubernetes.helm(&["uninstall", "release", "--namespace", SYSTEM, "--wait"])?;
    let hubs = kubernetes.kubectl(&["get", "hubs,appsocketsclusters", "-A", "-o", "name"])?;
    anyhow::ensure!(hubs.contains("hub.appsockets.io/demo") && hubs.contains("main"), "resources are gone: {hubs}");
    anyhow::ensure!(pods(kubernetes)? == nodes, "nodes went with the operator");
    kubernetes.helm(&with(&["install"], &["--wait", "--set", "cluster.enabled=true"])).context("it can't come back")?;
    kubernetes.wait_ready(SYSTEM, "appsocketscluster/main", 120)?;
    anyhow::ensure!(pods(kubernetes)? == nodes, "coming back has replaced nodes");
    println!("chart: an upgrade, to uninstall and to install again left {} nodes as they were", nodes.lines().count());

    // The others are shown with what was there before.
    kubernetes.kubectl(&["-n", SYSTEM, "delete", "appsocketscluster/main"])?;
    kubernetes.helm(&["uninstall", "release", "--namespace", SYSTEM, "--wait"])?;
    let gone = until("the chart's objects are gone", 60, async || {
        let there = kubernetes.kubectl(&["-n", SYSTEM, "get", "pods", "-o", "name"])?;
        Ok(if there.is_empty() { Ok(()) } else { Err(there) })
    });
    gone.await?;
    kubernetes.kubectl(&["apply", "-f", "deploy/operator.yaml"])?;
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/appsockets-operator", "--timeout=60s"])?;
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 60).map(drop)
}

/// What was applied without Helm becomes the release's, and nodes do not notice.
fn taken_over(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let uids = "jsonpath={.items[*].metadata.uid}";
    let nodes = || kubernetes.kubectl(&["-n", SHOP, "get", "pods", "-l", "appsockets.io/cluster=main", "-o", uids]);
    let before = nodes()?;
    kubernetes.helm(&with(&["install"], &["--wait", "--take-ownership"])).context("what was applied stays")?;
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 60)?;
    anyhow::ensure!(nodes()? == before, "Helm's operator has replaced nodes");
    kubernetes.helm(&["uninstall", "release", "--namespace", SYSTEM, "--wait"]).map(drop)
}

/// As the README has it, on a Kubernetes that knows nothing of the project.
async fn from_nothing(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    for objects in ["deploy/quickstart.yaml", "crds/"] {
        kubernetes.kubectl(&["delete", "--ignore-not-found", "-f", objects])?;
    }
    kubernetes.kubectl(&["delete", "namespace", SYSTEM, "--ignore-not-found"])?;
    let refused = kubernetes.helm(&with(&["install"], &["--create-namespace", "--set", "cluster.enabled=true"])).err();
    let refused = refused.map(|error| error.to_string()).unwrap_or_default();
    anyhow::ensure!(refused.contains("install without cluster.enabled first"), "Helm says {refused:?}");
    kubernetes.helm(&with(&["install"], &["--create-namespace", "--wait"]))?;
    kubernetes.kubectl(&["apply", "-f", "deploy/quickstart.yaml"])?;
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 120)?;
    kubernetes.wait_ready(SHOP, "hub/demo", 30).map(drop)
}

fn with<'a>(first: &[&'a str], last: &[&'a str]) -> Vec<&'a str> {
    [first, &RELEASE, last].concat()
}

/// The uids of the nodes of the chart's cluster.
fn pods(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    let uids = "jsonpath={range .items[*]}{.metadata.uid}{\"\\n\"}{end}";
    kubernetes.kubectl(&["-n", SYSTEM, "get", "pods", "-l", "appsockets.io/cluster=main", "-o", uids])
}

/// A value that there is not, or that can't be, is named.
fn says_what_is_wrong(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    for (value, says) in [
        ("operator.replica=3", "additional properties 'replica' not allowed"),
        ("operator.replicas=many", "got string, want integer"),
        ("crds.keep=perhaps", "got string, want boolean"),
    ] {
        let refused = template(kubernetes, &["--set", value]).err().map(|error| error.to_string()).unwrap_or_default();
        anyhow::ensure!(refused.contains(says), "--set {value} is answered with {refused:?}");
    }
    Ok(())
}

/// What `deploy/` has for those without Helm does not drift away from the chart.
fn same_as_without_helm(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    for (file, more) in [
        ("deploy/operator.yaml", &["--set", "crds.enabled=false"][..]),
        ("deploy/operator-namespaced.yaml", &["--set", "crds.enabled=false,operator.namespaced=true"]),
    ] {
        let rendered = objects(kubernetes, &template(kubernetes, more)?)?;
        for object in objects(kubernetes, &std::fs::read_to_string(file)?)? {
            let name = format!("{} {}", object["kind"], object["metadata"]["name"]);
            if object["kind"] == "Namespace" {
                continue;
            }
            let same = |other: &&Value| {
                other["kind"] == object["kind"] && other["metadata"]["name"] == object["metadata"]["name"]
            };
            let other = rendered.iter().find(same).with_context(|| format!("the chart has no {name} as {file} has"))?;
            for part in ["rules", "roleRef"] {
                anyhow::ensure!(other[part] == object[part], "{part} of {name} differ between the chart and {file}");
            }
            let pod = |object: &Value| object["spec"]["template"]["spec"].clone();
            anyhow::ensure!(pod(other) == pod(&object), "pods of {name} differ between the chart and {file}");
        }
    }
    Ok(())
}

fn template(kubernetes: &Kubernetes<'_>, more: &[&str]) -> anyhow::Result<String> {
    kubernetes.helm(&[&["template"], &RELEASE[..], &["--kube-version", "1.34.0"], more].concat())
}

/// The objects of a text, as kubectl reads them without a server.
fn objects(kubernetes: &Kubernetes<'_>, text: &str) -> anyhow::Result<Vec<Value>> {
    let list = kubernetes.pipe(&["create", "--dry-run=client", "--validate=false", "-o", "json", "-f", "-"], text)?;
    let objects = serde_json::Deserializer::from_str(&list).into_iter::<Value>();
    let mut all = Vec::new();
    for object in objects {
        match object? {
            Value::Object(mut list) if list.contains_key("items") => {
                all.extend(list.remove("items").and_then(|items| items.as_array().cloned()).unwrap_or_default());
            }
            object => all.push(object),
        }
    }
    Ok(all)
}
