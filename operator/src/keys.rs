//! Makes the Secrets of each cluster, and has nodes exchange their keys where that is asked for.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::Context;
use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tracing::{info, warn};

use crate::{
    apply::{MANAGER, Problem, owned, refused},
    children::{Names, secrets},
    events::{Events, Note},
    pods,
    resolve::key_of,
    rolling::Rolling,
    rotation::{self, Holder, Phase, ROTATE, Step, Waiting},
    told::Told,
    world::Secrets,
};

/// Passes by itself within a moment.
pub const READING: &str = "ReadingSecrets";
/// On a pod: which keys its machine is to give it. A change has that done at once, and not within a minute or two.
const KEYS: &str = "appsockets.io/keys";

/// How far exchanges of keys have come.
pub type Rotations = Told<Waiting>;

/// Keeps the Secrets of clusters.
pub struct Keys {
    pub client: Client,
    pub rotations: Arc<Rotations>,
    pub events: Events,
}

/// The Secrets of a cluster.
struct Own {
    keys: Arc<Secret>,
    authority: Arc<Secret>,
    certificate: Arc<Secret>,
}

impl Keys {
    /// Makes the Secrets that lack, and takes the next step of an exchange. What is there is not changed otherwise.
    pub async fn ensure(
        &self,
        cluster: &AppSocketsCluster,
        secrets: Option<&Secrets>,
        rolling: &Rolling,
    ) -> Result<(), Problem> {
        let there = readable(cluster, secrets)?;
        let names = Names::of(cluster);
        for name in [&names.keys, &names.authority, &names.node_certificate] {
            if let Some(found) = there.get(name) {
                owned(cluster, "Secret", &**found)?;
            }
        }
        let own = self.own(cluster, &names, there).await.map_err(not_made)?;
        self.exchange(cluster, own, rolling).await
    }

    /// What is there, and otherwise is made.
    async fn own(
        &self,
        cluster: &AppSocketsCluster,
        names: &Names,
        there: &BTreeMap<String, Arc<Secret>>,
    ) -> anyhow::Result<Own> {
        let keys = match there.get(&names.keys) {
            Some(keys) => keys.clone(),
            None => self.create(secrets::keys(cluster)?).await?,
        };
        let authority = match there.get(&names.authority) {
            Some(authority) => authority.clone(),
            None => self.create(secrets::authority(cluster)?).await?,
        };
        let certificate = match there.get(&names.node_certificate) {
            Some(certificate) => certificate.clone(),
            None => self.create(secrets::node_certificate(cluster, &authority)?).await?,
        };
        Ok(Own { keys, authority, certificate })
    }

    /// Takes the next step. One that was broken off half way is taken again: the keys, which say how far it is, are
    /// written last.
    async fn exchange(&self, cluster: &AppSocketsCluster, own: Own, rolling: &Rolling) -> Result<(), Problem> {
        let key = key_of(cluster);
        let Own { keys, authority, certificate } = own;
        let asked = cluster.annotations().get(ROTATE).map(String::as_str);
        let pods = rolling.pods(cluster);
        let holder = |pod: &Arc<Pod>| Holder {
            name: pod.name_any(),
            keys: rolling.links.report(&pod.uid().unwrap_or_default()).keys,
        };
        let holders: Vec<_> = pods.iter().filter(|pod| pods::holds_keys(pod)).map(holder).collect();
        let held = rotation::fingerprint(&keys, &certificate);
        let overlap = Duration::from_secs(cluster.spec.key_overlap_seconds.try_into().unwrap_or(0));
        let step = rotation::step(&keys, asked, (&held, &holders), overlap, Timestamp::now(), secrets::key);
        let next = match step.map_err(not_made)? {
            Step::Stay => {
                self.rotations.set(&key, None);
                keys.clone()
            }
            Step::Wait(waiting) => {
                self.rotations.set(&key, Some(waiting));
                keys.clone()
            }
            Step::Write(next) => Arc::new(*next),
        };
        let phase = rotation::phase(&next);
        let make = || secrets::own_authority(cluster);
        let authority = match rotation::authority(&authority, phase, make).map_err(not_made)? {
            Some(next) => self.replace(next).await?,
            None => authority,
        };
        if !secrets::is_current(&certificate, &authority) {
            let mut next = secrets::node_certificate(cluster, &authority).map_err(not_made)?;
            next.metadata.resource_version = certificate.resource_version();
            self.replace(next).await?;
        }
        if !Arc::ptr_eq(&next, &keys) {
            self.replace((*next).clone()).await?;
            self.say(cluster, phase);
        } else if phase != Phase::Steady {
            self.refresh(&pods, &held).await;
        }
        Ok(())
    }

    fn say(&self, cluster: &AppSocketsCluster, phase: Phase) {
        let note = match phase {
            Phase::Offered => "Nodes get new keys, which they accept, and do not use yet.".to_owned(),
            Phase::Used(_) => {
                let seconds = cluster.spec.key_overlap_seconds;
                format!("Nodes use the new keys, and accept the former ones for {seconds} s more.")
            }
            Phase::Steady => "Nodes have the new keys alone.".to_owned(),
        };
        info!("{}/{}: {note}", cluster.namespace().unwrap_or_default(), cluster.name_any());
        self.events.cluster(cluster, Note::normal("KeysRotating", &note));
    }

    /// Has machines give the keys to pods that were not given these yet.
    async fn refresh(&self, pods: &[Arc<Pod>], held: &str) {
        let mark = &held[..held.len().min(16)];
        for pod in pods.iter().filter(|pod| pods::holds_keys(pod)) {
            if pod.annotations().get(KEYS).map(String::as_str) == Some(mark) {
                continue;
            }
            let api: Api<Pod> = Api::namespaced(self.client.clone(), &pod.namespace().unwrap_or_default());
            let patch = json!({"metadata": {"uid": pod.uid(), "annotations": {KEYS: mark}}});
            let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
            if let Err(error) = api.patch(&pod.name_any(), &params, &Patch::Merge(&patch)).await {
                warn!(pod = pod.name_any(), %error, "The pod is given its keys by its machine when that comes to it.");
            }
        }
    }

    /// Writes a Secret, if it is still as it was read.
    async fn replace(&self, secret: Secret) -> Result<Arc<Secret>, Problem> {
        let (name, namespace) = (secret.name_any(), secret.namespace().unwrap_or_default());
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let replaced = api.replace(&name, &params, &secret).await;
        replaced.map(Arc::new).map_err(|error| refused(&format!("Secret {namespace}/{name}"), &error))
    }

    /// Makes a Secret, or gives the one that is there.
    async fn create(&self, secret: Secret) -> anyhow::Result<Arc<Secret>> {
        let name = secret.name_any();
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &secret.namespace().unwrap_or_default());
        let params = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let made = match api.create(&params, &secret).await {
            Err(kube::Error::Api(status)) if status.code == 409 => api.get(&name).await?,
            made => made.with_context(|| format!("{name} was not taken"))?,
        };
        Ok(Arc::new(made))
    }
}

fn not_made(error: anyhow::Error) -> Problem {
    Problem { reason: "SecretNotMade", message: format!("A Secret can't be made: {error:#}."), stalled: false }
}

/// The Secrets of the cluster's namespace.
fn readable<'a>(
    cluster: &AppSocketsCluster,
    secrets: Option<&'a Secrets>,
) -> Result<&'a BTreeMap<String, Arc<Secret>>, Problem> {
    let namespace = cluster.namespace().unwrap_or_default();
    match secrets {
        None => {
            let message = format!("The Secrets of the namespace {namespace} are being read.");
            Err(Problem { reason: READING, message, stalled: false })
        }
        Some(Secrets::Forbidden) => {
            let message = format!(
                "The operator may not keep the nodes' Secrets in the namespace {namespace}: bind it there, with kubectl \
                 create rolebinding appsockets-operator-secrets --clusterrole=appsockets-operator-secrets \
                 --serviceaccount=NAMESPACE:appsockets-operator -n {namespace}, where NAMESPACE is the operator's."
            );
            Err(Problem { reason: "SecretNotReadable", message, stalled: true })
        }
        Some(Secrets::Read(there)) => Ok(there),
    }
}
