//! What `kubectl appsockets` does: it looks at clusters of nodes from outside, with the rights of who calls it.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use appsockets_crds::AppSocketsCluster;
use clap::{Parser, Subcommand};
use k8s_openapi::{api::core::v1::Pod, jiff::Timestamp};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{EvictParams, ListParams, Patch, PatchParams},
    config::KubeConfigOptions,
    runtime::wait::{await_condition, conditions::is_deleted},
};
use serde_json::json;
use tokio::time::{Instant, timeout};

use crate::{children::CLUSTER_LABEL, rolling::PROMOTE_ANNOTATION, rotation::ROTATE};

mod plan;
mod report;
mod status;

/// How long a pod may take to go.
const GONE_WITHIN: Duration = Duration::from_secs(700);

/// Looks at clusters of AppSockets, and helps them on.
#[derive(Parser)]
#[command(name = "kubectl appsockets", version, disable_help_subcommand = true)]
pub struct Arguments {
    #[command(subcommand)]
    command: Command,
    /// The Kubernetes namespace; unless given, that of the context
    #[arg(short, long, global = true)]
    namespace: Option<String>,
    /// The context of the kubeconfig
    #[arg(long, global = true)]
    context: Option<String>,
}

#[derive(Subcommand)]
enum Command {
    /// Nodes, what they serve, their sessions, and what a rollout waits for
    Status {
        /// A cluster; unless given, all of the namespace
        name: Option<String>,
    },
    /// Say that a rollout goes on that waits after its first pods
    Promote { name: String },
    /// Have a node hand over its channels and sessions and go; another comes in its place
    Drain { pod: String },
    /// Have the nodes of a cluster exchange their keys, while they serve
    Rotate { name: String },
    /// What resources would change, on which nodes, without changing anything
    Plan {
        /// A file of resources
        #[arg(short, long)]
        file: PathBuf,
    },
    /// Write what helps to understand a fault into a folder, without Secrets
    Report {
        #[arg(default_value = "appsockets-report")]
        folder: PathBuf,
    },
}

/// Does what is asked for, and gives what is to be printed.
///
/// # Errors
/// The API server refuses, or there is nothing of that name.
pub async fn run(arguments: Arguments) -> anyhow::Result<String> {
    let options = KubeConfigOptions { context: arguments.context, ..KubeConfigOptions::default() };
    let config = Config::from_kubeconfig(&options).await.context("there is no kubeconfig that can be used")?;
    let namespace = arguments.namespace.unwrap_or_else(|| config.default_namespace.clone());
    let client = Client::try_from(config)?;
    match arguments.command {
        Command::Status { name } => status::text(&client, &namespace, name.as_deref()).await,
        Command::Promote { name } => promote(&client, &namespace, &name).await,
        Command::Drain { pod } => drain(&client, &namespace, &pod).await,
        Command::Rotate { name } => rotate(&client, &namespace, &name).await,
        Command::Plan { file } => plan::text(&client, &namespace, &file).await,
        Command::Report { folder } => report::write(&client, &namespace, &folder).await,
    }
}

async fn promote(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let api: Api<AppSocketsCluster> = Api::namespaced(client.clone(), namespace);
    let rollout = api.get(name).await?.status.and_then(|status| status.rollout);
    let Some(rollout) = rollout else { bail!("{namespace}/{name} replaces no pods at the moment") };
    let patch = json!({"metadata": {"annotations": {PROMOTE_ANNOTATION: rollout.revision}}});
    api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    Ok(format!("The rollout of {namespace}/{name} to {} goes on.\n", rollout.revision))
}

async fn rotate(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let api: Api<AppSocketsCluster> = Api::namespaced(client.clone(), namespace);
    let patch = json!({"metadata": {"annotations": {ROTATE: Timestamp::now().to_string()}}});
    let cluster = api.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
    let seconds = cluster.spec.key_overlap_seconds;
    Ok(format!("{namespace}/{name} gets new keys; former ones are accepted for {seconds} s more, then no longer.\n"))
}

async fn drain(client: &Client, namespace: &str, name: &str) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let pod = api.get(name).await?;
    ensure!(pod.labels().contains_key(CLUSTER_LABEL), "{namespace}/{name} is no node of AppSockets");
    api.evict(name, &EvictParams::default())
        .await
        .context("the disruption budget, or the API server, does not let it go")?;
    let began = Instant::now();
    let uid = pod.uid().unwrap_or_default();
    let gone = timeout(GONE_WITHIN, await_condition(api, name, is_deleted(&uid))).await;
    gone.with_context(|| format!("{name} is still there"))??;
    Ok(format!("{name} has handed over and is gone, after {:.0} s.\n", began.elapsed().as_secs_f64()))
}

/// The pods of a cluster, in their order.
async fn pods(client: &Client, namespace: &str, cluster: &str) -> anyhow::Result<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let mut pods = api.list(&ListParams::default().labels(&format!("{CLUSTER_LABEL}={cluster}"))).await?.items;
    pods.sort_by_key(|pod| (pod.name_any().len(), pod.name_any()));
    Ok(pods)
}

/// The metrics of a node, by way of the API server.
async fn metrics(client: &Client, pod: &Pod) -> anyhow::Result<String> {
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let port = crate::children::port::METRICS;
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
    let request = axum::http::Request::get(path).body(Vec::new())?;
    Ok(client.request_text(request).await?)
}
