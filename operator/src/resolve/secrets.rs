//! What stands in the Secrets that tenants refer to.

use appsockets_crds::{AppSocketsCluster, reference::SecretKeyRef};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Resource, ResourceExt};

use super::{key_of, known};
use crate::{
    children::{CLUSTER_LABEL, MANAGED_BY},
    verdict::{Reason, Verdict},
    world::{Secrets, World},
};

/// What stands in a Secret.
pub fn value(world: &World, namespace: &str, secret: &SecretKeyRef) -> Result<String, Verdict> {
    let SecretKeyRef { name, key } = secret;
    let not_found = |message: String| Err(Verdict::stalled(Reason::SecretNotFound, message));
    match world.secrets.get(namespace) {
        None => Err(Verdict::Waiting {
            reason: "ReadingSecrets",
            message: format!("The Secrets of the namespace {namespace} are being read."),
        }),
        Some(Secrets::Forbidden) => Err(Verdict::stalled(
            Reason::SecretNotReadable,
            format!(
                "The operator may not read Secrets of the namespace {namespace}: let it, with kubectl create rolebinding \
                 appsockets-operator-secrets --clusterrole=appsockets-operator-tenant-secrets \
                 --serviceaccount=NAMESPACE:appsockets-operator -n {namespace}, where NAMESPACE is the operator's."
            ),
        )),
        Some(Secrets::Read(secrets)) => {
            if secrets.get(name).is_some_and(|secret| is_reserved(world, namespace, secret)) {
                return Err(Verdict::stalled(
                    Reason::SecretReserved,
                    format!("The Secret {namespace}/{name} is a cluster's, and not for tenants: name another."),
                ));
            }
            match secrets.get(name).map(|secret| secret.data.as_ref().and_then(|data| data.get(key))) {
                None => not_found(format!("There is no Secret {namespace}/{name}: make one, or name another.")),
                Some(None) => {
                    not_found(format!("The Secret {namespace}/{name} has no key {key}: add it, or name another."))
                }
                Some(Some(ByteString(value))) => String::from_utf8(value.clone()).or_else(|_| {
                    not_found(format!("The key {key} of the Secret {namespace}/{name} is no text: write it in UTF-8."))
                }),
            }
        }
    }
}

/// Whether a Secret is a cluster's: one that the operator keeps, or that says where the cluster's databases are. Who
/// may only write tenants' resources beside a cluster must not have its keys sent to an address of their own.
fn is_reserved(world: &World, namespace: &str, secret: &Secret) -> bool {
    let labels = secret.labels();
    let is_kept = labels.get(MANAGED_BY.0).is_some_and(|by| by == MANAGED_BY.1)
        || labels.contains_key(CLUSTER_LABEL)
        || secret.owner_references().iter().any(|owner| owner.kind == AppSocketsCluster::kind(&()));
    let names = |cluster: &AppSocketsCluster| {
        let connections = cluster.spec.connections.clone().unwrap_or_default();
        let all = [connections.postgres, connections.redis, connections.nats];
        all.into_iter().flatten().any(|connection| Some(connection.name) == secret.metadata.name)
    };
    is_kept || known(&world.clusters).any(|cluster| key_of(cluster).0 == namespace && names(cluster))
}
