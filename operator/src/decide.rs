//! Decides anew, whenever anything has changed, what nodes ought to serve, and sees that somebody talks to each node.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use appsockets_crds::AppSocketsCluster;
use k8s_openapi::{
    api::core::v1::{Pod, Secret},
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{Api, Client, ResourceExt};
use rcgen::ExtendedKeyUsagePurpose;
use tokio::{
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep, sleep_until, timeout},
};
use tonic::transport::{Certificate, ClientTlsConfig, Identity};
use tracing::{error, warn};

use crate::{
    children::{CLUSTER_LABEL, Names, host, port, secrets},
    leaving::Leaving,
    link::{self, Links, Target},
    resolve::{Resolved, resolve},
    watching::{Watched, WatchedSecrets},
    world::{ClusterKey, Secrets, World},
};

/// So that what is applied together is decided together.
const SETTLE: Duration = Duration::from_millis(10);
/// After the definitions could not be found intact.
const RETRY: Duration = Duration::from_secs(1);
/// How long the API server may take to say whether a definition is there.
const ASKED: Duration = Duration::from_secs(3);
/// By which somebody allows for as many hubs to go at once.
const REMOVALS_ANNOTATION: &str = "appsockets.io/remove-hubs";

/// What is there, and what follows from it.
#[derive(Debug, Default)]
pub struct Decided {
    pub world: World,
    pub resolved: Resolved,
    /// Why nothing is taken away at the moment.
    pub frozen: Option<String>,
}

impl Decided {
    pub fn cluster(&self, key: &ClusterKey) -> Option<&AppSocketsCluster> {
        let mut known = self.world.clusters.iter().filter_map(|cluster| cluster.0.as_ref().ok());
        known.find(|cluster| cluster.name_any() == key.1 && cluster.namespace().as_deref() == Some(&key.0))
    }

    /// Every resource that is there.
    fn uids(&self) -> BTreeSet<String> {
        let World { hubs, rules, namespaces, providers, clusters, .. } = &self.world;
        let all = hubs.iter().map(|hub| hub.uid());
        let all = all.chain(rules.iter().map(|rules| rules.uid()));
        let all = all.chain(namespaces.iter().map(|namespace| namespace.uid()));
        let all = all.chain(providers.iter().map(|provider| provider.uid()));
        all.chain(clusters.iter().map(|cluster| cluster.uid())).flatten().collect()
    }
}

/// How many hubs somebody allows to go at once.
pub fn removals_max(cluster: &AppSocketsCluster) -> u32 {
    cluster.annotations().get(REMOVALS_ANNOTATION).and_then(|count| count.parse().ok()).unwrap_or(0)
}

/// Decides for ever.
pub async fn run(client: Client, watched: Arc<Watched>, decided: watch::Sender<Arc<Decided>>, links: Arc<Links>) {
    let mut world_changed = watched.world.subscribe();
    watched.listed().await;
    let mut secrets = WatchedSecrets::default();
    let mut leaving = Leaving::default();
    let mut talking = Talking { links, nodes: BTreeMap::new(), identities: BTreeMap::new() };
    loop {
        world_changed.mark_unchanged();
        let began = Instant::now();
        let mut world = watched.world(&secrets);
        secrets.follow(&watched, &world);
        world.secrets = watched.world(&secrets).secrets;
        let mut resolved = resolve(&world);
        let again = leaving.hold(&decided.borrow().resolved, &mut resolved, began);
        let next = Decided { world, resolved, frozen: None };
        let took = began.elapsed();
        let gone = decided.borrow().uids().difference(&next.uids()).count() > 0;
        let intact = if gone { definitions(&client).await } else { Ok(()) };
        talking.follow(&watched, &next.world);
        match intact {
            Ok(()) => {
                decided.send_replace(Arc::new(next));
            }
            Err(doubt) => {
                warn!(%doubt, "Resources are gone, and so may be what defines them: nodes keep what they have.");
                let before = decided.borrow().clone();
                if let Some(why) = doubt.frozen().filter(|why| before.frozen.as_ref() != Some(why)) {
                    let Decided { world, resolved, .. } = &*before;
                    let frozen = Decided { world: world.clone(), resolved: resolved.clone(), frozen: Some(why) };
                    decided.send_replace(Arc::new(frozen));
                }
                sleep(RETRY).await;
                continue;
            }
        }
        let again = async {
            match again {
                Some(again) => sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = world_changed.changed() => if changed.is_err() { return },
            () = again => {}
        }
        // Where deciding takes long, at most a third of the time goes into it.
        sleep(SETTLE.max(took * 2)).await;
    }
}

/// Why it is not certain that all definitions are there.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Doubt {
    /// One is gone, or about to go, and somebody has to apply it again.
    Gone(String),
    /// The API server does not say, which passes.
    Unknown(String),
}

impl Doubt {
    /// Why nothing is taken away until somebody helps.
    fn frozen(&self) -> Option<String> {
        match self {
            Doubt::Gone(why) => Some(why.clone()),
            Doubt::Unknown(_) => None,
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Doubt::Gone(why) | Doubt::Unknown(why)) = self;
        f.write_str(why)
    }
}

/// Whether all definitions are there and not about to go: who deletes one deletes all resources of its kind, without
/// having meant any of them.
async fn definitions(client: &Client) -> Result<(), Doubt> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in appsockets_crds::yaml::names() {
        match timeout(ASKED, api.get_opt(name)).await.map_err(|_| silent())? {
            // It may see no more than its own namespace.
            Err(kube::Error::Api(status)) if status.code == 403 => return discovered(client).await,
            Err(error) => return Err(Doubt::Unknown(format!("the definition {name} can't be read: {error}"))),
            Ok(None) => return Err(Doubt::Gone(format!("the definition {name} is gone"))),
            Ok(Some(found)) if found.metadata.deletion_timestamp.is_some() => {
                return Err(Doubt::Gone(format!("the definition {name} is being deleted")));
            }
            Ok(Some(_)) => {}
        }
    }
    Ok(())
}

/// The same by what the API server says that it serves, which everybody may ask, and which is a moment late.
async fn discovered(client: &Client) -> Result<(), Doubt> {
    sleep(RETRY).await;
    let version = format!("{}/v1alpha1", appsockets_crds::GROUP);
    let asked = timeout(ASKED, client.list_api_group_resources(&version)).await.map_err(|_| silent())?;
    let served = match asked {
        // Without any definition there is no such group.
        Err(kube::Error::Api(status)) if status.code == 404 => Vec::new(),
        asked => asked.map_err(|error| Doubt::Unknown(format!("{version} can't be asked for: {error}")))?.resources,
    };
    for name in appsockets_crds::yaml::names() {
        let plural = name.split('.').next().unwrap_or(name);
        let found = served.iter().find(|resource| resource.name == plural);
        // Of a kind that is being deleted nothing new can be made.
        if !found.is_some_and(|found| found.verbs.iter().any(|verb| verb == "create")) {
            return Err(Doubt::Gone(format!("the definition {name} is gone, or being deleted")));
        }
    }
    Ok(())
}

fn silent() -> Doubt {
    Doubt::Unknown("the API server does not answer".to_owned())
}

/// The links to nodes, by the uid of their pods.
struct Talking {
    links: Arc<Links>,
    nodes: BTreeMap<String, Node>,
    /// What the operator shows to the nodes of a cluster, with the version of the authority that signed it.
    identities: BTreeMap<ClusterKey, (Option<String>, ClientTlsConfig)>,
}

struct Node {
    address: String,
    authority: Option<String>,
    task: JoinHandle<()>,
}

impl Talking {
    /// Talks to the nodes that there are, and no longer to others.
    fn follow(&mut self, watched: &Watched, world: &World) {
        self.identify(world);
        let mut there = BTreeSet::new();
        for pod in watched.pods.state() {
            let Some(target) = self.target(&pod) else { continue };
            there.insert(target.pod_uid.clone());
            let (authority, _) = &self.identities[&target.cluster];
            let same = |node: &Node| node.address == target.address && node.authority == *authority;
            if self.nodes.get(&target.pod_uid).is_some_and(same) {
                continue;
            }
            let (address, authority) = (target.address.clone(), authority.clone());
            let uid = target.pod_uid.clone();
            let task = tokio::spawn(link::run(self.links.clone(), target));
            if let Some(before) = self.nodes.insert(uid, Node { address, authority, task }) {
                before.task.abort();
            }
        }
        self.nodes.retain(|uid, node| {
            let stays = there.contains(uid);
            if !stays {
                node.task.abort();
                self.links.forget(uid);
            }
            stays
        });
    }

    fn target(&self, pod: &Pod) -> Option<Target> {
        let cluster = (pod.namespace()?, pod.labels().get(CLUSTER_LABEL)?.clone());
        let ip = pod.status.as_ref()?.pod_ip.as_ref().filter(|_| pod.metadata.deletion_timestamp.is_none())?;
        let host = if ip.contains(':') { format!("[{ip}]") } else { ip.clone() };
        let (_, tls) = self.identities.get(&cluster)?;
        let address = format!("{host}:{}", port::OPERATOR);
        Some(Target { cluster, pod: pod.name_any(), pod_uid: pod.uid()?, address, tls: tls.clone() })
    }

    /// Has a certificate for each cluster whose authority is known.
    fn identify(&mut self, world: &World) {
        let is_there = |key: &ClusterKey| world.clusters.iter().any(|cluster| place(&**cluster) == *key);
        self.identities.retain(|key, _| is_there(key));
        for cluster in world.clusters.iter().filter_map(|cluster| cluster.0.as_ref().ok()) {
            let key = crate::resolve::key_of(cluster);
            let Some(Secrets::Read(secrets)) = world.secrets.get(&key.0) else { continue };
            let Some(authority) = secrets.get(&Names::of(cluster).authority) else { continue };
            let version = authority.resource_version();
            if self.identities.get(&key).is_some_and(|(known, _)| *known == version) {
                continue;
            }
            match identity(cluster, authority) {
                Ok(tls) => drop(self.identities.insert(key, (version, tls))),
                Err(error) => {
                    error!(error = format!("{error:#}"), "The authority of {}/{} can't be used.", key.0, key.1)
                }
            }
        }
    }
}

fn place<K: ResourceExt>(object: &K) -> ClusterKey {
    (object.namespace().unwrap_or_default(), object.name_any())
}

fn identity(cluster: &AppSocketsCluster, authority: &Secret) -> anyhow::Result<ClientTlsConfig> {
    let (certificate, key) = secrets::sign(cluster, authority, ExtendedKeyUsagePurpose::ClientAuth)?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(secrets::trusted(authority)));
    let name = host(&cluster.namespace().unwrap_or_default(), &cluster.name_any());
    Ok(tls.identity(Identity::from_pem(certificate, key)).domain_name(name))
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, http::StatusCode, response::IntoResponse};
    use serde_json::{Value, json};

    use super::{Client, Doubt, definitions};

    /// What is concluded where the API server answers this to each question.
    async fn concluded(status: StatusCode, answer: Value) -> Result<(), Doubt> {
        let answer = move || async move { (status, Json(answer)).into_response() };
        definitions(&Client::new(Router::new().fallback(answer), "shop")).await
    }

    fn failure(status: StatusCode) -> Value {
        let reason = if status == StatusCode::NOT_FOUND { "NotFound" } else { "" };
        json!({"kind": "Status", "status": "Failure", "code": status.as_u16(), "message": "no", "reason": reason})
    }

    fn definition(metadata: Value) -> Value {
        let names = json!({"kind": "Hub", "plural": "hubs"});
        let spec = json!({"group": "appsockets.io", "names": names, "scope": "Namespaced", "versions": []});
        let kind = "CustomResourceDefinition";
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": kind, "metadata": metadata, "spec": spec})
    }

    #[tokio::test]
    async fn definitions_are_gone_only_where_the_api_server_says_so() {
        assert_eq!(concluded(StatusCode::OK, definition(json!({"name": "x"}))).await, Ok(()));
        let going = json!({"name": "x", "deletionTimestamp": "2026-01-01T00:00:00Z"});
        assert!(matches!(concluded(StatusCode::OK, definition(going)).await, Err(Doubt::Gone(_))));
        let gone = concluded(StatusCode::NOT_FOUND, failure(StatusCode::NOT_FOUND)).await.unwrap_err();
        assert!(gone.frozen().is_some_and(|why| why.ends_with("is gone")), "{gone}");
        for passes in [StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR, StatusCode::GATEWAY_TIMEOUT] {
            let doubt = concluded(passes, failure(passes)).await.unwrap_err();
            assert_eq!(doubt.frozen(), None, "{passes}: {doubt}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_api_server_that_says_nothing_takes_no_definition_away() {
        let silent = Client::new(Router::new().fallback(async || std::future::pending::<StatusCode>().await), "shop");
        assert_eq!(definitions(&silent).await.unwrap_err().frozen(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn who_may_not_see_definitions_concludes_from_what_is_served() {
        let concluded = async |status: StatusCode| {
            let of_group = move || async move { (status, Json(failure(status))) };
            let forbidden = async || (StatusCode::FORBIDDEN, Json(failure(StatusCode::FORBIDDEN)));
            let router = Router::new().route("/apis/appsockets.io/v1alpha1", axum::routing::get(of_group));
            definitions(&Client::new(router.fallback(forbidden), "shop")).await.unwrap_err()
        };
        assert!(matches!(concluded(StatusCode::NOT_FOUND).await, Doubt::Gone(_)));
        assert!(matches!(concluded(StatusCode::SERVICE_UNAVAILABLE).await, Doubt::Unknown(_)));
    }
}
