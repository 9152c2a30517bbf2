//! What is wrong is refused by the API server itself, with words that tell what to do.

use anyhow::Context;
use kube::{
    Api, ResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, PostParams, TypeMeta},
    core::GroupVersionKind,
};
use serde_json::Value;

use crate::kubernetes::{Kubernetes, SHOP};

/// How often an object is tried that somebody else changes at the same time.
const TRIES: usize = 10;

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let samples: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string("crds/tests/refused.yaml")?)?;
    let mut wrong = Vec::new();
    for sample in &samples {
        let says = sample["says"].as_str().context("a sample says something")?;
        let said = match verdict(kubernetes, sample).await? {
            Some(said) if said.contains(says) => continue,
            Some(said) => said,
            None => "nothing, and takes it".to_owned(),
        };
        wrong.push(format!("{}: expected {says:?}, the API server says {said}", sample["object"]));
    }
    println!("refused: {} of {} invalid objects, with the words expected", samples.len() - wrong.len(), samples.len());
    anyhow::ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    let webhooks =
        kubernetes.kubectl(&["get", "validatingwebhookconfigurations,mutatingwebhookconfigurations", "-o", "name"])?;
    anyhow::ensure!(!webhooks.contains("appsockets"), "there are webhooks: {webhooks}");
    Ok(())
}

/// What the API server says of a sample, without taking it; None: it would take it.
async fn verdict(kubernetes: &Kubernetes<'_>, sample: &Value) -> anyhow::Result<Option<String>> {
    let mut object: DynamicObject = serde_json::from_value(sample["object"].clone())?;
    let TypeMeta { api_version, kind } = object.types.clone().context("a sample has a kind")?;
    let (group, version) = api_version.split_once('/').context("a sample has a group")?;
    let plural = if kind == "Namespace" { "hubnamespaces".to_owned() } else { kind.to_lowercase() };
    // Rules are many by their name already.
    let plural = if plural.ends_with('s') { plural } else { format!("{plural}s") };
    let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, &kind), &plural);
    let api: Api<DynamicObject> = Api::namespaced_with(kubernetes.client.clone(), SHOP, &resource);
    let only_try = PostParams { dry_run: true, ..PostParams::default() };
    let tried = if sample["was"].is_null() {
        api.create(&only_try, &object).await
    } else {
        let was: DynamicObject = serde_json::from_value(sample["was"].clone())?;
        let made = api.create(&PostParams::default(), &was).await.context("what was there is right")?;
        object.metadata.resource_version = made.resource_version();
        let mut tried = api.replace(&made.name_any(), &only_try, &object).await;
        // The status may have been written meanwhile, which makes it another version.
        for _ in 0..TRIES {
            if !matches!(&tried, Err(kube::Error::Api(status)) if status.code == 409) {
                break;
            }
            object.metadata.resource_version = api.get(&made.name_any()).await?.resource_version();
            tried = api.replace(&made.name_any(), &only_try, &object).await;
        }
        api.delete(&made.name_any(), &DeleteParams::default()).await?;
        tried
    };
    match tried {
        Ok(_) => Ok(None),
        Err(kube::Error::Api(status)) => Ok(Some(status.message.clone())),
        Err(error) => Err(error.into()),
    }
}
