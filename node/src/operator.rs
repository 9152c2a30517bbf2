//! The port at which the operator of this node's cluster hands over what custom resources say.
//!
//! It speaks TLS, and only with who shows a certificate for clients that the cluster's authority has signed. The
//! authority signs nodes' certificates for servers alone, so no node can be taken for the operator.

use std::{collections::BTreeSet, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use appsockets_core::{
    channel::HubId,
    cluster::view::NodeId,
    settings::{
        entry::{Entry, ResourceId, ResourceKind, Source},
        push::{Push, PushStamp},
        resource::Resource,
    },
};
use appsockets_proto::configuration::{
    Held, Identity, PushRequest, ShedAnswer, ShedRequest, ShowRequest,
    configuration_server::{Configuration, ConfigurationServer},
};
use prost::Message;
use tokio::{net::TcpListener, task::JoinHandle, time::timeout};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Certificate, Identity as TlsIdentity, Server, ServerTlsConfig, server::TcpIncoming},
};

use crate::{
    config::OperatorConfig,
    engine::{Shared, mail::Mail},
};

/// The largest part of a push, in bytes.
const PART_BYTES_MAX: usize = 8 << 20;
/// The largest push, in bytes: as much as nodes can pass on to each other.
const PUSH_BYTES_MAX: usize = 256 << 20;
/// Resources and removals in a push, at most.
const ITEMS_MAX: usize = 1_000_000;
/// How long the operator may take from one part to the next.
const PART_TIMEOUT: Duration = Duration::from_secs(10);
/// Hubs that are named as withheld, at most.
const WITHHELD_MAX: usize = 100;
/// Nodes that are named as serving the same, at most.
const ALIKE_MAX: usize = 1000;
/// Sessions that are to go are told so within this time.
const SHED_SPREAD_MS_MAX: u32 = 600_000;
/// How often the files of the certificates are looked at.
const INTERVAL: Duration = Duration::from_secs(1);

/// Serves until it is dropped.
pub struct Port {
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Port {
    /// Begins to serve, if that is configured, on the runtime that this is called on.
    ///
    /// # Errors
    /// The address can't be listened on, or a file of the certificates can't be used.
    pub async fn start(config: &OperatorConfig, shared: &Arc<Shared>) -> anyhow::Result<Option<Port>> {
        let Some(address) = config.listen else { return Ok(None) };
        let files = Files::read(config)?;
        let server = files.server()?;
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("operator.listen: {address} can't be listened on"))?;
        let address = listener.local_addr()?;
        tracing::info!("operator.listen: https://{address}");
        let (config, shared) = (config.clone(), shared.clone());
        let serving = tokio::spawn(async move {
            if let Err(error) = serve(listener, config, files, server, shared).await {
                tracing::error!(error = format!("{error:#}"), "the operator is no longer listened to");
            }
        });
        Ok(Some(Port { address, serving }))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// The certificates of the port, as their files have them.
#[derive(Clone, PartialEq, Eq)]
struct Files {
    certificate: Vec<u8>,
    key: Vec<u8>,
    authority: Vec<u8>,
}

impl Files {
    fn read(config: &OperatorConfig) -> anyhow::Result<Files> {
        let read = |key: &str, path: &Option<PathBuf>| {
            let path = path.as_ref().with_context(|| format!("set `operator.{key}` as well"))?;
            std::fs::read(path).with_context(|| format!("operator.{key}: {} can't be read", path.display()))
        };
        Ok(Files {
            certificate: read("certificate", &config.certificate)?,
            key: read("key", &config.key)?,
            authority: read("authority", &config.authority)?,
        })
    }

    fn server(&self) -> anyhow::Result<Server> {
        let identity = TlsIdentity::from_pem(&self.certificate, &self.key);
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(&self.authority));
        let server = Server::builder().tls_config(tls).context("the certificates of `operator` can't be used")?;
        Ok(server.max_concurrent_streams(16))
    }
}

/// Serves with what the files have, for ever. Who is connected when they change is asked to connect anew.
async fn serve(
    listener: TcpListener,
    config: OperatorConfig,
    mut files: Files,
    mut server: Server,
    shared: Arc<Shared>,
) -> anyhow::Result<()> {
    let listener = listener.into_std()?;
    loop {
        let service = Service { shared: shared.clone(), shown: [files.certificate.clone(), files.authority.clone()] };
        let service = ConfigurationServer::new(service).max_decoding_message_size(PART_BYTES_MAX);
        let incoming = TcpIncoming::from(TcpListener::from_std(listener.try_clone()?)?).with_nodelay(Some(true));
        let mut next = None;
        let changed = async { next = Some(changed(&config, &files).await) };
        server.add_service(service).serve_with_incoming_shutdown(incoming, changed).await?;
        (files, server) = next.context("it has ended by itself")?;
        tracing::info!("The operator is shown other certificates.");
    }
}

/// Waits until the files have changed into something that can be used.
async fn changed(config: &OperatorConfig, files: &Files) -> (Files, Server) {
    let (mut seen, mut refused) = (files.clone(), None);
    loop {
        tokio::time::sleep(INTERVAL).await;
        let config = config.clone();
        let read = tokio::task::spawn_blocking(move || Files::read(&config)).await;
        let Ok(Ok(now)) = read else { continue };
        // Found the same twice, they are no longer being written.
        let is_whole = std::mem::replace(&mut seen, now.clone()) == now;
        if !is_whole || now == *files || refused.as_ref() == Some(&now) {
            continue;
        }
        match now.server() {
            Ok(server) => return (now, server),
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(error, "The new certificates can't be used, the old ones stay.");
                refused = Some(now);
            }
        }
    }
}

struct Service {
    shared: Arc<Shared>,
    /// The certificate of this port, and those that it trusts.
    shown: [Vec<u8>; 2],
}

#[tonic::async_trait]
impl Configuration for Service {
    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Held>, Status> {
        let push = receive(request.into_inner()).await?;
        let mut withheld = push.withheld.clone();
        let outcome = self.shared.settings.push(push).await;
        let held = self.held().await;
        Ok(Response::new(match outcome {
            Ok((removals_held, contested)) => {
                withheld.extend(contested);
                let withheld = withheld.iter().take(WITHHELD_MAX).map(HubId::to_string).collect();
                let removals_held = u32::try_from(removals_held).unwrap_or(u32::MAX);
                Held { taken: true, withheld, removals_held, ..held }
            }
            Err(refused) => Held { refused: refused.to_string(), ..held },
        }))
    }

    async fn show(&self, _: Request<ShowRequest>) -> Result<Response<Held>, Status> {
        self.shared.settings.note_asked();
        Ok(Response::new(self.held().await))
    }

    async fn shed(&self, request: Request<ShedRequest>) -> Result<Response<ShedAnswer>, Status> {
        let ShedRequest { sessions, spread_ms } = request.into_inner();
        let of = self.shared.meters.connected();
        let spread_ms = spread_ms.min(SHED_SPREAD_MS_MAX);
        tracing::info!(sessions, of, spread_ms, "telling sessions to connect elsewhere, as the operator asks");
        self.shared.post_all(|| Mail::Shed { sessions, of, spread_ms }).await;
        Ok(Response::new(ShedAnswer {}))
    }
}

impl Service {
    async fn held(&self) -> Held {
        let (stamp, handed) = self.shared.settings.handed().await;
        let PushStamp { term, sequence } = stamp.unwrap_or(PushStamp { term: 0, sequence: 0 });
        let me = self.shared.cluster.as_ref().map_or(NodeId { node: 0, generation: 0 }, |cluster| cluster.me);
        let status = self.shared.cluster.as_ref().map(|cluster| cluster.status());
        let serving = self.shared.settings.current().revision.to_string();
        let nodes = status.iter().flat_map(|status| &status.nodes);
        let alike = nodes.filter(|node| node.linked && node.revision == serving).map(|node| node.id.node);
        let view = status.as_ref().and_then(|status| Some(status.view.as_ref()?.number)).unwrap_or(0);
        Held {
            term,
            sequence,
            handed: handed.to_string(),
            alike: alike.take(ALIKE_MAX).collect(),
            serving,
            node: me.node,
            generation: me.generation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: self.shared.meters.connected(),
            view,
            keys: self.shared.secrets.fingerprint(&self.shown),
            settled: view > 0 && status.is_some_and(|status| status.settled == view),
            ..Held::default()
        }
    }
}

/// All parts of a push.
async fn receive(mut parts: Streaming<PushRequest>) -> Result<Push, Status> {
    let late = |_| Status::deadline_exceeded("The next part of the push did not come.");
    let (mut push, mut bytes): (Option<Push>, usize) = (None, 0);
    while let Some(part) = timeout(PART_TIMEOUT, parts.message()).await.map_err(late)?? {
        bytes += part.encoded_len();
        let PushRequest { head, set, removed, kept } = part;
        if push.is_none() {
            let head = head.ok_or_else(|| Status::invalid_argument("The first part of a push has its head."))?;
            let base = match &*head.base {
                "" => None,
                base => Some(base.parse().map_err(|_| Status::invalid_argument("The base is no revision."))?),
            };
            let stamp = PushStamp { term: head.term, sequence: head.sequence };
            push = Some(Push {
                stamp,
                base,
                set: Vec::new(),
                removed: Vec::new(),
                kept: BTreeSet::new(),
                withheld: BTreeSet::new(),
                removals_max: usize::try_from(head.removals_max).unwrap_or(usize::MAX),
            });
        }
        let Some(push) = &mut push else { continue };
        let before = push.set.len() + push.removed.len() + push.kept.len();
        if before + set.len() + removed.len() + kept.len() > ITEMS_MAX || bytes > PUSH_BYTES_MAX {
            return Err(Status::resource_exhausted("There are more resources than a node takes."));
        }
        for entry in set {
            match usable(entry) {
                Ok(entry) => push.set.push(Arc::new(entry)),
                Err(Some(hub)) => drop(push.withheld.insert(hub)),
                Err(None) => return Err(Status::invalid_argument("A resource of an unknown hub can't be read.")),
            }
        }
        push.removed.extend(removed.into_iter().filter_map(id));
        push.kept.extend(kept.into_iter().map(Arc::from));
    }
    push.ok_or_else(|| Status::invalid_argument("A push has at least one part."))
}

/// The resource, or the hub that it belongs to if this node can't use it.
fn usable(entry: appsockets_proto::configuration::Entry) -> Result<Entry, Option<HubId>> {
    let appsockets_proto::configuration::Entry { uid, generation, resource } = entry;
    match serde_json::from_str::<Resource>(&resource) {
        Ok(resource) if resource.problems().is_empty() => {
            Ok(Entry::new(Source::Operator, uid.as_str(), generation, resource))
        }
        Ok(resource) => Err(Some(resource.id().hub)),
        Err(_) => Err(hub_of(&resource)),
    }
}

/// A newer operator may say more than this node understands, but not whose it is.
fn hub_of(resource: &str) -> Option<HubId> {
    let resource: serde_json::Value = serde_json::from_str(resource).ok()?;
    let name = resource.get("hub").or_else(|| resource.get("name"))?;
    name.as_str().map(HubId::from)
}

fn id(Identity { hub, kind, name }: Identity) -> Option<ResourceId> {
    Some(ResourceId::new(ResourceKind::from_name(&kind)?, hub.as_str(), name.as_str()))
}
