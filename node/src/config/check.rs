//! What is wrong with values only beside one another.

use appsockets_core::settings::{problem::Problem, resource::Resource, subject};

use tracing_subscriber::EnvFilter;

use super::{Config, EngineConfig, OperatorConfig, TlsConfig, reading::Given};
use crate::nats::{NatsConfig, Servers};

/// All of it.
pub fn problems(config: &Config, given: &Given) -> Vec<Problem> {
    let named = |path: &str| given.get(path).map_or_else(|| path.to_owned(), |setting| setting.named());
    let mut problems = Vec::new();
    for (section, TlsConfig { certificate, key }) in [("tls", &config.tls), ("admin.tls", &config.admin.tls)] {
        let (there, missing) = match (certificate, key) {
            (Some(_), None) => ("certificate", "key"),
            (None, Some(_)) => ("key", "certificate"),
            (Some(_), Some(_)) | (None, None) => continue,
        };
        let sentence = format!("Set `{section}.{missing}` as well.");
        problems.push(Problem::new(named(&format!("{section}.{there}")), sentence));
    }
    let auth = &config.auth;
    if auth.issuer.is_empty() {
        problems.push(Problem::new(named("auth.issuer"), "Write a text that is not empty."));
    }
    if auth.jwks_stale_max_ms < auth.jwks_max_age_ms {
        let paths = ["auth.jwksStaleMaxMs", "auth.jwksMaxAgeMs"];
        let path = paths.into_iter().find(|path| given.contains_key(*path)).unwrap_or(paths[0]);
        let sentence = "`jwksStaleMaxMs` must not be less than `jwksMaxAgeMs`.";
        problems.push(Problem::new(named(path), sentence));
    }
    if config.debug.level.parse::<EnvFilter>().is_err() {
        let sentence = "Write `error`, `warn`, `info`, `debug` or `trace`, each alone or after a part and `=`, with commas \
                        between them.";
        problems.push(Problem::new(named("debug.level"), sentence));
    }
    if config.cluster.listen.is_some() {
        let secrets = [
            ("cluster.membership.secretKey", &config.cluster.membership.secret_key),
            ("cluster.rpc.secretKey", &config.cluster.rpc.secret_key),
        ];
        for (path, _) in secrets.into_iter().filter(|(_, secret)| secret.is_empty()) {
            let sentence = "Write a text of at least 16 bytes, the same on all nodes: `cluster.listen` is set.";
            problems.push(Problem::new(named(path), sentence));
        }
        if config.cluster.name.is_empty() {
            problems.push(Problem::new(named("cluster.name"), "Write a text that is not empty."));
        }
    }
    if config.operator.listen.is_some() {
        let OperatorConfig { listen: _, certificate, key, authority } = &config.operator;
        let files = [("certificate", certificate), ("key", key), ("authority", authority)];
        for (name, _) in files.into_iter().filter(|(_, file)| file.is_none()) {
            let path = format!("operator.{name}");
            problems.push(Problem::new(named(&path), "Write the path of a PEM file: `operator.listen` is set."));
        }
        if config.cluster.membership.secret_key.is_empty() && config.cluster.listen.is_none() {
            let sentence = "Write a text of at least 16 bytes: what the operator says is kept under it.";
            problems.push(Problem::new(named("cluster.membership.secretKey"), sentence));
        }
    }
    problems.extend(of_nats(&config.nats, &config.engine).map(|(path, sentence)| Problem::new(named(path), sentence)));
    let hub = Resource::Hub { name: "dynamic".to_owned(), spec: config.engine.dynamic_hub.clone() };
    problems.extend(hub.problems().into_iter().map(|Problem { place, sentence }| {
        let field = place.trim_start_matches("spec.").split('[').next().unwrap_or_default().to_owned();
        Problem::new(named(&format!("engine.dynamicHub.{field}")), sentence)
    }));
    problems
}

/// By the key that it concerns.
fn of_nats(nats: &NatsConfig, engine: &EngineConfig) -> impl Iterator<Item = (&'static str, &'static str)> {
    let url = nats.url.first();
    let unreadable = Servers::parse(&url).err().filter(|_| !url.is_empty());
    let patterns = nats.auth_subjects.iter().all(|pattern| subject::is_pattern(pattern));
    let sentence = "Write subjects such as appsockets.auth.>, without spaces, and with `*` and `>` only in the place of whole \
                    parts, `>` at the end.";
    let patterns = (!patterns).then_some(("nats.authSubjects", sentence));
    let template = engine.dynamic_hub_auth_subject.as_deref();
    let sentence = "Write a subject of at most 200 bytes in which `{hub}` stands once, alone between dots, such as \
                    appsockets.auth.{hub}.";
    let malformed = template.filter(|template| !subject::is_template(template)).map(|_| sentence);
    let is_allowed = |subject: &str| nats.auth_subjects.iter().any(|pattern| subject::matches(pattern, subject));
    let sentence = "Write a subject that `nats.authSubjects` has, or add this one there.";
    let forbidden = template.filter(|template| !is_allowed(template)).map(|_| sentence);
    let of_template = malformed.or(forbidden).map(|sentence| ("engine.dynamicHubAuthSubject", sentence));
    unreadable.map(|sentence| ("nats.url", sentence)).into_iter().chain(patterns).chain(of_template)
}
