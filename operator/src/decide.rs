//! Decides anew, whenever anything has changed, what nodes ought to serve, and sees that somebody talks to each node.

use std::{
    collections::{BTreeMap, BTreeSet},
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
            Err(why) => {
                warn!(why, "Resources are gone, and so may be what defines them: nodes keep what they have.");
                let before = decided.borrow().clone();
                if before.frozen.as_ref() != Some(&why) {
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

/// Whether all definitions are there and not about to go: who deletes one deletes all resources of its kind, without
/// having meant any of them.
async fn definitions(client: &Client) -> Result<(), String> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for name in appsockets_crds::yaml::names() {
        let asked = timeout(Duration::from_secs(3), api.get_opt(name)).await;
        let found = asked.map_err(|_| "the API server does not answer".to_owned())?;
        match found {
            // It may see no more than its own namespace.
            Err(kube::Error::Api(status)) if status.code == 403 => return discovered(client).await,
            Err(error) => return Err(format!("the definition {name} can't be read: {error}")),
            Ok(found) => match found {
                None => return Err(format!("the definition {name} is gone")),
                Some(found) if found.metadata.deletion_timestamp.is_some() => {
                    return Err(format!("the definition {name} is being deleted"));
                }
                Some(_) => {}
            },
        }
    }
    Ok(())
}

/// The same by what the API server says that it serves, which everybody may ask, and which is a moment late.
async fn discovered(client: &Client) -> Result<(), String> {
    sleep(RETRY).await;
    let version = format!("{}/v1alpha1", appsockets_crds::GROUP);
    let asked = timeout(Duration::from_secs(3), client.list_api_group_resources(&version)).await;
    let served = asked.map_err(|_| "the API server does not answer".to_owned())?;
    let served = served.map_err(|error| format!("{version} can't be asked for: {error}"))?;
    for name in appsockets_crds::yaml::names() {
        let plural = name.split('.').next().unwrap_or(name);
        let found = served.resources.iter().find(|resource| resource.name == plural);
        // Of a kind that is being deleted nothing new can be made.
        if !found.is_some_and(|found| found.verbs.iter().any(|verb| verb == "create")) {
            return Err(format!("the definition {name} is gone, or being deleted"));
        }
    }
    Ok(())
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
