//! `GET /hubs/{hub}/history?channel=…`: stored messages, page by page.

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    session::{check_history, request::HistoryQuery},
};
use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;

use super::{
    Node, Problem,
    admission::Visitor,
    extract::{HubName, Query},
};
use crate::{
    codec::{self, Bounds},
    edge::clock,
};

/// As in the protocol's HistoryRequest.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    token: Option<String>,
    channel: String,
    before_ts: Option<i64>,
    after_ts: Option<i64>,
    before_serial: Option<String>,
    after_serial: Option<String>,
    limit: Option<u32>,
}

pub async fn history(
    State(node): State<Node>,
    HubName(hub): HubName,
    Query(parameters): Query<Parameters>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let token = parameters.token.as_deref();
    let admitted = Visitor { hub: &hub, headers: &headers, token }.admit(&node).await?;
    admitted.must_be_somebody()?;
    let query = parameters.query();
    check_history(&admitted.hub, admitted.identity.as_deref(), &query)?;
    if !node.shared.hubs.admits(&admitted.hub, 1, clock::now()) {
        return Err(ErrorCode::HubRateLimited.into());
    }
    let key = ChannelKey::new(admitted.hub.id.clone(), query.channel.clone());
    let limit = node.shared.page_limit(query.limit);
    let page = node.shared.read_history(key, query.bound, limit).await.map_err(|_| ErrorCode::HistoryFailed)??;
    let mut answer = Vec::new();
    codec::encode_history(&query.channel, &page, &mut answer);
    Ok(([(header::CONTENT_TYPE, "application/json")], answer).into_response())
}

impl Parameters {
    fn query(self) -> HistoryQuery {
        let bounds = Bounds {
            before_ts: self.before_ts,
            after_ts: self.after_ts,
            before_serial: self.before_serial.as_deref(),
            after_serial: self.after_serial.as_deref(),
        };
        HistoryQuery { req_id: 0, bound: bounds.bound(), channel: self.channel.into(), limit: self.limit }
    }
}
