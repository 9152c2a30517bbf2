//! `GET /hubs/{hub}/ws`

use appsockets_core::code::ErrorCode;
use axum::{
    Extension,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Node, Problem,
    admission::Visitor,
    extract::{HubName, Query},
};
use crate::{
    edge::{
        Peer,
        ws::{Refusal, Subprotocols, handshake},
    },
    engine::Ticket,
};

#[derive(Deserialize)]
pub struct Parameters {
    token: Option<String>,
}

pub async fn connect(
    State(node): State<Node>,
    HubName(hub): HubName,
    Query(Parameters { token }): Query<Parameters>,
    Extension(peer): Extension<Peer>,
    mut request: Request,
) -> Result<Response, Problem> {
    let handshake = match handshake(&mut request, Subprotocols::Formats) {
        Ok(handshake) => handshake,
        // Its status and headers say what a client must do that speaks another version.
        Err(refusal @ Refusal::BadVersion) => return Ok(refusal.into_response()),
        Err(refusal) => return Err(Problem { code: ErrorCode::BadMessage, detail: Some(refusal.to_string()) }),
    };
    let visitor = Visitor { hub: &hub, headers: request.headers(), token: token.as_deref() };
    let admitted = visitor.admit(&node).await?;
    let seat = admitted.seat(&node)?;
    let ticket = Ticket { hub: admitted.hub, seat, identity: admitted.identity, channels: Vec::new(), restore: None };
    Ok(node.worker.accept_websocket(handshake, &peer, ticket))
}
