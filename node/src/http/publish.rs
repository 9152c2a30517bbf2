//! `POST /hubs/{hub}/publish`: publishing without a connection.

use appsockets_core::{
    channel::{ChannelKey, HubId},
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
    admission::Visitor,
    extract::{Body, HubName},
};
use crate::{
    codec,
    edge::clock,
    engine::{Mail, Shared},
};

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
    let identity = admitted.identity.as_deref();
    let check = |info: &PublishInfo| check_publish(&admitted.hub, identity, info);
    Ok(answer(&publish_all(&node.shared, &admitted.hub.id, publishes, check).await))
}

/// Publishes what the check lets pass, and waits for the outcomes.
pub async fn publish_all(
    shared: &Shared,
    hub: &HubId,
    publishes: Vec<PublishInfo>,
    check: impl Fn(&PublishInfo) -> Result<(), ErrorCode>,
) -> Vec<Published> {
    let mut outcomes = Vec::with_capacity(publishes.len());
    // All are on their way before the first is waited for, so that those of one channel keep their order.
    for info in publishes {
        let (req_id, channel) = (info.req_id.unwrap_or_default(), info.channel.clone());
        let outcome = check(&info).and_then(|()| send(shared, hub, info));
        outcomes.push((req_id, channel, outcome));
    }
    let mut published = Vec::with_capacity(outcomes.len());
    for (req_id, channel, outcome) in outcomes {
        published.push(Published { req_id, channel, outcome: wait(outcome).await });
    }
    published
}

/// The answer that tells the outcomes.
pub fn answer(published: &[Published]) -> Response {
    let mut answer = Vec::new();
    codec::encode_published(published, &mut answer);
    ([(header::CONTENT_TYPE, "application/json")], answer).into_response()
}

type Outcome = Result<oneshot::Receiver<Result<Serial, ErrorCode>>, ErrorCode>;

fn send(shared: &Shared, hub: &HubId, info: PublishInfo) -> Outcome {
    let key = ChannelKey::new(hub.clone(), info.channel);
    let PublishInfo { event, payload, store, push, retain, key: idempotency_key, .. } = info;
    let token = Token { subscriber: Mail::NO_SESSION, number: 0 };
    let publish = Publish { token, ack: true, event, payload, store, push, retain, key: idempotency_key };
    let (caller, outcome) = oneshot::channel();
    let worker = shared.worker_of(&key);
    shared.mail(worker, Mail::Publish { key, publish: Box::new(publish), caller }).map_err(|_| ErrorCode::TryAgain)?;
    Ok(outcome)
}

async fn wait(outcome: Outcome) -> Result<Serial, ErrorCode> {
    outcome?.await.unwrap_or(Err(ErrorCode::TryAgain))
}
