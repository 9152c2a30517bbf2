//! What the operator may do, and where secrets do not come to.

use anyhow::{bail, ensure};
use k8s_openapi::api::core::v1::Secret as Object;
use kube::{Api, ResourceExt, api::ListParams};

use crate::kubernetes::{Kubernetes, SHOP, SYSTEM};

const OPERATOR: &str = "--as=system:serviceaccount:appsockets-system:appsockets-operator";
/// A shorter value may stand somewhere by chance.
const SECRET_BYTES_MIN: usize = 16;

/// A value that nobody is to read elsewhere.
pub struct Secret {
    pub name: String,
    pub key: String,
    pub value: String,
}

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let rights = kubernetes.kubectl(&["auth", "can-i", "--list", OPERATOR, "-n", SYSTEM])?;
    // Everybody may ask the API server what it has, and what they themselves may do.
    let own = rights.lines().filter(|line| !line.contains("selfsubject") && !line.trim_start().starts_with('['));
    let wild: Vec<_> = own.filter(|line| line.contains('*')).collect();
    ensure!(wild.is_empty(), "the operator may do everything with something: {wild:?}");
    for verb in ["get", "list", "watch", "create", "patch", "delete"] {
        let question = ["auth", "can-i", verb, "secrets", "--all-namespaces", OPERATOR];
        // The answer no is a failure of kubectl, too.
        ensure!(kubernetes.kubectl(&question).is_err(), "the operator may {verb} the Secrets of all namespaces");
    }
    for verb in ["delete", "patch", "update"] {
        let question = ["auth", "can-i", verb, "hubs.appsockets.io", "--all-namespaces", OPERATOR];
        ensure!(kubernetes.kubectl(&question).is_err(), "the operator may {verb} tenants' hubs");
    }
    let hooks = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
    let hooks = kubernetes.kubectl(&["get", hooks, "-o", "name"])?;
    ensure!(!hooks.contains("appsockets"), "there is a webhook: {hooks}");
    let searched = searched(kubernetes).await?;
    println!(
        "rights: no wildcard, no Secrets of all namespaces, no webhook; no secret in {searched} bytes of logs and objects"
    );
    Ok(())
}

/// Looks for every secret in what is logged and shown, and gives how many bytes that was.
async fn searched(kubernetes: &Kubernetes<'_>) -> anyhow::Result<usize> {
    let secrets = secrets(kubernetes).await?;
    ensure!(secrets.len() > 5, "there are hardly any secrets to look for");
    let logs = |namespace: &'static str, name: &'static str| {
        ["-n", namespace, "logs", "-l", name, "--tail=-1", "--prefix", "--max-log-requests=20"]
    };
    let mut bytes = 0;
    for question in [
        &logs(SYSTEM, "app.kubernetes.io/name=appsockets-operator")[..],
        &logs(SHOP, "app.kubernetes.io/name=appsockets"),
        &["get", "events.events.k8s.io", "-A", "-o", "json"],
        &["get", "appsockets,pods,statefulsets,services,configmaps", "-A", "-o", "json"],
    ] {
        let said = kubernetes.kubectl(question)?;
        if let Some(found) = secrets.iter().find(|secret| said.contains(&secret.value)) {
            bail!(
                "{} of the Secret {} stands in what this says: kubectl {}",
                found.key,
                found.name,
                question.join(" ")
            );
        }
        bytes += said.len();
    }
    Ok(bytes)
}

/// The values of all Secrets that the operator has made, apart from certificates, which everybody may see.
pub async fn secrets(kubernetes: &Kubernetes<'_>) -> anyhow::Result<Vec<Secret>> {
    let api: Api<Object> = Api::namespaced(kubernetes.client.clone(), SHOP);
    let mut all = Vec::new();
    for object in api.list(&ListParams::default()).await?.items {
        let name = object.name_any();
        for (key, value) in object.data.unwrap_or_default() {
            let value = String::from_utf8(value.0).unwrap_or_default();
            // Of a key of several lines each is one to look for.
            let lines = value.lines().filter(|line| line.len() >= SECRET_BYTES_MIN && !line.starts_with("-----"));
            if !key.ends_with(".crt") {
                all.extend(lines.map(|line| Secret { name: name.clone(), key: key.clone(), value: line.to_owned() }));
            }
        }
    }
    Ok(all)
}
