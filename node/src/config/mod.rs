//! What an administrator configures: a file and environment variables, which go before it. Everything has a default.
//!
//! All that is wrong is told at once, each with its place and what to write instead. The keys are described in
//! [`keys`] and nowhere else.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fmt, fs,
    path::{Path, PathBuf},
};

use appsockets_core::settings::problem::Problem;

mod check;
mod keys;
mod leaves;
mod reading;
mod reference;
pub(crate) mod section;
#[cfg(test)]
mod tests;
mod variables;
mod yaml;

pub use keys::{
    AdminConfig, ChannelConfig, ClusterConfig, Config, ConnectionConfig, DebugConfig, DiscoveryConfig, EngineConfig,
    HubConfig, MembershipConfig, MetricsConfig, OperatorConfig, RpcConfig, SessionConfig, SseConfig, StorageConfig,
    TlsConfig, WsConfig,
};
use leaves::Leaf;
use reading::{Given, Reading};
pub use reference::reference;
use section::Kind;
pub use variables::VARIABLES_OF_THE_TOOL;

use crate::secret::is_usable;

/// All that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl std::error::Error for Problems {}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid")?;
        self.0.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

impl Config {
    /// The configuration of a file, if there is one, and of environment variables, given as names and values.
    ///
    /// # Errors
    /// A file can't be read, or something that is written is wrong.
    pub fn load(
        file: Option<&Path>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, Problems> {
        let Some(path) = file else { return Config::from_sources("", "", environment) };
        let name = path.display().to_string();
        match fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => Config::from_sources(&name, &text, environment),
            Ok(Err(_)) => Err(Problems(vec![Problem::new(name, "Write the file in UTF-8.")])),
            Err(error) => Err(Problems(vec![Problem::new(name, format!("The file can't be read: {error}."))])),
        }
    }

    fn from_sources(
        name: &str,
        text: &str,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Config, Problems> {
        let leaves = leaves::leaves();
        let mut reading = Reading::new(&leaves);
        match yaml::parse(name, text) {
            Ok(Some(document)) => reading.section("", &document),
            Ok(None) => {}
            Err(yaml::Unreadable { place, sentence }) => reading.problem(&place, "", sentence),
        }
        let variables = variables::read(&leaves, environment);
        let (mut given, mut problems) = (reading.given, reading.problems);
        given.extend(variables.given);
        problems.extend(variables.problems);
        let (files, unreadable) = read_files(&leaves, &mut given);
        problems.extend(unreadable);
        let config = assemble(&given).map_err(|problem| Problems(vec![problem]))?;
        if problems.is_empty() {
            problems = check::problems(&config, &given);
        }
        follow(&config, &leaves, files);
        if problems.is_empty() { Ok(config) } else { Err(Problems(problems)) }
    }
}

/// Secrets that came from files go on following them.
fn follow(config: &Config, leaves: &[Leaf], files: BTreeMap<String, PathBuf>) {
    let secrets = [
        ("auth.sessionSecret", &config.auth.session_secret),
        ("admin.token", &config.admin.token),
        ("cluster.membership.secretKey", &config.cluster.membership.secret_key),
        ("cluster.rpc.secretKey", &config.cluster.rpc.secret_key),
        ("nats.url", &config.nats.url),
    ];
    for (path, file) in files {
        let secret = secrets.iter().find(|(name, _)| *name == path);
        let kind = leaves.iter().find(|leaf| leaf.path == path).map(|leaf| &leaf.value.kind);
        if let (Some((_, secret)), Some(Kind::Secret(bytes_min))) = (secret, kind) {
            secret.comes_from(file, *bytes_min);
        }
    }
}

/// Replaces the names of files by what is in them, and gives the files with the paths of the keys.
fn read_files(leaves: &[Leaf], given: &mut Given) -> (BTreeMap<String, PathBuf>, Vec<Problem>) {
    let (mut files, mut problems) = (BTreeMap::new(), Vec::new());
    for (path, setting) in given.iter_mut().filter(|(_, setting)| setting.from_file) {
        let kind = leaves.iter().find(|leaf| leaf.path == *path).map(|leaf| &leaf.value.kind);
        let file = setting.value.as_str().unwrap_or_default().to_owned();
        match read_secret(&file, kind) {
            Ok(secret) => setting.value = secret.into(),
            Err(sentence) => problems.push(Problem::new(setting.named(), sentence)),
        }
        files.insert(path.clone(), file.into());
    }
    (files, problems)
}

fn read_secret(path: &str, kind: Option<&Kind>) -> Result<String, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("The file {path} can't be read: {error}."))?;
    // Editors end every line, also the only one.
    let secret = text.strip_suffix('\n').map_or(text.as_str(), |line| line.strip_suffix('\r').unwrap_or(line));
    match kind {
        Some(kind @ Kind::Secret(bytes_min)) if !is_usable(secret, *bytes_min) => {
            Err(format!("Write {kind} into the file {path}."))
        }
        _ => Ok(secret.to_owned()),
    }
}

/// The defaults with the values that are given.
fn assemble(given: &Given) -> Result<Config, Problem> {
    let internal = |error: serde_json::Error| Problem::new("the configuration", error.to_string());
    let mut config = serde_json::to_value(Config::default()).map_err(internal)?;
    for (path, setting) in given {
        if let Some(value) = path.split('.').try_fold(&mut config, |value, name| value.get_mut(name)) {
            *value = setting.value.clone();
        }
    }
    serde_json::from_value(config).map_err(internal)
}
