//! Settings and metadata of channels, from one node's database to another's.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use appsockets_core::{cluster::view::NodeId, settings::push::PushStamp};
use appsockets_proto::cluster::{
    self as wire, ReadHandedRequest, ReadHandedResponse, ReadSettingsRequest, ReadSettingsResponse, Setting,
    peer_client::PeerClient,
};
use tokio::time::timeout;
use tonic::{Code, Status, transport::Channel};

use super::{
    Local,
    dial::{Failure, authorized, client},
};
use crate::settings::exchange::{Content, Item, Page, Stamp};

/// How long a node may take for one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// What is read before it is merged, in bytes. Then it goes on with the next pull.
const PULL_BYTES_MAX: usize = 64 << 20;

/// What is read page by page. Each part's revisions count by themselves.
#[derive(Clone, Copy, Debug)]
pub enum Part {
    Settings,
    Metadata,
}

/// From where to read next time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    pub settings: i64,
    pub metadata: i64,
}

/// How far what a node has was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulled {
    pub reached: Reached,
    /// There is more, for the next pull.
    pub more: bool,
    /// Something could not be used, and is read again.
    pub refused: bool,
}

/// Takes over what has changed at another node since `after`.
pub async fn pull(local: Arc<Local>, address: SocketAddr, id: NodeId, after: Reached) -> Result<Pulled, Failure> {
    let mut client = client(address).await?;
    let (mut reached, mut more, mut bytes) = (after, true, 0);
    let mut items: Vec<Item> = Vec::new();
    // All pages first: a hub must not be there for a moment without the rules that follow in a later page.
    while more && bytes < PULL_BYTES_MAX {
        let page = read(&local, &mut client, id, Part::Settings, reached.settings).await?;
        (reached.settings, more) = (page.reached, page.more);
        items.extend(page.items.into_iter().inspect(|item| bytes += item.weight()));
    }
    let again = local.settings.merge(items).await?;
    if let Some(again) = again {
        reached.settings = reached.settings.min(again - 1);
    }
    if local.settings.has_operator() {
        pull_handed(&local, &mut client).await?;
    }
    let mut pulled = Pulled { reached, more, refused: again.is_some() };
    // After the hubs that it belongs to, and after what went with a hub.
    pull_metadata(&local, &mut client, id, &mut pulled).await?;
    Ok(pulled)
}

/// Page by page, because there may be more than fits into memory.
async fn pull_metadata(
    local: &Local,
    client: &mut PeerClient<Channel>,
    id: NodeId,
    pulled: &mut Pulled,
) -> Result<(), Failure> {
    let (mut bytes, mut more, mut again) = (0, true, None::<i64>);
    while more && bytes < PULL_BYTES_MAX {
        let page = match read(local, client, id, Part::Metadata, pulled.reached.metadata).await {
            // A node of a version that knows of no metadata.
            Err(Failure::Call(status)) if status.code() == Code::Unimplemented => return Ok(()),
            page => page?,
        };
        (pulled.reached.metadata, more) = (page.reached, page.more);
        bytes += page.items.iter().map(Item::weight).sum::<usize>();
        again = again.or(local.settings.merge_metadata(&page.items).await?);
    }
    pulled.more |= more;
    if let Some(again) = again {
        pulled.reached.metadata = pulled.reached.metadata.min(again - 1);
        pulled.refused = true;
    }
    Ok(())
}

/// One page.
async fn read(
    local: &Local,
    client: &mut PeerClient<Channel>,
    id: NodeId,
    part: Part,
    after: i64,
) -> Result<Page, Failure> {
    let request = authorized(local, ReadSettingsRequest { after });
    let call = async {
        match part {
            Part::Settings => client.read_settings(request).await,
            Part::Metadata => client.read_metadata(request).await,
        }
    };
    let page = timeout(PAGE_TIMEOUT, call).await.map_err(|_| Failure::Silent)??.into_inner();
    if (NodeId { node: page.node, generation: page.generation }) != id {
        return Err(Failure::Replaced);
    }
    let ReadSettingsResponse { settings, reached, more, .. } = page;
    // Who has no more to say but says so gets no second chance to say it.
    Ok(Page { items: settings.into_iter().map(item).collect(), reached, more: more && reached > after })
}

/// Takes over what the operator handed over to that node and not yet to this one.
async fn pull_handed(local: &Local, client: &mut PeerClient<Channel>) -> Result<(), Failure> {
    let (held, _) = local.settings.handed().await;
    let PushStamp { term, sequence } = held.unwrap_or(PushStamp { term: 0, sequence: 0 });
    let call = client.read_handed(authorized(local, ReadHandedRequest { term, sequence }));
    let answer = timeout(PAGE_TIMEOUT, call).await.map_err(|_| Failure::Silent)??.into_inner();
    if !answer.sealed.is_empty() && !local.settings.take_handed(&answer.sealed).await {
        tracing::error!(
            "Another node has settings of the operator that this one can't open: set `cluster.membership.secretKey` alike."
        );
    } else if answer.told {
        local.settings.note_told();
    }
    Ok(())
}

/// What another node is answered that asks for what the operator handed over.
pub async fn handed(local: &Local, request: &ReadHandedRequest) -> ReadHandedResponse {
    let ReadHandedRequest { term, sequence } = *request;
    let held = (term > 0 || sequence > 0).then_some(PushStamp { term, sequence });
    let told = local.settings.is_told();
    ReadHandedResponse { sealed: local.settings.handed_since(held).await.into(), told }
}

/// What another node is answered that pulls.
pub async fn answer(local: &Local, part: Part, after: i64) -> Result<ReadSettingsResponse, Status> {
    let page = match part {
        Part::Settings => local.settings.page(after).await,
        Part::Metadata => local.settings.metadata_page(after).await,
    };
    let page = page.map_err(|error| {
        tracing::error!(%error, "The database of settings can't be read, so another node does not get them.");
        Status::unavailable("The database of settings failed.")
    })?;
    Ok(ReadSettingsResponse {
        node: local.me.node,
        generation: local.me.generation,
        settings: page.items.into_iter().map(setting).collect(),
        reached: page.reached,
        more: page.more,
    })
}

fn setting(item: Item) -> Setting {
    let Item { hub, kind, name, stamp, changed, content } = item;
    let content = content.map(|content| {
        let Content { source, uid, generation, resource } = content;
        wire::Content { source, uid, generation, resource }
    });
    Setting { hub, kind, name, stamp: stamp.ms, node: stamp.node, changed, content }
}

fn item(setting: Setting) -> Item {
    let Setting { hub, kind, name, stamp, node, changed, content } = setting;
    let content = content.map(|content| {
        let wire::Content { source, uid, generation, resource } = content;
        Content { source, uid, generation, resource }
    });
    Item { hub, kind, name, stamp: Stamp { ms: stamp, node }, changed, content }
}
