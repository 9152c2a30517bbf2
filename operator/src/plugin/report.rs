//! What helps to understand a fault.

use std::{fs, path::Path};

use anyhow::Context;
use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        core::v1::{Pod, Service},
        events::v1::Event,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, LogParams},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::{metrics, status};
use crate::children::{CLUSTER_LABEL, MANAGED_BY};

/// Lines of a log that are kept.
const LOG_LINES: i64 = 5000;

pub async fn write(client: &Client, namespace: &str, folder: &Path) -> anyhow::Result<String> {
    fs::create_dir(folder).with_context(|| format!("{} can't be made, or is there already", folder.display()))?;
    let put = |name: &str, text: String| {
        fs::write(folder.join(name), text).with_context(|| format!("{name} can't be written"))
    };
    // What can't be had is part of what is to be understood.
    let told = |outcome: anyhow::Result<String>| outcome.unwrap_or_else(|error| format!("{error:#}\n"));
    put("status.txt", told(status::text(client, namespace, None).await))?;
    put("clusters.json", told(objects::<AppSocketsCluster>(client, namespace, "").await))?;
    put("hubs.json", told(objects::<Hub>(client, namespace, "").await))?;
    put("channelrules.json", told(objects::<ChannelRules>(client, namespace, "").await))?;
    put("hubnamespaces.json", told(objects::<HubNamespace>(client, namespace, "").await))?;
    put("authproviders.json", told(objects::<AuthProvider>(client, namespace, "").await))?;
    let ours = format!("{}={}", MANAGED_BY.0, MANAGED_BY.1);
    put("statefulsets.json", told(objects::<StatefulSet>(client, namespace, &ours).await))?;
    put("services.json", told(objects::<Service>(client, namespace, &ours).await))?;
    put("budgets.json", told(objects::<PodDisruptionBudget>(client, namespace, &ours).await))?;
    put("pods.json", told(objects::<Pod>(client, namespace, &ours).await))?;
    put("events.json", told(objects::<Event>(client, namespace, "").await))?;
    let pods: Api<Pod> = Api::all(client.clone());
    let nodes = pods.list(&ListParams::default().labels(CLUSTER_LABEL)).await?.items;
    let operators = pods.list(&ListParams::default().labels("app.kubernetes.io/name=appsockets-operator")).await?.items;
    for pod in nodes.iter().filter(|pod| pod.namespace().as_deref() == Some(namespace)) {
        put(&format!("{}.metrics", pod.name_any()), told(metrics(client, pod).await))?;
        put(&format!("{}.log", pod.name_any()), told(log(client, pod).await))?;
    }
    for pod in &operators {
        put(&format!("{}.log", pod.name_any()), told(log(client, pod).await))?;
    }
    Ok(format!("{} is written. It has no Secret; look through it before you give it away.\n", folder.display()))
}

async fn objects<K>(client: &Client, namespace: &str, selector: &str) -> anyhow::Result<String>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Serialize
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(client.clone(), namespace);
    let list = api.list(&ListParams::default().labels(selector)).await?;
    let mut items = serde_json::to_value(list.items)?;
    hide(&mut items);
    Ok(serde_json::to_string_pretty(&items)?)
}

async fn log(client: &Client, pod: &Pod) -> anyhow::Result<String> {
    let api: Api<Pod> = Api::namespaced(client.clone(), &pod.namespace().unwrap_or_default());
    let params = LogParams { tail_lines: Some(LOG_LINES), timestamps: true, ..LogParams::default() };
    Ok(api.logs(&pod.name_any(), &params).await?)
}

/// What configuration may have of secrets in clear.
fn hide(value: &mut Value) {
    const SECRET: [&str; 4] = ["secret", "token", "password", "key"];
    let is_secret = |name: &str| {
        let name = name.to_lowercase();
        SECRET.iter().any(|word| name.ends_with(word)) || name.contains("url")
    };
    match value {
        Value::Object(fields) => {
            // An environment variable has its name and its value beside each other.
            let variable = fields.get("name").and_then(Value::as_str).is_some_and(is_secret);
            for (name, value) in fields {
                match value {
                    Value::String(text) if is_secret(name) || (variable && name == "value") => {
                        "hidden".clone_into(text);
                    }
                    // Copies of whole objects, in which nothing can be found.
                    Value::String(text)
                        if name.starts_with("appsockets.io/pods-") || name.ends_with("last-applied-configuration") =>
                    {
                        "left out".clone_into(text);
                    }
                    other => hide(other),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::hide;

    #[test]
    fn what_is_secret_in_configuration_is_hidden() {
        let mut value = json!({
            "spec": {"config": {"auth.sessionSecret": "s3cret", "session.rateLimit": "7", "store.postgres.url": "postgres://u:p@h"}},
            "env": [{"name": "APPSOCKETS_ADMIN__TOKEN", "value": "t0ken"}, {"name": "APPSOCKETS_LISTEN", "value": "0.0.0.0:1"}],
            "annotations": {"appsockets.io/pods-asked": "{\"config\":{\"auth.sessionSecret\":\"s3cret\"}}"},
        });
        hide(&mut value);
        let text = value.to_string();
        for secret in ["s3cret", "t0ken", "u:p"] {
            assert!(!text.contains(secret), "{text}");
        }
        assert!(text.contains("0.0.0.0:1") && text.contains("\"7\""), "{text}");
    }
}
