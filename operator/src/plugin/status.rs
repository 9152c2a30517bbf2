//! How clusters are.

use std::fmt::Write;

use anyhow::ensure;
use appsockets_crds::AppSocketsCluster;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, ResourceExt, api::ListParams};

use super::{metrics, pods};
use crate::{
    children::{ACCEPTING, Role},
    pods as node_pods,
    rolling::REVISION_LABEL,
};

pub async fn text(client: &Client, namespace: &str, name: Option<&str>) -> anyhow::Result<String> {
    let api: Api<AppSocketsCluster> = Api::namespaced(client.clone(), namespace);
    let clusters = match name {
        Some(name) => vec![api.get(name).await?],
        None => api.list(&ListParams::default()).await?.items,
    };
    ensure!(!clusters.is_empty(), "there is no AppSocketsCluster in the namespace {namespace}");
    let mut text = String::new();
    for cluster in clusters {
        let pods = pods(client, namespace, &cluster.name_any()).await?;
        let mut rows = Vec::new();
        for pod in &pods {
            let said = metrics(client, pod).await.unwrap_or_default();
            rows.push(row(&cluster, pod, &said));
        }
        tell(&cluster, &rows, &mut text);
    }
    Ok(text)
}

const COLUMNS: [&str; 7] = ["NODE", "STATE", "POD", "CLIENTS", "SESSIONS", "VIEW", "SERVES"];

fn row(cluster: &AppSocketsCluster, pod: &Pod, metrics: &str) -> [String; COLUMNS.len()] {
    let rollout = cluster.status.as_ref().and_then(|status| status.rollout.as_ref());
    let revision = pod.labels().get(REVISION_LABEL);
    let of_pod = rollout.filter(|rollout| rollout.role == Role::of(pod).name());
    let is_old = of_pod.is_some_and(|rollout| revision != Some(&rollout.revision));
    let state = match () {
        () if pod.metadata.deletion_timestamp.is_some() => "leaves",
        () if node_pods::is_ready(pod) => "ready",
        () if node_pods::is_live(pod) => "not ready",
        () => "starts",
    };
    let accepts = pod.labels().get(ACCEPTING).is_some_and(|accepts| accepts == "true");
    let figure = |name: &str| figure(metrics, name);
    let connected = figure("appsockets_sessions").zip(figure("appsockets_sessions_parked"));
    let shown = |figure: Option<u64>| figure.map_or_else(|| "?".to_owned(), |figure| figure.to_string());
    let settled = figure("appsockets_cluster_view") == figure("appsockets_cluster_settled_view");
    let view = shown(figure("appsockets_cluster_view"));
    [
        pod.name_any(),
        state.to_owned(),
        if is_old { "old" } else { "current" }.to_owned(),
        if accepts { "accepts" } else { "sends elsewhere" }.to_owned(),
        shown(connected.map(|(all, parked)| all.saturating_sub(parked))),
        if settled { view } else { format!("{view}, hands over") },
        figure("appsockets_settings_revision").map_or_else(|| "?".to_owned(), |revision| format!("{revision:013x}")),
    ]
}

fn tell(cluster: &AppSocketsCluster, rows: &[[String; COLUMNS.len()]], text: &mut String) {
    let status = cluster.status.clone().unwrap_or_default();
    let ready = status.conditions.iter().find(|condition| condition.type_ == "Ready");
    let reason = ready.map_or("Pending", |ready| &ready.reason);
    let message = ready.map_or("", |ready| &ready.message);
    // A String takes all that is written.
    _ = writeln!(text, "{}/{}: {reason}", cluster.namespace().unwrap_or_default(), cluster.name_any());
    _ = writeln!(text, "  {message}");
    if let Some(rollout) = &status.rollout {
        let waits = rollout.waiting_for.as_deref().unwrap_or("nothing");
        let (updated, outdated) = (rollout.updated, rollout.outdated);
        let role = &rollout.role;
        _ = writeln!(
            text,
            "  rollout of {role} nodes to {}: {updated} new, {outdated} old, waits for {waits}",
            rollout.revision
        );
    }
    if let Some(keys) = &status.keys {
        _ = writeln!(text, "  {keys}");
    }
    let head = COLUMNS.map(str::to_owned);
    let all = || std::iter::once(&head).chain(rows);
    let widths: Vec<_> =
        (0..COLUMNS.len()).map(|column| all().map(|row| row[column].len()).max().unwrap_or(0)).collect();
    for row in all() {
        let cells: Vec<_> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        _ = writeln!(text, "  {}", cells.join("  ").trim_end());
    }
}

/// A figure without labels.
fn figure(metrics: &str, name: &str) -> Option<u64> {
    let mut lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    lines.next()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use appsockets_crds::AppSocketsCluster;
    use k8s_openapi::api::core::v1::Pod;
    use serde_json::json;

    use super::{row, tell};

    #[test]
    fn a_rollout_is_told_with_all_nodes() {
        let condition = json!({
            "type": "Ready", "status": "Unknown", "reason": "RollingOut", "message": "Pods of the new revision: 1.",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let rollout =
            json!({"role": "core", "revision": "main-2", "updated": 1, "outdated": 1, "waitingFor": "Settled"});
        let cluster: AppSocketsCluster = serde_json::from_value(json!({
            "apiVersion": "appsockets.io/v1alpha1", "kind": "AppSocketsCluster",
            "metadata": {"name": "main", "namespace": "shop"}, "spec": {"image": "node"},
            "status": {"observedGeneration": 2, "conditions": [condition], "rollout": rollout},
        }))
        .unwrap();
        let pod = |name: &str, revision: &str, accepting: bool| -> Pod {
            let labels =
                json!({"controller-revision-hash": revision, "appsockets.io/accepting": accepting.to_string()});
            let ready = json!({"conditions": [{"type": "Ready", "status": "True"}]});
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "status": ready})).unwrap()
        };
        let said = "appsockets_sessions 7\nappsockets_sessions_parked 2\nappsockets_cluster_view 9\n\
                    appsockets_cluster_settled_view 9\nappsockets_settings_revision 255\n";
        let rows =
            [row(&cluster, &pod("main-2", "main-1", false), said), row(&cluster, &pod("main-3", "main-2", true), "")];
        let mut text = String::new();
        tell(&cluster, &rows, &mut text);
        let expected = "\
shop/main: RollingOut
  Pods of the new revision: 1.
  rollout of core nodes to main-2: 1 new, 1 old, waits for Settled
  NODE    STATE  POD      CLIENTS          SESSIONS  VIEW  SERVES
  main-2  ready  old      sends elsewhere  5         9     00000000000ff
  main-3  ready  current  accepts          ?         ?     ?
";
        assert_eq!(text, expected);
    }
}
