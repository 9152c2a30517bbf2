//! The port at which the operator of this node's cluster hands over what custom resources say.
//!
//! It speaks TLS, and only with who shows a certificate for clients that the cluster's authority has signed. The
//! authority signs nodes' certificates for servers alone, so no node can be taken for the operator.

use std::{collections::BTreeSet, net::SocketAddr, sync::Arc, time::Duration};

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
/// Sessions that are to go are told so within this time.
const SHED_SPREAD_MS_MAX: u32 = 600_000;

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
        let read = |key: &str, path: &Option<std::path::PathBuf>| {
            let path = path.as_ref().with_context(|| format!("set `operator.{key}` as well"))?;
            std::fs::read(path).with_context(|| format!("operator.{key}: {} can't be read", path.display()))
        };
        let identity = TlsIdentity::from_pem(read("certificate", &config.certificate)?, read("key", &config.key)?);
        let authority = Certificate::from_pem(read("authority", &config.authority)?);
        let tls = ServerTlsConfig::new().identity(identity).client_ca_root(authority);
        let listener = TcpListener::bind(address).await;
        let listener = listener.with_context(|| format!("operator.listen: {address} can't be listened on"))?;
        let address = listener.local_addr()?;
        let service = ConfigurationServer::new(Service(shared.clone())).max_decoding_message_size(PART_BYTES_MAX);
        let server = Server::builder()
            .tls_config(tls)
            .context("the certificates of `operator` can't be used")?
            .max_concurrent_streams(16)
            .add_service(service);
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        tracing::info!("operator.listen: https://{address}");
        let serving = tokio::spawn(async move {
            if let Err(error) = server.serve_with_incoming(incoming).await {
                tracing::error!(%error, "the operator is no longer listened to");
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

struct Service(Arc<Shared>);

#[tonic::async_trait]
impl Configuration for Service {
    async fn push(&self, request: Request<Streaming<PushRequest>>) -> Result<Response<Held>, Status> {
        let push = receive(request.into_inner()).await?;
        let mut withheld = push.withheld.clone();
        let outcome = self.0.settings.push(push).await;
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
        Ok(Response::new(self.held().await))
    }

    async fn shed(&self, request: Request<ShedRequest>) -> Result<Response<ShedAnswer>, Status> {
        let ShedRequest { sessions, spread_ms } = request.into_inner();
        let of = self.0.meters.connected();
        let spread_ms = spread_ms.min(SHED_SPREAD_MS_MAX);
        tracing::info!(sessions, of, spread_ms, "telling sessions to connect elsewhere, as the operator asks");
        self.0.post_all(|| Mail::Shed { sessions, of, spread_ms }).await;
        Ok(Response::new(ShedAnswer {}))
    }
}

impl Service {
    async fn held(&self) -> Held {
        let (stamp, handed) = self.0.settings.handed().await;
        let PushStamp { term, sequence } = stamp.unwrap_or(PushStamp { term: 0, sequence: 0 });
        let me = self.0.cluster.as_ref().map_or(NodeId { node: 0, generation: 0 }, |cluster| cluster.me);
        let status = self.0.cluster.as_ref().map(|cluster| cluster.status());
        let view = status.as_ref().and_then(|status| Some(status.view.as_ref()?.number)).unwrap_or(0);
        Held {
            term,
            sequence,
            handed: handed.to_string(),
            serving: self.0.settings.current().revision.to_string(),
            node: me.node,
            generation: me.generation,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            sessions: self.0.meters.connected(),
            view,
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
