//! `GET /hubs/{hub}/ws`

use axum::{
    extract::{Path, Query, Request, State},
    response::Response,
};
use serde::Deserialize;

use super::{Node, Problem, admission::Visitor};
use crate::{edge::ws::Subprotocols, engine::Ticket};

#[derive(Deserialize)]
pub struct Parameters {
    token: Option<String>,
}

pub async fn connect(
    State(node): State<Node>,
    Path(hub): Path<String>,
    Query(Parameters { token }): Query<Parameters>,
    request: Request,
) -> Result<Response, Problem> {
    let visitor = Visitor { hub: &hub, headers: request.headers(), token: token.as_deref() };
    let admitted = visitor.admit(&node).await?;
    let seat = admitted.seat(&node)?;
    let ticket = Ticket { hub: admitted.hub, seat, identity: admitted.identity, channels: Vec::new(), restore: None };
    Ok(node.worker.accept_websocket(request, Subprotocols::Ours, ticket))
}
