//! `POST /hubs/{hub}/publish`: publishing without a connection.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    serial::Serial,
    session::{ITEMS_MAX, check_publish, event::Published, request::PublishInfo},
    shard::request::{Publish, Token},
};
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use tokio::sync::oneshot;

use super::{
    Node, Problem,
    admission::{Admitted, Visitor},
    extract::{Body, HubName},
};
use crate::{codec, edge::clock, engine::Mail};

pub async fn publish(
    State(node): State<Node>,
    HubName(hub): HubName,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let admitted = Visitor { hub: &hub, headers: &headers, token: None }.admit(&node).await?;
    admitted.must_be_somebody()?;
    let publishes =
        codec::decode_publishes(&body).map_err(|error| Problem { code: error.code, detail: Some(error.detail) })?;
    if publishes.len() > ITEMS_MAX {
        return Err(ErrorCode::MessageTooLarge.into());
    }
    let cost = u32::try_from(publishes.len().max(1)).unwrap_or(u32::MAX);
    if !node.shared.hubs.admits(&admitted.hub, cost, clock::now()) {
        return Err(ErrorCode::HubRateLimited.into());
    }
    let mut outcomes = Vec::with_capacity(publishes.len());
    // All are on their way before the first is waited for, so that those of one channel keep their order.
    for info in publishes {
        let (req_id, channel) = (info.req_id.unwrap_or_default(), info.channel.clone());
        outcomes.push((req_id, channel, send(&node, &admitted, info)));
    }
    let mut published = Vec::with_capacity(outcomes.len());
    for (req_id, channel, outcome) in outcomes {
        published.push(Published { req_id, channel, outcome: wait(outcome).await });
    }
    let mut answer = Vec::new();
    codec::encode_published(&published, &mut answer);
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

type Outcome = Result<oneshot::Receiver<Result<Serial, ErrorCode>>, ErrorCode>;

fn send(node: &Node, admitted: &Admitted, info: PublishInfo) -> Outcome {
    check_publish(&admitted.hub, admitted.identity.as_deref(), &info)?;
    let key = ChannelKey { hub: admitted.hub.id.clone(), channel: info.channel };
    let PublishInfo { event, payload, store, push, retain, key: idempotency_key, .. } = info;
    let token = Token { subscriber: Mail::NO_SESSION, number: 0 };
    let publish = Publish { token, ack: true, event, payload, store, push, retain, key: idempotency_key };
    let (caller, outcome) = oneshot::channel();
    let worker = node.shared.worker_of(&key);
    node.shared
        .mail(worker, Mail::Publish { key, publish: Box::new(publish), caller })
        .map_err(|_| ErrorCode::TryAgain)?;
    Ok(outcome)
}

async fn wait(outcome: Outcome) -> Result<Serial, ErrorCode> {
    outcome?.await.unwrap_or(Err(ErrorCode::TryAgain))
}
