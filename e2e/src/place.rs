//! Where the suite runs.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail};

/// The cluster that kind makes.
const KIND_CLUSTER: &str = "appsockets-e2e";

/// A Kubernetes to run in.
pub enum Place {
    /// kind, where docker answers.
    Kind { kubeconfig: PathBuf },
    /// Processes of this machine, with programs built from source.
    Machine { cache: PathBuf, state: PathBuf },
    /// What somebody has named.
    Context { context: String },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Kind { .. } => write!(f, "kind"),
            Place::Machine { .. } => write!(f, "three nodes as processes of this machine"),
            Place::Context { context } => write!(f, "the context {context}"),
        }
    }
}

impl Place {
    /// The one that is named, else kind where that can be, else this machine.
    ///
    /// # Errors
    /// None of them can be.
    pub fn choose(context: Option<String>, cache: &Path) -> anyhow::Result<Place> {
        if let Some(context) = context {
            return Ok(Place::Context { context });
        }
        if works("docker", &["info"]) && works("kind", &["version"]) && works("kubectl", &["version", "--client"]) {
            return Ok(Place::Kind { kubeconfig: std::env::temp_dir().join("appsockets-e2e.kubeconfig") });
        }
        if !works("go", &["version"]) && !cache.join("bin/kubernetes").exists() {
            bail!(
                "there is neither docker with kind and kubectl here, nor Go to build Kubernetes with: install either"
            );
        }
        Ok(Place::Machine { cache: cache.to_owned(), state: std::env::temp_dir().join("appsockets-e2e") })
    }

    /// Has the cluster run, with the images.
    ///
    /// # Errors
    /// It can't be started.
    pub fn up(&self, images: &Path) -> anyhow::Result<()> {
        match self {
            Place::Context { .. } => Ok(()),
            Place::Kind { kubeconfig } => {
                // One that a run before has left says nothing about a start from nothing.
                self.down()?;
                let kubeconfig = kubeconfig.display().to_string();
                let mut create = vec!["create", "cluster", "--name", KIND_CLUSTER, "--config", "e2e/kind-config.yaml"];
                create.extend(["--wait", "120s", "--kubeconfig", &kubeconfig]);
                let image = std::env::var("KIND_NODE_IMAGE").ok();
                create.extend(image.iter().flat_map(|image| ["--image", image]));
                run("kind", &create)?;
                for archive in archives(images)? {
                    run("kind", &["load", "image-archive", &archive.display().to_string(), "--name", KIND_CLUSTER])?;
                }
                Ok(())
            }
            Place::Machine { cache, state } => {
                self.down()?;
                let cache = cache.display().to_string();
                run("e2e/machine/build", &[&cache])?;
                let own = state.join("images");
                std::fs::create_dir_all(&own)?;
                for archive in archives(images)? {
                    let name = archive.file_name().context("an archive has a name")?;
                    std::fs::copy(&archive, own.join(name)).context("an image can't be copied")?;
                }
                run("e2e/machine/up", &[&cache, &state.display().to_string(), "3"])
            }
        }
    }

    /// Removes the cluster, unless it was there before.
    ///
    /// # Errors
    /// It can't be removed.
    pub fn down(&self) -> anyhow::Result<()> {
        match self {
            Place::Context { .. } => Ok(()),
            Place::Kind { .. } => run("kind", &["delete", "cluster", "--name", KIND_CLUSTER]),
            Place::Machine { state, .. } => run("e2e/machine/down", &[&state.display().to_string()]),
        }
    }

    /// Whether others may use it too.
    pub fn is_shared(&self) -> bool {
        matches!(self, Place::Context { .. })
    }

    /// How one talks to it, once it is kept.
    pub fn hint(&self) -> String {
        match self {
            Place::Context { context } => format!("kubectl --context {context}"),
            Place::Kind { kubeconfig } => format!("KUBECONFIG={}", kubeconfig.display()),
            Place::Machine { cache, state } => {
                format!("KUBECONFIG={}/admin.conf {}/bin/kubectl", state.display(), cache.display())
            }
        }
    }

    /// kubectl, for this place.
    pub fn kubectl(&self) -> Command {
        self.tool("kubectl", "--context")
    }

    /// `kubectl appsockets`, for this place: what kubectl passes on to it has to stand behind its name.
    pub fn plugin(&self) -> Command {
        match self {
            Place::Context { context } => {
                let mut command = Command::new("kubectl");
                command.args(["appsockets", "--context", context]);
                command
            }
            Place::Kind { .. } | Place::Machine { .. } => {
                let mut command = self.kubectl();
                command.arg("appsockets");
                command
            }
        }
    }

    /// helm, for this place.
    pub fn helm(&self) -> Command {
        self.tool("helm", "--kube-context")
    }

    fn tool(&self, program: &str, context_option: &str) -> Command {
        let kubeconfig = |mut command: Command, path: &Path| {
            command.env("KUBECONFIG", path);
            command
        };
        match self {
            Place::Context { context } => {
                let mut command = Command::new(program);
                command.args([context_option, context]);
                command
            }
            Place::Kind { kubeconfig: path } => kubeconfig(Command::new(program), path),
            Place::Machine { cache, state } => {
                kubeconfig(Command::new(cache.join("bin").join(program)), &state.join("admin.conf"))
            }
        }
    }

    /// Where its kubeconfig is; None: where kubeconfigs are.
    pub fn kubeconfig(&self) -> (Option<PathBuf>, Option<String>) {
        match self {
            Place::Context { context } => (None, Some(context.clone())),
            Place::Kind { kubeconfig } => (Some(kubeconfig.clone()), None),
            Place::Machine { state, .. } => (Some(state.join("admin.conf")), None),
        }
    }

    /// Ends the program of a pod by `kill -9`. False: there is no means.
    pub fn kill(&self, program: &str, pod: &str) -> anyhow::Result<bool> {
        if !matches!(self, Place::Machine { .. }) {
            return Ok(false);
        }
        let name = format!("POD_NAME={pod}");
        for process in std::fs::read_dir("/proc")?.flatten() {
            let read = |file: &str| std::fs::read(process.path().join(file)).unwrap_or_default();
            let runs = read("cmdline").starts_with(format!("/usr/bin/{program}").as_bytes());
            if runs && read("environ").split(|byte| *byte == 0).any(|variable| variable == name.as_bytes()) {
                let pid = process.file_name().to_string_lossy().into_owned();
                return run("kill", &["-9", &pid]).map(|()| true);
            }
        }
        bail!("no process of {pod} runs here")
    }

    /// The link of a machine that can be cut off; None: there is no means.
    pub fn link(&self, machine: &str) -> Option<Link> {
        let number = machine.strip_prefix('n')?;
        matches!(self, Place::Machine { .. }).then(|| Link(format!("e2e-{number}")))
    }

    /// The way from one pod to another on a machine, by their addresses, that can be shut while all others stay open;
    /// None: there is no means.
    pub fn way(&self, machine: &str, from: &str, to: &str) -> Option<Way> {
        let number = machine.strip_prefix('n').filter(|_| matches!(self, Place::Machine { .. }))?;
        let into = (number != "1").then(|| format!("--net=/run/netns/e2e-{number}"));
        Some(Way { into, rule: ["FORWARD", "-s", from, "-d", to, "-j", "DROP"].map(str::to_owned).to_vec() })
    }

    /// The log of what the API server was asked to write, where it keeps one.
    pub fn audit_log(&self) -> Option<PathBuf> {
        match self {
            Place::Machine { state, .. } => Some(state.join("logs/audit.log")),
            _ => None,
        }
    }
}

/// The link of a machine to all others.
pub struct Link(String);

impl Link {
    pub fn cut(&self) -> anyhow::Result<()> {
        run("ip", &["link", "set", &self.0, "down"])
    }

    pub fn join(&self) -> anyhow::Result<()> {
        run("ip", &["link", "set", &self.0, "up"])
    }
}

/// What leads from one pod to another.
pub struct Way {
    /// Of the machine that it leads to, unless that is this one.
    into: Option<String>,
    rule: Vec<String>,
}

impl Way {
    pub fn shut(&self) -> anyhow::Result<()> {
        self.rule("-I")
    }

    pub fn open(&self) -> anyhow::Result<()> {
        self.rule("-D")
    }

    fn rule(&self, what: &str) -> anyhow::Result<()> {
        let mut line: Vec<_> = self.into.iter().map(String::as_str).collect();
        line.extend(["iptables", "-w", what]);
        line.extend(self.rule.iter().map(String::as_str));
        match self.into {
            Some(_) => run("nsenter", &line),
            None => run(line[0], &line[1..]),
        }
    }
}

fn archives(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("{} can't be read", folder.display()))?;
    let mut archives: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    archives.retain(|path| path.extension().is_some_and(|extension| extension == "tar"));
    archives.sort();
    Ok(archives)
}

fn works(program: &str, arguments: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn run(program: &str, arguments: &[&str]) -> anyhow::Result<()> {
    let line = format!("{program} {}", arguments.join(" "));
    let status = Command::new(program).args(arguments).status().with_context(|| format!("could not start: {line}"))?;
    match status.success() {
        true => Ok(()),
        false => bail!("failed ({status}): {line}"),
    }
}
