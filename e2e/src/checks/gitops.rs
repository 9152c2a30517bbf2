//! A cluster and its tenants from a git repository, by the engine of Argo CD.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context, ensure};

use crate::kubernetes::{GITOPS, Kubernetes, SHOP, until};

/// Refreshes after which nothing may have changed.
const REFRESHES: usize = 10;

pub async fn run(kubernetes: &Kubernetes<'_>, cache: &Path) -> anyhow::Result<()> {
    let agent = build(cache)?;
    let folder = std::env::temp_dir().join("appsockets-e2e-gitops");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    let (log, git) = (folder.join("log"), folder.join("repository"));
    let repository = Repository::new(&git)?;
    let quickstart = fs::read_to_string("deploy/quickstart.yaml")?.replace(SHOP, GITOPS);
    let documents: Vec<_> = quickstart.split("\n---\n").collect();
    let [namespace, rights, cluster, hub] = &*documents else { anyhow::bail!("the quickstart has other parts") };
    // As who runs the platform gives it to a tenant.
    kubernetes.apply(&format!("{namespace}\n---\n{rights}"))?;
    repository.write("cluster.yaml", &cluster.replace("replicas: 3", "replicas: 1"))?;
    repository.write("hub.yaml", hub)?;
    repository.write("rules.yaml", &rules("news"))?;
    repository.commit("a cluster, a hub and rules")?;
    let engine = Engine::start(kubernetes, &agent, &repository, &log)?;
    let shown = show(kubernetes, &repository, &engine).await;
    if shown.is_err() {
        eprintln!("--- the engine says\n{}", engine.log());
    }
    drop(engine);
    kubernetes.kubectl(&["delete", "namespace", GITOPS, "--wait=false"])?;
    shown
}

async fn show(kubernetes: &Kubernetes<'_>, repository: &Repository<'_>, engine: &Engine<'_>) -> anyhow::Result<()> {
    let get = |object: &str, path: &str| kubernetes.kubectl(&["-n", GITOPS, "get", object, "-o", path]);
    let made = until("what is in git is there", 60, async || {
        let mut objects = ["appsocketscluster/main", "hub/demo", "channelrules/news"].into_iter();
        let there = objects.try_for_each(|object| get(object, "name").map(drop));
        Ok(there.map_err(|error| error.to_string()))
    });
    made.await?;
    for object in ["appsocketscluster/main", "hub/demo", "channelrules/news"] {
        kubernetes.wait_ready(GITOPS, object, 90)?;
    }

    let patch = r#"{"spec":{"allowAnonymous":false}}"#;
    kubernetes.kubectl(&["-n", GITOPS, "patch", "hub/demo", "--type=merge", "-p", patch])?;
    let back = until("drift is put back", 60, async || {
        let seen = get("hub/demo", "jsonpath={.spec.allowAnonymous}")?;
        Ok(if seen == "true" { Ok(()) } else { Err(seen) })
    });
    let back = back.await?;
    kubernetes.wait_ready(GITOPS, "hub/demo", 60)?;

    repository.write("rules.yaml", &rules("news\n    - sport"))?;
    repository.commit("another channel")?;
    let applied = until("the new commit is applied", 60, async || {
        let seen = get("channelrules/news", "jsonpath={.spec.channels}")?;
        Ok(if seen.contains("sport") { Ok(()) } else { Err(seen) })
    });
    let applied = applied.await?;
    kubernetes.wait_ready(GITOPS, "channelrules/news", 60)?;

    let versions = || get("appsocketscluster,hub,channelrules", "jsonpath={.items[*].metadata.resourceVersion}");
    let (before, from) = (versions()?, engine.log().len());
    let quiet = until("ten refreshes have passed", 120, async || {
        let refreshes = engine.log()[from..].matches("RESULT").count();
        Ok(if refreshes > REFRESHES { Ok(()) } else { Err(format!("{refreshes} refreshes")) })
    });
    quiet.await?;
    let log = engine.log();
    // The first may have begun before.
    let since = log[from..].split_once("RESULT").map_or("", |(_, rest)| rest);
    let results: Vec<_> = since.lines().filter(|line| line.starts_with("appsockets.io/")).collect();
    ensure!(results.len() >= 3 * (REFRESHES - 1), "the log does not show what became of each: {since}");
    let changed: Vec<_> = results.iter().filter(|line| !line.trim_end().ends_with("unchanged")).collect();
    ensure!(changed.is_empty(), "something is never in sync: {changed:?}");
    ensure!(versions()? == before, "something was written although nothing has changed");

    repository.remove("rules.yaml")?;
    repository.commit("no rules")?;
    let pruned = until("what is no longer in git is gone", 60, async || {
        let seen = get("channelrules", "name")?;
        Ok(if seen.is_empty() { Ok(()) } else { Err(seen) })
    });
    let pruned = pruned.await?;
    println!(
        "gitops: made; drift put back after {:.1} s, a commit applied after {:.1} s, pruned after {:.1} s; {REFRESHES} refreshes \
         changed nothing",
        back.as_secs_f64(),
        applied.as_secs_f64(),
        pruned.as_secs_f64()
    );
    Ok(())
}

fn rules(channels: &str) -> String {
    format!(
        "apiVersion: appsockets.io/v1alpha1
kind: ChannelRules
metadata:
  name: news
  namespace: {GITOPS}
spec:
  hubRef:
    name: demo
  public: true
  channels:
    - {channels}
"
    )
}

/// Argo CD's engine as a program, built from its module where it is not there yet.
fn build(cache: &Path) -> anyhow::Result<std::path::PathBuf> {
    let agent = cache.join("bin/gitops-agent");
    if !agent.exists() {
        let mut build = Command::new("go");
        build.args(["build", "-C", "e2e/gitops", "-o"]).arg(&agent).arg("github.com/argoproj/gitops-engine/agent");
        let status = build.env("CGO_ENABLED", "0").status().context("install Go to build Argo CD's engine with")?;
        ensure!(status.success(), "Argo CD's engine can't be built");
    }
    Ok(agent)
}

struct Repository<'a>(&'a Path);

impl<'a> Repository<'a> {
    fn new(folder: &'a Path) -> anyhow::Result<Repository<'a>> {
        fs::create_dir_all(folder.join("app"))?;
        let repository = Repository(folder);
        repository.git(&["init", "--quiet"])?;
        Ok(repository)
    }

    fn write(&self, name: &str, text: &str) -> anyhow::Result<()> {
        fs::write(self.0.join("app").join(name), text).context("the repository can't be written")
    }

    fn remove(&self, name: &str) -> anyhow::Result<()> {
        fs::remove_file(self.0.join("app").join(name)).context("the repository can't be written")
    }

    fn commit(&self, message: &str) -> anyhow::Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["-c", "user.name=e2e", "-c", "user.email=e2e@example.com", "commit", "--quiet", "-m", message])
    }

    fn git(&self, arguments: &[&str]) -> anyhow::Result<()> {
        let status = Command::new("git").arg("-C").arg(self.0).args(arguments).status().context("install git")?;
        ensure!(status.success(), "git {arguments:?} failed");
        Ok(())
    }
}

/// Syncs until it is dropped.
struct Engine<'a> {
    process: Child,
    log: &'a Path,
}

impl<'a> Engine<'a> {
    fn start(
        kubernetes: &Kubernetes<'_>,
        agent: &Path,
        repository: &Repository<'_>,
        log: &'a Path,
    ) -> anyhow::Result<Engine<'a>> {
        let output = fs::File::create(log)?;
        let mut command = Command::new(agent);
        command.arg(repository.0).args(["--path", "app", "--resync-seconds", "3", "--port", "0"]);
        command.args(["--default-namespace", GITOPS]);
        match kubernetes.place.kubeconfig() {
            (Some(path), _) => command.arg("--kubeconfig").arg(path),
            (None, context) => command.args(context.iter().flat_map(|context| ["--context", context])),
        };
        let process = command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).spawn()?;
        Ok(Engine { process, log })
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log).unwrap_or_default()
    }
}

impl Drop for Engine<'_> {
    fn drop(&mut self) {
        // One that has ended already needs neither.
        _ = self.process.kill();
        _ = self.process.wait();
    }
}
