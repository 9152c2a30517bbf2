//! Many hubs.

use std::time::Instant;

use appsockets_crds::Hub;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use serde_json::json;

use super::failures;
use crate::kubernetes::{Kubernetes, SHOP, until};

/// Requests at a time.
const AT_ONCE: usize = 16;

pub async fn run(kubernetes: &Kubernetes<'_>, hubs: usize) -> anyhow::Result<()> {
    let api: Api<Hub> = Api::namespaced(kubernetes.client.clone(), SHOP);
    let (began, writes) = (Instant::now(), status_writes(kubernetes)?);
    let mut making = tokio::task::JoinSet::new();
    for worker in 0..AT_ONCE {
        let api = api.clone();
        making.spawn(async move {
            for number in (worker..hubs).step_by(AT_ONCE) {
                let spec = json!({"clusterRef": {"name": "main"}});
                let hub: Hub = serde_json::from_value(json!({
                    "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "spec": spec,
                    "metadata": {"name": format!("many-{number:05}"), "labels": {"many": "true"}},
                }))?;
                api.create(&PostParams::default(), &hub).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(made) = making.join_next().await {
        made??;
    }
    let made = began.elapsed();
    let all = until("all hubs are Ready", 600, async || {
        let list = api.list(&ListParams::default().labels("many=true")).await?;
        let ready = list.items.iter().filter(|hub| is_ready(hub)).count();
        Ok(if ready == hubs { Ok(()) } else { Err(format!("{ready} of {hubs}")) })
    });
    all.await?;
    let ready = began.elapsed();
    let memory = operator_memory();
    println!(
        "scale: {hubs} hubs made in {:.1} s, all Ready after {:.1} s, with {} writes of their statuses; operators' memory \
         {memory}",
        made.as_secs_f64(),
        ready.as_secs_f64(),
        status_writes(kubernetes)? - writes
    );
    let changed = Instant::now();
    kubernetes.kubectl(&[
        "-n",
        SHOP,
        "patch",
        "hub",
        "demo",
        "--type=merge",
        "-p",
        r#"{"spec":{"limits":{"connections":77}}}"#,
    ])?;
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    println!("scale: a change among them is Ready after {:.2} s", changed.elapsed().as_secs_f64());

    failures::undecodable(kubernetes).await?;
    // The API server ends what takes it longer than a minute.
    let deleted = until("the hubs are deleted", 300, async || {
        let all = ListParams::default().labels("many=true");
        Ok(api.delete_collection(&DeleteParams::default(), &all).await.map(drop).map_err(|error| error.to_string()))
    });
    deleted.await?;
    let held = until("so many hubs do not go unasked", 30, async || {
        let status = kubernetes.status(SHOP, "appsocketscluster/main")?.to_string();
        Ok(if status.contains("RemovalsHeld") { Ok(()) } else { Err(status) })
    });
    held.await?;
    let allowed = format!("appsockets.io/remove-hubs={hubs}");
    kubernetes.kubectl(&["-n", SHOP, "annotate", "appsocketscluster", "main", &allowed, "--overwrite"])?;
    let gone = kubernetes.wait_ready(SHOP, "appsocketscluster/main", 60)?;
    kubernetes.kubectl(&["-n", SHOP, "annotate", "appsocketscluster", "main", "appsockets.io/remove-hubs-"])?;
    println!("scale: the removal of all of them waited to be allowed, and was done {:.2} s after", gone.as_secs_f64());
    Ok(())
}

/// How often the API server was asked to write a status of ours.
fn status_writes(kubernetes: &Kubernetes<'_>) -> anyhow::Result<u64> {
    let metrics = kubernetes.kubectl(&["get", "--raw", "/metrics"])?;
    let ours = metrics.lines().filter(|line| {
        let parts = ["apiserver_request_total{", "group=\"appsockets.io\"", "subresource=\"status\""];
        parts.iter().all(|part| line.contains(part))
    });
    let counts = ours.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok());
    Ok(counts.sum::<f64>() as u64)
}

fn is_ready(hub: &Hub) -> bool {
    let Some(status) = &hub.status else { return false };
    Some(status.observed_generation) == hub.metadata.generation
        && status.conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

/// Of the operators' processes, where they are this machine's.
fn operator_memory() -> String {
    let mut sizes = Vec::new();
    for process in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let read = |file: &str| std::fs::read_to_string(process.path().join(file)).unwrap_or_default();
        if !read("cmdline").starts_with("/usr/bin/appsockets-operator") {
            continue;
        }
        let status = read("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default().trim();
        let kib: u64 = line.trim_end_matches(" kB").parse().unwrap_or(0);
        sizes.push(format!("{} MiB", kib / 1024));
    }
    if sizes.is_empty() { "not known here".to_owned() } else { format!("at most {}", sizes.join(" and ")) }
}
