//! `GET /hubs/{hub}/sse?channel=…&channel=…`

use std::collections::BTreeSet;

use appsockets_core::{
    code::ErrorCode,
    session::request::{Recover, SubscribeInfo},
};
use axum::{
    Extension,
    extract::{RawQuery, Request, State},
    response::Response,
};

use super::{Node, Problem, admission::Visitor, extract::HubName};
use crate::{
    edge::Peer,
    engine::{Ticket, last_event_id::LastEventId},
};

/// Names the channels of one connection, and the token.
#[derive(Default)]
struct Parameters {
    channels: BTreeSet<String>,
    token: Option<String>,
}

pub async fn connect(
    State(node): State<Node>,
    HubName(hub): HubName,
    RawQuery(query): RawQuery,
    Extension(peer): Extension<Peer>,
    request: Request,
) -> Result<Response, Problem> {
    let Parameters { channels, token } = Parameters::parse(query.as_deref().unwrap_or_default());
    if channels.is_empty() {
        let detail = Some("Name at least one channel: ?channel=NAME".to_owned());
        return Err(Problem { code: ErrorCode::BadMessage, detail });
    }
    let visitor = Visitor { hub: &hub, headers: request.headers(), token: token.as_deref() };
    let admitted = visitor.admit(&node).await?;
    admitted.must_be_somebody()?;
    let seat = admitted.seat(&node)?;
    let id = request.headers().get("last-event-id");
    let last = id.and_then(|id| LastEventId::parse(id.to_str().ok()?));
    // With an id that no node has made, nobody knows what the client has.
    let unknown = id.map(|_| Recover::Unknown);
    let channels = channels
        .into_iter()
        .map(|channel| SubscribeInfo {
            recover: last.as_ref().map(|last| last.recover(&channel)).or(unknown),
            channel: channel.into(),
        })
        .collect();
    let restore = last.map(|last| last.resume);
    let ticket = Ticket { hub: admitted.hub, seat, identity: admitted.identity, channels, restore };
    Ok(node.worker.accept_sse(&peer, ticket))
}

impl Parameters {
    fn parse(query: &str) -> Parameters {
        let mut parameters = Parameters::default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "channel" => drop(parameters.channels.insert(value.into_owned())),
                "token" => parameters.token = Some(value.into_owned()),
                _ => {}
            }
        }
        parameters
    }
}
