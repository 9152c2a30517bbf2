//! What administrators do in channels: they may publish everywhere, and see who is there.

use std::sync::Arc;

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    session::{ITEMS_MAX, check_channel, check_publish_form},
    settings::hub::Hub,
};
use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::oneshot;

use super::Admin;
use crate::{
    codec,
    engine::Mail,
    http::{
        Problem,
        extract::{Body, HubName, Query},
        publish::{answer, publish_all},
    },
};

/// The same body and answer as for clients. Neither access rules nor the hub's rate apply.
pub async fn publish(State(admin): State<Admin>, HubName(hub): HubName, Body(body): Body) -> Result<Response, Problem> {
    let hub = find(&admin, &hub)?;
    let publishes =
        codec::decode_publishes(&body).map_err(|error| Problem { code: error.code, detail: Some(error.detail) })?;
    if publishes.len() > ITEMS_MAX {
        return Err(ErrorCode::MessageTooLarge.into());
    }
    Ok(answer(&publish_all(admin.shared(), &hub.id, publishes, check_publish_form).await))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    channel: String,
}

pub async fn presence(
    State(admin): State<Admin>,
    HubName(hub): HubName,
    Query(Parameters { channel }): Query<Parameters>,
) -> Result<Response, Problem> {
    let hub = find(&admin, &hub)?;
    check_channel(&channel)?;
    let key = ChannelKey::new(hub.id.clone(), channel.as_str());
    let (reader, members) = oneshot::channel();
    let worker = admin.shared().worker_of(&key);
    admin.shared().mail(worker, Mail::ReadPresence { key, reader }).map_err(|_| ErrorCode::TryAgain)?;
    let members = members.await.map_err(|_| ErrorCode::TryAgain)??;
    let mut answer = Vec::new();
    codec::encode_members(&channel, &members, &mut answer);
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

/// The hub, if there is one of this name.
pub fn find(admin: &Admin, hub: &str) -> Result<Arc<Hub>, Problem> {
    admin.shared().settings.hub(hub).ok_or_else(|| ErrorCode::HubNotFound.into())
}
