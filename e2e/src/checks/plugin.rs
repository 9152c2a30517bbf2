//! `kubectl appsockets`, as people call it.

use std::{collections::BTreeSet, fs, path::Path, time::Instant};

use anyhow::{Context, ensure};
use appsockets_client::{Client, Options};
use kube::ResourceExt;
use serde_json::json;

use super::rights::secrets;
use crate::{
    forward::Forward,
    kubernetes::{Kubernetes, SHOP, until},
};

const CLUSTER: &str = "appsocketscluster/main";

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let folder = std::env::temp_dir().join(format!("appsockets-plugin-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let shown = show(kubernetes, &folder).await;
    fs::remove_dir_all(&folder)?;
    shown
}

async fn show(kubernetes: &Kubernetes<'_>, folder: &Path) -> anyhow::Result<()> {
    status(kubernetes).await?;
    plan(kubernetes, folder)?;
    drain(kubernetes).await?;
    rotate(kubernetes).await?;
    report(kubernetes, &folder.join("report")).await?;
    println!("plugin: status, plan, drain, rotate and report do what they say");
    Ok(())
}

fn appsockets(kubernetes: &Kubernetes<'_>, arguments: &[&str]) -> anyhow::Result<String> {
    kubernetes.plugin(&[&["--namespace", SHOP], arguments].concat())
}

/// Every node has its line, with figures that came from itself.
async fn status(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let said = appsockets(kubernetes, &["status", "main"])?;
    for pod in kubernetes.node_pods(SHOP).await? {
        let name = pod.name_any();
        let line = said.lines().find(|line| line.trim_start().starts_with(&name));
        let line = line.with_context(|| format!("status does not name {name}: {said}"))?;
        ensure!(line.contains("ready") && line.contains("accepts"), "of {name} is said: {line}");
        ensure!(!line.contains('?'), "{name} was not asked: {line}");
    }
    let none = appsockets(kubernetes, &["status", "nothing"]).err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(none.contains("not found"), "of a cluster that there is not is said: {none}");
    Ok(())
}

/// What would be changed is said, and nothing is.
fn plan(kubernetes: &Kubernetes<'_>, folder: &Path) -> anyhow::Result<()> {
    let of =
        |object: &str| kubernetes.kubectl(&["-n", SHOP, "get", object, "-o", "jsonpath={.metadata.resourceVersion}"]);
    let before = (of("hub/demo")?, of("statefulset/main")?);
    let meta = |name: &str| json!({"name": name, "namespace": SHOP});
    let api = "appsockets.io/v1alpha1";
    let reference = json!({"name": "main"});
    let demo = json!({"clusterRef": reference, "allowAnonymous": false, "defaultPublic": true});
    let lost = json!({"clusterRef": {"name": "lost"}});
    let objects = [
        json!({"apiVersion": api, "kind": "Hub", "metadata": meta("demo"), "spec": demo}),
        json!({"apiVersion": api, "kind": "Hub", "metadata": meta("fresh"), "spec": {"clusterRef": reference}}),
        json!({"apiVersion": api, "kind": "Hub", "metadata": meta("lost"), "spec": lost}),
        json!({"apiVersion": api, "kind": "AppSocketsCluster", "metadata": meta("main"), "spec": {
            "replicas": 4, "image": "localhost/appsockets-node:another",
        }}),
    ];
    let file = folder.join("plan.yaml");
    fs::write(&file, objects.map(|object| object.to_string()).join("\n---\n"))?;
    let file = file.to_str().context("the folder has a name")?;
    let said = appsockets(kubernetes, &["plan", "-f", file])?;
    for expected in [
        "serve otherwise Hub demo",
        "serve Hub fresh",
        "each pod of core nodes would be replaced",
        "4 pods of core nodes instead of 3",
        "lost would",
        "main-",
    ] {
        ensure!(said.contains(expected), "plan does not say {expected:?}: {said}");
    }
    let after = (of("hub/demo")?, of("statefulset/main")?);
    ensure!(before == after, "plan has changed something");
    ensure!(kubernetes.kubectl(&["-n", SHOP, "get", "hub/fresh"]).is_err(), "plan has made a hub");
    Ok(())
}

/// A node goes, and another comes in its place.
async fn drain(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let pods = kubernetes.node_pods(SHOP).await?;
    let pod = pods.first().context("there is a node")?;
    let (name, uid) = (pod.name_any(), pod.uid());
    let said = appsockets(kubernetes, &["drain", &name])?;
    ensure!(said.contains("is gone"), "drain says {said}");
    let back = until("another node is in its place", 60, async || {
        let pods = kubernetes.node_pods(SHOP).await?;
        let found = pods.iter().find(|pod| pod.name_any() == name);
        let new = found.is_some_and(|pod| pod.uid() != uid && crate::kubernetes::is_ready(pod));
        Ok(if new { Ok(()) } else { Err(format!("{:?}", found.map(ResourceExt::uid))) })
    });
    back.await?;
    kubernetes.wait_ready(SHOP, CLUSTER, 60)?;
    let other = appsockets(kubernetes, &["drain", "nobody"]).is_err();
    ensure!(other, "a pod that there is not was drained");
    Ok(())
}

/// Nodes get other keys while they serve: no pod is replaced, and a client that is connected notices nothing.
async fn rotate(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let overlap = r#"{"spec":{"keyOverlapSeconds":3}}"#;
    kubernetes.kubectl(&["-n", SHOP, "patch", CLUSTER, "--type=merge", "-p", overlap])?;
    let keys = async || -> anyhow::Result<BTreeSet<String>> {
        let of_nodes = ["main-keys", "main-authority", "main-node-certificate"];
        let all = secrets(kubernetes).await?.into_iter().filter(|secret| of_nodes.contains(&&*secret.name));
        // Of a certificate's key the lines.
        Ok(all.map(|secret| secret.value).collect())
    };
    let (pods, before) = (kubernetes.node_uids(SHOP).await?, keys().await?);
    let pod = kubernetes.node_pods(SHOP).await?.first().context("there is a node")?.name_any();
    let forward = Forward::to(kubernetes, SHOP, &pod, 8080).await?;
    let client = Client::connect(Options::new(format!("ws://127.0.0.1:{}", forward.port), "demo"))?;
    client.publish("news", "before", "hello").await?;
    let connections = client.connections();

    let began = Instant::now();
    let said = appsockets(kubernetes, &["rotate", "main"])?;
    ensure!(said.contains("for 3 s more"), "rotate says {said}");
    let exchanged = until("all keys are others", 120, async || {
        let (now, status) = (keys().await?, kubernetes.status(SHOP, CLUSTER)?);
        let left = now.intersection(&before).count();
        let over = left == 0 && status["keys"].is_null();
        Ok(if over { Ok(()) } else { Err(format!("{left} are the same, and the cluster says {}", status["keys"])) })
    });
    exchanged.await?;
    kubernetes.wait_ready(SHOP, CLUSTER, 60)?;
    println!(
        "plugin: all nodes have exchanged their keys and the authority after {:.1} s",
        began.elapsed().as_secs_f64()
    );
    ensure!(kubernetes.node_uids(SHOP).await? == pods, "pods were replaced for other keys");
    client.publish("news", "after", "hello").await?;
    ensure!(client.connections() == connections, "the client had to connect anew");
    let token = kubernetes.admin_token(SHOP, "main").await?;
    ensure!(keys().await?.contains(&token), "administrators would show what nodes do not take");
    Ok(())
}

/// It has what helps, and no secret.
async fn report(kubernetes: &Kubernetes<'_>, folder: &Path) -> anyhow::Result<()> {
    appsockets(kubernetes, &["report", folder.to_str().context("the folder has a name")?])?;
    let secrets = secrets(kubernetes).await?;
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // An operator that waits for the lease has nothing to say.
        ensure!(name.ends_with(".log") || !text.trim().is_empty(), "{name} is empty");
        if let Some(found) = secrets.iter().find(|secret| text.contains(&secret.value)) {
            anyhow::bail!("{name} has {} of the Secret {}", found.key, found.name);
        }
        names.push(name);
    }
    for expected in ["status.txt", "clusters.json", "hubs.json", "pods.json", "events.json"] {
        ensure!(names.iter().any(|name| name == expected), "the report has no {expected}: {names:?}");
    }
    let of_nodes = names.iter().filter(|name| name.starts_with("main-") && name.ends_with(".metrics")).count();
    ensure!(of_nodes == 3, "the report has the metrics of {of_nodes} nodes: {names:?}");
    Ok(())
}
