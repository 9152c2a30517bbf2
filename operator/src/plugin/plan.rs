//! What resources would change.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write},
    path::Path,
    sync::Arc,
};

use anyhow::{Context, bail};
use appsockets_core::settings::entry::ResourceId;
use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Secret};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{DynamicObject, ListParams, Patch, PatchParams},
    core::GroupVersionKind,
    discovery::ApiResource,
};
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::pods;
use crate::{
    children::{Role, asks_for_other_pods},
    resolve::{Resolved, Wanted, key_of, resolve},
    verdict::Verdict,
    world::{ClusterKey, Guarded, Read, Secrets, World},
};

/// Resources in one answer of the API server.
const PAGE: u32 = 500;

pub async fn text(client: &Client, namespace: &str, file: &Path) -> anyhow::Result<String> {
    let documents = std::fs::read_to_string(file).with_context(|| format!("{} can't be read", file.display()))?;
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&documents).with_context(|| format!("{} is no YAML", file.display()))?;
    let before = world(client).await?;
    let mut after = before.clone();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        put(client, namespace, document, &mut after).await?;
    }
    let (old, new) = (resolve(&before), resolve(&after));
    let mut text = String::new();
    for (cluster, wanted) in &new.wanted {
        let nodes: Vec<_> = pods(client, &cluster.0, &cluster.1).await?.iter().map(ResourceExt::name_any).collect();
        let empty = Arc::default();
        let changes = changes(old.wanted.get(cluster).unwrap_or(&empty), wanted);
        let pods = of_pods(&before, &after, cluster);
        if changes.is_empty() && pods.is_empty() {
            continue;
        }
        // A String takes all that is written.
        _ = writeln!(text, "{}/{}, nodes {}:", cluster.0, cluster.1, nodes.join(", "));
        changes.iter().chain(&pods).for_each(|line| _ = writeln!(text, "  {line}"));
    }
    verdicts(&old, &new, &mut text);
    Ok(if text.is_empty() { "Nothing would change.\n".to_owned() } else { text })
}

/// Everything that the caller may see.
async fn world(client: &Client) -> anyhow::Result<World> {
    let mut world = World {
        scope: None,
        clusters: all::<AppSocketsCluster>(client).await?,
        hubs: all::<Hub>(client).await?,
        rules: all::<ChannelRules>(client).await?,
        namespaces: all::<HubNamespace>(client).await?,
        providers: all::<AuthProvider>(client).await?,
        secrets: BTreeMap::new(),
    };
    let providers = world.providers.iter().filter_map(|provider| provider.0.as_ref().ok());
    let referring = providers.filter(|provider| provider.secrets().next().is_some());
    let namespaces: BTreeSet<_> = referring.filter_map(ResourceExt::namespace).collect();
    for namespace in namespaces {
        let api: Api<Secret> = Api::namespaced(client.clone(), &namespace);
        // Who may not read them sees the same whatever they say.
        let secrets = match api.list(&ListParams::default()).await {
            Ok(list) => Secrets::Read(list.items.into_iter().map(|item| (item.name_any(), Arc::new(item))).collect()),
            Err(_) => Secrets::Forbidden,
        };
        world.secrets.insert(namespace, secrets);
    }
    Ok(world)
}

async fn all<K>(client: &Client) -> anyhow::Result<Vec<Read<K>>>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let api: Api<Guarded<K>> = Api::all(client.clone());
    let mut params = ListParams::default().limit(PAGE);
    let mut found = Vec::new();
    loop {
        let page = api.list(&params).await.with_context(|| format!("{}s can't be listed", K::kind(&())))?;
        found.extend(page.items.into_iter().map(Arc::new));
        match page.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => params = params.continue_token(&next),
            None => return Ok(found),
        }
    }
}

/// Asks the API server what would become of a resource, and puts that into the world.
async fn put(client: &Client, namespace: &str, document: Value, world: &mut World) -> anyhow::Result<()> {
    let mut object: DynamicObject = serde_json::from_value(document).context("a document is no resource")?;
    let kind = object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    let plural = match &*kind {
        "AppSocketsCluster" => "appsocketsclusters",
        "Hub" => "hubs",
        "ChannelRules" => "channelrules",
        "Namespace" => "hubnamespaces",
        "AuthProvider" => "authproviders",
        _ => bail!("{kind} {} is nothing of AppSockets", object.name_any()),
    };
    let gvk = GroupVersionKind::gvk(appsockets_crds::GROUP, "v1alpha1", &kind);
    let resource = ApiResource::from_gvk_with_plural(&gvk, plural);
    let namespace = object.namespace().unwrap_or_else(|| namespace.to_owned());
    object.metadata.namespace = Some(namespace.clone());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &namespace, &resource);
    let params = PatchParams { dry_run: true, ..PatchParams::apply("kubectl-appsockets").force() };
    let name = object.name_any();
    let would = api.patch(&name, &params, &Patch::Apply(&object)).await;
    let would = would.with_context(|| format!("the API server would not take {kind} {namespace}/{name}"))?;
    let would = serde_json::to_value(would)?;
    match plural {
        "appsocketsclusters" => replace(&mut world.clusters, would),
        "hubs" => replace(&mut world.hubs, would),
        "channelrules" => replace(&mut world.rules, would),
        "hubnamespaces" => replace(&mut world.namespaces, would),
        _ => replace(&mut world.providers, would),
    }
}

fn replace<K>(all: &mut Vec<Read<K>>, new: Value) -> anyhow::Result<()>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned,
{
    let new: Guarded<K> = serde_json::from_value(new)?;
    all.retain(|old| (old.namespace(), old.name_any()) != (new.namespace(), new.name_any()));
    all.push(Arc::new(new));
    Ok(())
}

/// What the nodes of a cluster would serve otherwise.
fn changes(old: &Wanted, new: &Wanted) -> Vec<String> {
    let ids: BTreeSet<_> = old.entries.keys().chain(new.entries.keys()).collect();
    let change = |id: &ResourceId| {
        let what = match (old.entries.get(id), new.entries.get(id)) {
            (None, Some(_)) => "serve",
            (Some(_), None) => "no longer serve",
            (Some(old), Some(new)) if old.resource != new.resource => "serve otherwise",
            _ => return None,
        };
        let ResourceId { hub, kind, name } = id;
        Some(match **name == **hub {
            true => format!("{what} {} {hub}", kind.name()),
            false => format!("{what} {} {name} of the hub {hub}", kind.name()),
        })
    };
    ids.into_iter().filter_map(change).collect()
}

/// What would become of a cluster's pods.
fn of_pods(before: &World, after: &World, key: &ClusterKey) -> Vec<String> {
    let find = |world: &World| {
        let mut known = world.clusters.iter().filter_map(|cluster| cluster.0.as_ref().ok());
        known.find(|cluster| key_of(cluster) == *key).cloned()
    };
    let (old, new) = (find(before), find(after));
    let Some(new) = new else { return Vec::new() };
    let mut lines = Vec::new();
    for role in [Role::Core, Role::Edge] {
        let (name, wanted) = (role.name(), role.wanted(&new));
        let before = old.as_ref().map_or(0, |old| role.wanted(old));
        let replaced = old.as_ref().is_some_and(|old| asks_for_other_pods(&old.spec, &new.spec, role));
        if replaced && before > 0 && wanted > 0 {
            lines.push(format!("each pod of {name} nodes would be replaced, one after the other"));
        }
        if before != wanted {
            lines.push(format!("there would be {wanted} pods of {name} nodes instead of {before}"));
        }
    }
    lines
}

/// Resources that would be told something else.
fn verdicts(old: &Resolved, new: &Resolved, text: &mut String) {
    for (key, verdict) in &new.verdicts {
        if old.verdicts.get(key) == Some(verdict) {
            continue;
        }
        match verdict {
            Verdict::Wanted => {}
            Verdict::Waiting { message, .. } => _ = writeln!(text, "{key} would wait: {message}"),
            Verdict::Stalled { message, .. } => _ = writeln!(text, "{key} would not be served: {message}"),
        }
    }
}
