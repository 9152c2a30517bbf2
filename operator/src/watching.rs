//! What is there, kept up to date by watching.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use appsockets_crds::{AppSocketsCluster, AuthProvider, ChannelRules, Hub, HubNamespace};
use futures_util::StreamExt;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::StatefulSet,
        autoscaling::v2::HorizontalPodAutoscaler,
        core::v1::{ConfigMap, Pod, Secret, Service, ServiceAccount},
        networking::v1::NetworkPolicy,
        policy::v1::PodDisruptionBudget,
    },
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{self, Store},
        utils::Backoff,
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinHandle};
use tracing::warn;

use crate::{
    children::MANAGED_BY,
    metrics::Metrics,
    resolve::key_of,
    world::{Guarded, Secrets, World},
};

/// After a watch has failed.
const RETRY: Duration = Duration::from_secs(2);

/// Something that others wait for to change.
#[derive(Clone)]
pub struct Signal(watch::Sender<()>);

impl Default for Signal {
    fn default() -> Signal {
        Signal(watch::Sender::new(()))
    }
}

impl Signal {
    pub fn send(&self) {
        self.0.send_replace(());
    }

    pub fn subscribe(&self) -> watch::Receiver<()> {
        self.0.subscribe()
    }
}

/// All that is watched but Secrets.
pub struct Watched {
    pub clusters: Store<Guarded<AppSocketsCluster>>,
    pub hubs: Store<Guarded<Hub>>,
    pub rules: Store<Guarded<ChannelRules>>,
    pub namespaces: Store<Guarded<HubNamespace>>,
    pub providers: Store<Guarded<AuthProvider>>,
    pub pods: Store<Pod>,
    pub stateful_sets: Store<StatefulSet>,
    pub services: Store<Service>,
    pub config_maps: Store<ConfigMap>,
    pub accounts: Store<ServiceAccount>,
    pub budgets: Store<PodDisruptionBudget>,
    pub autoscalers: Store<HorizontalPodAutoscaler>,
    pub policies: Store<NetworkPolicy>,
    /// Custom resources, pods or Secrets have changed.
    pub world: Signal,
    /// What clusters are made of has changed.
    pub children: Signal,
    scope: Option<String>,
    failing: Failing,
    /// How many kinds were not listed yet. The stores know it as well, but wake only the last of those who wait.
    unlisted: watch::Sender<usize>,
    client: Client,
}

/// Why kinds can't be watched, of each until something is seen of it again.
#[derive(Clone)]
struct Failing {
    why: Arc<Mutex<BTreeMap<Watch, String>>>,
    metrics: Metrics,
}

/// What is watched: a kind, and the Kubernetes namespace where that is one of several.
type Watch = (&'static str, Option<String>);

impl Watched {
    /// Whether the resource of a cluster is still there.
    pub fn has_cluster(&self, cluster: &AppSocketsCluster) -> bool {
        let there = |other: &Arc<Guarded<AppSocketsCluster>>| other.meta().uid == cluster.metadata.uid;
        self.clusters.state().iter().any(there)
    }

    /// Begins to watch a Kubernetes namespace, or all of them.
    pub fn start(client: &Client, scope: Option<&str>, metrics: &Metrics) -> Watched {
        let failing = Failing { why: Arc::default(), metrics: metrics.clone() };
        let (world, children) = (Signal::default(), Signal::default());
        let ours = watcher::Config::default().labels(&format!("{}={}", MANAGED_BY.0, MANAGED_BY.1));
        let all = watcher::Config::default();
        let unlisted = watch::Sender::new(0);
        let place = Place { client, scope, failing: &failing, unlisted: &unlisted };
        Watched {
            clusters: place.watch("AppSocketsCluster", &all, &world),
            hubs: place.watch("Hub", &all, &world),
            rules: place.watch("ChannelRules", &all, &world),
            namespaces: place.watch("Namespace of appsockets.io", &all, &world),
            providers: place.watch("AuthProvider", &all, &world),
            pods: place.watch("Pod", &ours, &world),
            stateful_sets: place.watch("StatefulSet", &ours, &children),
            services: place.watch("Service", &ours, &children),
            config_maps: place.watch("ConfigMap", &ours, &children),
            accounts: place.watch("ServiceAccount", &ours, &children),
            budgets: place.watch("PodDisruptionBudget", &ours, &children),
            autoscalers: place.watch("HorizontalPodAutoscaler", &ours, &children),
            policies: place.watch("NetworkPolicy", &ours, &children),
            scope: scope.map(str::to_owned),
            failing: failing.clone(),
            unlisted: unlisted.clone(),
            client: client.clone(),
            world,
            children,
        }
    }

    /// Waits until each kind was listed once: what is absent before may be there.
    pub async fn listed(&self) {
        // The sender is held here, so there is always one.
        let _ = self.unlisted.subscribe().wait_for(|unlisted| *unlisted == 0).await;
    }

    /// Which kinds can't be watched, and why.
    pub fn failing(&self) -> BTreeMap<String, String> {
        let why = self.failing.why.lock().unwrap_or_else(PoisonError::into_inner);
        why.iter().map(|(watch, why)| (name(watch), why.clone())).collect()
    }

    /// All that is there, with the Secrets that are watched.
    pub fn world(&self, secrets: &WatchedSecrets) -> World {
        World {
            scope: self.scope.clone(),
            clusters: self.clusters.state(),
            hubs: self.hubs.state(),
            rules: self.rules.state(),
            namespaces: self.namespaces.state(),
            providers: self.providers.state(),
            secrets: secrets.read(),
        }
    }
}

/// The Secrets of the namespaces that anything refers to.
#[derive(Default)]
pub struct WatchedSecrets(BTreeMap<String, NamespaceSecrets>);

struct NamespaceSecrets {
    store: Store<Secret>,
    forbidden: Arc<AtomicBool>,
    listed: Arc<AtomicBool>,
    task: JoinHandle<()>,
    watch: Watch,
    failing: Failing,
}

impl Drop for NamespaceSecrets {
    fn drop(&mut self) {
        self.task.abort();
        self.failing.note(&self.watch, Ok(()));
    }
}

impl WatchedSecrets {
    /// Watches the namespaces whose Secrets a world needs, and no others.
    pub fn follow(&mut self, watched: &Watched, world: &World) {
        let clusters =
            world.clusters.iter().filter_map(|cluster| cluster.0.as_ref().ok()).map(|cluster| key_of(cluster).0);
        let providers = world.providers.iter().filter_map(|provider| provider.0.as_ref().ok());
        let providers = providers.filter(|provider| provider.secrets().next().is_some());
        let needed: BTreeSet<_> = clusters.chain(providers.filter_map(|provider| provider.namespace())).collect();
        self.0.retain(|namespace, _| needed.contains(namespace));
        for namespace in needed {
            let start = |namespace: &String| NamespaceSecrets::start(watched, namespace);
            self.0.entry(namespace).or_insert_with_key(start);
        }
    }

    fn read(&self) -> BTreeMap<String, Secrets> {
        let read = |(namespace, secrets): (&String, &NamespaceSecrets)| {
            let read = if secrets.forbidden.load(Ordering::Relaxed) {
                Secrets::Forbidden
            } else if secrets.listed.load(Ordering::Relaxed) {
                Secrets::Read(secrets.store.state().into_iter().map(|secret| (secret.name_any(), secret)).collect())
            } else {
                return None;
            };
            Some((namespace.clone(), read))
        };
        self.0.iter().filter_map(read).collect()
    }
}

impl NamespaceSecrets {
    fn start(watched: &Watched, namespace: &str) -> NamespaceSecrets {
        let (store, writer) = reflector::store();
        let api: Api<Secret> = Api::namespaced(watched.client.clone(), namespace);
        // Releases of Helm are many, large, and nothing that anybody refers to.
        let config = watcher::Config::default().fields("type!=helm.sh/release.v1");
        let (forbidden, listed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (now_forbidden, now_listed, changed) = (forbidden.clone(), listed.clone(), watched.world.clone());
        let (failing, watch) = (watched.failing.clone(), ("Secret", Some(namespace.to_owned())));
        let (noting, noted) = (failing.clone(), watch.clone());
        let mut events = reflector::reflector(writer, watcher(api, config).backoff(Fixed)).boxed();
        let task = tokio::spawn(async move {
            while let Some(event) = events.next().await {
                if let Ok(watcher::Event::InitDone) = &event {
                    now_listed.store(true, Ordering::Relaxed);
                }
                let Some(outcome) = outcome(&event) else { continue };
                let refused = outcome.is_err_and(is_forbidden);
                now_forbidden.store(refused, Ordering::Relaxed);
                // That nobody lets it is no failure: the resources that need it say so.
                noting.note(&noted, if refused { Ok(()) } else { outcome });
                changed.send();
            }
        });
        NamespaceSecrets { store, forbidden, listed, task, watch, failing }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    let of = |error: &kube::Error| matches!(error, kube::Error::Api(status) if status.code == 403);
    match error {
        watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error) => of(error),
        watcher::Error::WatchError(status) => status.code == 403,
        _ => false,
    }
}

struct Place<'a> {
    client: &'a Client,
    scope: Option<&'a str>,
    failing: &'a Failing,
    unlisted: &'a watch::Sender<usize>,
}

impl Place<'_> {
    fn watch<K>(&self, kind: &'static str, config: &watcher::Config, changed: &Signal) -> Store<K>
    where
        K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
        K::DynamicType: Default + Clone + Eq + std::hash::Hash + Send + Sync,
    {
        let (store, writer) = reflector::store();
        let api: Api<K> = match self.scope {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        };
        let (changed, failing, unlisted) = (changed.clone(), self.failing.clone(), self.unlisted.clone());
        unlisted.send_modify(|unlisted| *unlisted += 1);
        // Who has set which field is half of each object, and nothing that is looked at.
        let watching = watcher(api, config.clone()).modify(|object| object.meta_mut().managed_fields = None);
        let mut events = reflector::reflector(writer, watching.backoff(Fixed)).boxed();
        tokio::spawn(async move {
            let mut listed = false;
            while let Some(event) = events.next().await {
                let Some(outcome) = outcome(&event) else { continue };
                failing.note(&(kind, None), outcome);
                if matches!(event, Ok(watcher::Event::InitDone)) && !std::mem::replace(&mut listed, true) {
                    unlisted.send_modify(|unlisted| *unlisted -= 1);
                }
                changed.send();
            }
        });
        store
    }
}

/// Whether watching works; None: a list has begun, also one that is about to be refused, and nobody knows yet.
fn outcome<K>(event: &watcher::Result<watcher::Event<K>>) -> Option<Result<(), &watcher::Error>> {
    match event {
        Ok(watcher::Event::Init | watcher::Event::InitApply(_)) => None,
        Ok(_) => Some(Ok(())),
        Err(error) => Some(Err(error)),
    }
}

impl Failing {
    /// Remembers that something can't be watched, or that it can.
    fn note(&self, watch: &Watch, outcome: Result<(), &watcher::Error>) {
        let mut why = self.why.lock().unwrap_or_else(PoisonError::into_inner);
        match outcome {
            Ok(()) => drop(why.remove(watch)),
            Err(error) => {
                warn!(%error, "{} can't be watched.", name(watch));
                self.metrics.watch_failed(watch.0);
                why.insert(watch.clone(), error.to_string());
            }
        }
    }
}

fn name((kind, namespace): &Watch) -> String {
    namespace.as_ref().map_or_else(|| (*kind).to_owned(), |namespace| format!("{kind} in {namespace}"))
}

struct Fixed;

impl Iterator for Fixed {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(RETRY)
    }
}

impl Backoff for Fixed {
    fn reset(&mut self) {}
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::Secret;
    use kube::runtime::watcher::{Error, Event};

    use super::{Failing, Metrics, is_forbidden, outcome};

    /// What a watch says again and again while nobody lets it list.
    #[test]
    fn the_begin_of_a_list_does_not_say_that_it_is_allowed() {
        let status = serde_json::json!({"status": "Failure", "message": "", "reason": "Forbidden", "code": 403});
        let refused = Error::InitialListFailed(kube::Error::Api(Box::new(serde_json::from_value(status).unwrap())));
        let events = [Ok(Event::Init), Err(refused), Ok(Event::Init), Ok(Event::<Secret>::InitDone)];
        let said = events.iter().map(|event| outcome(event).map(|outcome| outcome.is_err_and(is_forbidden)));
        assert_eq!(said.collect::<Vec<_>>(), [None, Some(true), None, Some(false)]);
    }

    #[test]
    fn a_watch_that_fails_is_counted_and_forgotten_once_it_works() {
        let failing = Failing { why: Default::default(), metrics: Metrics::default() };
        let secrets = |namespace: &str| ("Secret", Some(namespace.to_owned()));
        failing.note(&("Hub", None), Err(&Error::NoResourceVersion));
        for namespace in ["a", "b"] {
            failing.note(&secrets(namespace), Err(&Error::NoResourceVersion));
            failing.note(&secrets(namespace), Ok(()));
        }
        let text = failing.metrics.text();
        assert!(text.contains("appsockets_operator_watch_failures_total{kind=\"Hub\"} 1\n"), "{text}");
        assert!(text.contains("appsockets_operator_watch_failures_total{kind=\"Secret\"} 2\n"), "{text}");
        assert_eq!(failing.why.lock().unwrap().keys().collect::<Vec<_>>(), [&("Hub", None)]);
    }
}
