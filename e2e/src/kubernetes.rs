//! Talking to the cluster, as its users do.

use std::{
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use appsockets_crds::yaml;
use k8s_openapi::{
    ByteString,
    api::core::v1::{Pod, Secret},
};
use kube::{
    Api, Client, Config, ResourceExt,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::Value;

use crate::place::Place;

/// Where the operator runs.
pub const SYSTEM: &str = "appsockets-system";
/// Where the nodes of the quickstart run.
pub const SHOP: &str = "shop";
/// Of another tenant.
pub const BAR: &str = "bar";
/// Of who applies what is in git.
pub const GITOPS: &str = "gitops";
/// Each is deleted in another way.
pub const GONE: [&str; 9] =
    ["gone-0", "gone-1", "gone-2", "gone-3", "gone-4", "gone-5", "gone-6", "gone-7", "gone-last"];

/// All namespaces that the suite makes, writes to and deletes: where others use one of them, it must not run.
fn namespaces() -> impl Iterator<Item = &'static str> {
    [SYSTEM, SHOP, BAR, GITOPS].into_iter().chain(GONE)
}

/// A cluster, and how to talk to it.
pub struct Kubernetes<'a> {
    pub place: &'a Place,
    pub client: Client,
}

impl<'a> Kubernetes<'a> {
    pub async fn connect(place: &'a Place) -> anyhow::Result<Kubernetes<'a>> {
        let (path, context) = place.kubeconfig();
        let kubeconfig = match path {
            Some(path) => Kubeconfig::read_from(path)?,
            None => Kubeconfig::read()?,
        };
        let options = KubeConfigOptions { context, ..KubeConfigOptions::default() };
        let config = Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(Kubernetes { place, client: Client::try_from(config)? })
    }

    /// What kubectl says, or an error with what it complained of.
    pub fn kubectl(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.place.kubectl().args(arguments), None)
    }

    /// What `kubectl appsockets` says, or an error with what it complained of.
    pub fn plugin(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.place.plugin().args(arguments), None)
    }

    /// What helm says, or an error with what it complained of.
    pub fn helm(&self, arguments: &[&str]) -> anyhow::Result<String> {
        output(self.place.helm().args(arguments), None)
    }

    /// What kubectl says when it is given something.
    pub fn pipe(&self, arguments: &[&str], objects: &str) -> anyhow::Result<String> {
        output(self.place.kubectl().args(arguments), Some(objects))
    }

    /// Applies objects as a user does.
    pub fn apply(&self, objects: &str) -> anyhow::Result<String> {
        self.pipe(&["apply", "-f", "-"], objects)
    }

    /// Whether the API server would take them.
    pub fn dry_run(&self, objects: &str) -> anyhow::Result<String> {
        self.pipe(&["apply", "--server-side", "--force-conflicts", "--dry-run=server", "-f", "-"], objects)
    }

    /// Applies an object given as JSON.
    pub fn apply_value(&self, object: &Value) -> anyhow::Result<String> {
        self.apply(&object.to_string())
    }

    /// Applies the definitions, and waits until they are known: who applies all at once may be told that a kind is not.
    pub fn define(&self) -> anyhow::Result<()> {
        let said = self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", "crds/"])?;
        anyhow::ensure!(!said.to_lowercase().contains("warning"), "the definitions make the API server warn: {said}");
        let names = yaml::names().map(|name| format!("customresourcedefinition/{name}"));
        let mut wait = vec!["wait", "--for=condition=Established", "--timeout=30s"];
        wait.extend(names.iter().map(String::as_str));
        self.kubectl(&wait).map(drop)
    }

    /// Waits as users do, and gives how long that took.
    pub fn wait_ready(&self, namespace: &str, object: &str, seconds: u64) -> anyhow::Result<Duration> {
        let began = Instant::now();
        let timeout = format!("--timeout={seconds}s");
        self.kubectl(&["-n", namespace, "wait", "--for=condition=Ready", &timeout, object])?;
        Ok(began.elapsed())
    }

    /// The status of an object.
    pub fn status(&self, namespace: &str, object: &str) -> anyhow::Result<Value> {
        let text = self.kubectl(&["-n", namespace, "get", object, "-o", "json"])?;
        Ok(serde_json::from_str::<Value>(&text)?["status"].take())
    }

    /// The pods of nodes.
    pub async fn node_pods(&self, namespace: &str) -> anyhow::Result<Vec<Pod>> {
        let api: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let selector = kube::api::ListParams::default().labels("app.kubernetes.io/managed-by=appsockets-operator");
        let mut pods = api.list(&selector).await?.items;
        pods.sort_by_key(|pod| pod.name_any());
        Ok(pods)
    }

    /// Tells the pods of nodes from those that come in their place.
    pub async fn node_uids(&self, namespace: &str) -> anyhow::Result<Vec<Option<String>>> {
        Ok(self.node_pods(namespace).await?.iter().map(ResourceExt::uid).collect())
    }

    /// What administrators of a cluster show.
    pub async fn admin_token(&self, namespace: &str, cluster: &str) -> anyhow::Result<String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = api.get(&format!("{cluster}-keys")).await?;
        let ByteString(token) =
            secret.data.and_then(|mut data| data.remove("admin-token")).context("there is no token")?;
        Ok(String::from_utf8(token)?)
    }

    /// Fails where AppSockets is already, or a namespace of the suite's: what is there is not for tests.
    pub fn refuse_where_others_are(&self) -> anyhow::Result<()> {
        let is_there = |kind: &str, name: &str| {
            let found = self.kubectl(&["get", kind, name, "-o", "name", "--ignore-not-found"])?;
            anyhow::Ok(!found.trim().is_empty())
        };
        for name in yaml::names() {
            if is_there("customresourcedefinition", name)? {
                bail!("the definition {name} is there already: run where AppSockets is not in use");
            }
        }
        for name in namespaces() {
            if is_there("namespace", name)? {
                bail!(
                    "the namespace {name} is there already, and would be written to and deleted: run where it is not, \
                     or delete it first if nobody needs what is in it"
                );
            }
        }
        Ok(())
    }

    /// Removes all that the suite has made.
    pub fn remove_what_is_ours(&self) -> anyhow::Result<()> {
        let mut delete = vec!["delete", "namespace", "--ignore-not-found"];
        delete.extend(namespaces());
        self.kubectl(&delete)?;
        self.kubectl(&["delete", "-f", "deploy/operator.yaml", "--ignore-not-found"])?;
        self.kubectl(&["delete", "-f", "crds/", "--ignore-not-found"])?;
        Ok(())
    }

    /// For who looks at a failure.
    pub fn tell_what_is_there(&self) {
        for arguments in [
            &["get", "appsockets,pods", "-A", "-o", "wide"][..],
            &["get", "events.events.k8s.io", "-A", "--sort-by=.metadata.creationTimestamp"],
            &["-n", SYSTEM, "logs", "-l", "app.kubernetes.io/name=appsockets-operator", "--tail=40"],
            &["-n", SHOP, "logs", "-l", "app.kubernetes.io/name=appsockets", "--tail=20"],
        ] {
            let said = self.kubectl(arguments).unwrap_or_else(|error| format!("{error:#}"));
            let lines: Vec<_> = said.lines().collect();
            eprintln!("--- kubectl {}\n{}", arguments.join(" "), lines[lines.len().saturating_sub(60)..].join("\n"));
        }
    }
}

/// A condition in a status; null: it has none of this type.
pub fn condition<'a>(status: &'a Value, kind: &str) -> &'a Value {
    let mut conditions = status["conditions"].as_array().into_iter().flatten();
    conditions.find(|condition| condition["type"] == kind).unwrap_or(&Value::Null)
}

/// Whether a pod is ready, and not about to go.
pub fn is_ready(pod: &Pod) -> bool {
    let mut conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ready && pod.metadata.deletion_timestamp.is_none()
}

/// Waits until something holds, and gives how long that took.
///
/// # Errors
/// It does not hold in time; the error says what was seen last.
pub async fn until(
    what: &str,
    seconds: u64,
    mut holds: impl AsyncFnMut() -> anyhow::Result<Result<(), String>>,
) -> anyhow::Result<Duration> {
    let began = Instant::now();
    loop {
        let seen = match holds().await? {
            Ok(()) => return Ok(began.elapsed()),
            Err(seen) => seen,
        };
        if began.elapsed() > Duration::from_secs(seconds) {
            bail!("{what}: not within {seconds} s; last seen: {seen}");
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn output(command: &mut Command, input: Option<&str>) -> anyhow::Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let program = command.get_program().to_string_lossy().into_owned();
    let mut child = command.spawn().with_context(|| format!("{program} can't be started"))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    match output.status.success() {
        true => Ok(said),
        false => bail!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()),
    }
}
