//! Random changes: once a resource says Ready, each node serves just that.

use anyhow::bail;
use appsockets_core::settings::resource::Resource as Served;
use appsockets_crds::{AuthProvider, ChannelRules, Hub, HubNamespace};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};

use super::{Chance, percentile};
use crate::{
    forward::Admin,
    kubernetes::{Kubernetes, SHOP},
};

const HUBS: usize = 8;

pub async fn run(kubernetes: &Kubernetes<'_>, changes: usize) -> anyhow::Result<()> {
    make(kubernetes)?;
    let token = kubernetes.admin_token(SHOP, "main").await?;
    let mut nodes = Vec::new();
    for pod in kubernetes.node_pods(SHOP).await? {
        nodes.push(Admin::of(kubernetes, SHOP, &pod.name_any(), &token).await?);
    }
    let mut chance = Chance::new(7);
    let mut waits = Vec::with_capacity(changes);
    let mut differences = 0;
    for change in 0..changes {
        let (object, resources) = patch(kubernetes, &mut chance, change).await?;
        waits.push(kubernetes.wait_ready(SHOP, &object, 10)?);
        for (number, node) in nodes.iter().enumerate() {
            for wanted in &resources {
                let served = node.get(&path(wanted)).await?.unwrap_or_default();
                if !serves(&served, wanted) {
                    differences += 1;
                    println!("change {change}: node {number} does not serve {object}: {served}");
                }
            }
        }
    }
    waits.sort();
    let [median, last] = [0.5, 0.99].map(|share| percentile(&waits, share).as_secs_f64() * 1000.0);
    println!(
        "changes: {changes}, differences on {} nodes: {differences}; wait median {median:.0} ms, p99 {last:.0} ms",
        nodes.len()
    );
    anyhow::ensure!(differences == 0, "a resource was Ready that a node did not serve");
    Ok(())
}

fn make(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let mut objects = Vec::new();
    for hub in 0..HUBS {
        let object = |kind: &str, name: String, spec: Value| {
            json!({
                "apiVersion": "appsockets.io/v1alpha1", "kind": kind, "spec": spec,
                "metadata": {"name": name, "namespace": SHOP},
            })
        };
        let name = format!("hub-{hub}");
        let hub_ref = json!({"name": name});
        objects.push(object("Hub", name.clone(), json!({"clusterRef": {"name": "main"}})));
        for rules in ["rules", "others"] {
            objects.push(object("ChannelRules", format!("{rules}-{hub}"), json!({"hubRef": hub_ref})));
        }
        let spec = json!({"hubRef": hub_ref, "rulesRef": {"name": format!("rules-{hub}")}});
        objects.push(object("Namespace", format!("space-{hub}"), spec));
        let spec = json!({"hubRef": hub_ref, "http": {"url": "https://auth.example/check"}});
        objects.push(object("AuthProvider", format!("auth-{hub}"), spec));
    }
    kubernetes.apply_value(&json!({"apiVersion": "v1", "kind": "List", "items": objects}))?;
    for hub in 0..HUBS {
        for kind in ["hub/hub", "channelrules/rules", "hns/space", "authprovider/auth"] {
            kubernetes.wait_ready(SHOP, &format!("{kind}-{hub}"), 30)?;
        }
    }
    Ok(())
}

/// Changes something, and gives what it is called and what nodes ought to serve.
async fn patch(
    kubernetes: &Kubernetes<'_>,
    chance: &mut Chance,
    change: usize,
) -> anyhow::Result<(String, Vec<Served>)> {
    let hub = chance.below(HUBS);
    let params = PatchParams::default();
    let client = || kubernetes.client.clone();
    match chance.below(4) {
        0 => {
            let spec = json!({
                "allowAnonymous": chance.either(), "defaultPublic": chance.either(), "userChannel": chance.either(),
                "limits": {"connections": change + 1}, "allowedOrigins": [format!("https://{change}.example")],
            });
            let name = format!("hub-{hub}");
            let api: Api<Hub> = Api::namespaced(client(), SHOP);
            let changed = api.patch(&name, &params, &Patch::Merge(json!({"spec": spec}))).await?;
            Ok((format!("hub/{name}"), vec![changed.resource()]))
        }
        1 => {
            let spec = json!({
                "presence": chance.either(), "public": chance.either(), "allowRetain": chance.either(),
                "channels": [format!("one-{change}"), format!("two-{change}")],
            });
            let name = format!("rules-{hub}");
            let api: Api<ChannelRules> = Api::namespaced(client(), SHOP);
            let changed = api.patch(&name, &params, &Patch::Merge(json!({"spec": spec}))).await?;
            Ok((format!("channelrules/{name}"), changed.resources(&format!("hub-{hub}"))))
        }
        2 => {
            // Without secrets, of which nodes show nothing.
            let spec = json!({
                "http": {"url": format!("https://{change}.example/check"), "timeoutMs": change % 60_000 + 1},
                "jwt": {"jwksUrl": format!("https://{change}.example/keys"), "issuer": format!("issuer-{change}")},
            });
            let name = format!("auth-{hub}");
            let api: Api<AuthProvider> = Api::namespaced(client(), SHOP);
            let changed = api.patch(&name, &params, &Patch::Merge(json!({"spec": spec}))).await?;
            let served = changed.resource(&format!("hub-{hub}"), |_| bail!("it has no secret"))?;
            Ok((format!("authprovider/{name}"), vec![served]))
        }
        _ => {
            let name = format!("space-{hub}");
            let api: Api<HubNamespace> = Api::namespaced(client(), SHOP);
            let rules = if chance.either() { "rules" } else { "others" };
            let patch = json!({"spec": {"rulesRef": {"name": format!("{rules}-{hub}")}}});
            let changed = api.patch(&name, &params, &Patch::Merge(patch)).await?;
            Ok((format!("hns/{name}"), vec![changed.resource(&format!("hub-{hub}"))]))
        }
    }
}

fn path(resource: &Served) -> String {
    let id = resource.id();
    let (hub, name) = (&id.hub, &id.name);
    match resource {
        Served::Hub { .. } => format!("/v1/hubs/{hub}"),
        Served::ChannelRules { .. } => format!("/v1/hubs/{hub}/channel-rules/{name}"),
        Served::Namespace { .. } => format!("/v1/hubs/{hub}/namespaces/{name}"),
        Served::Channel { .. } => format!("/v1/hubs/{hub}/channels/{name}"),
        Served::AuthProvider { .. } => format!("/v1/hubs/{hub}/auth-provider"),
    }
}

/// Whether a node shows the same, from the operator.
fn serves(shown: &Value, wanted: &Served) -> bool {
    let mut wanted = json!(wanted);
    wanted["source"] = "operator".into();
    *shown == wanted
}
