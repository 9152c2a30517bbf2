//! The nodes that share the channels, and this node's stay among them.

use std::sync::atomic::Ordering;

use appsockets_core::{
    cluster::view::{Member, NodeId, View},
    code::ErrorCode,
};
use axum::{
    Json,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Admin;
use crate::{
    cluster::{Cluster, NodeStatus},
    engine::meters::Figure,
    http::{Problem, extract::Body},
};

/// What this node knows of its cluster.
pub async fn show(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let cluster = cluster(&admin)?;
    let status = cluster.status();
    let view = status.view.as_ref().map(|view| {
        json!({
            "number": view.number,
            "members": members(view),
            "installedMs": status.moments.installed_unix_ms,
            "resumedMs": status.moments.resumed_unix_ms,
            "settledMs": status.moments.settled_unix_ms,
        })
    });
    let settled = status.view.as_ref().is_some_and(|view| view.number == status.settled);
    Ok(Json(json!({
        "node": cluster.me.node,
        "generation": cluster.me.generation,
        "address": cluster.address.to_string(),
        "core": status.core,
        "leaving": status.leaving,
        "startedMs": status.started_unix_ms,
        "revision": admin.shared().settings.current().revision.to_string(),
        "view": view,
        "settled": settled,
        "sideView": status.side.as_ref().map(|side| json!({"members": members(side)})),
        "nodes": status.nodes.iter().map(node).collect::<Vec<_>>(),
    })))
}

fn members(view: &View) -> Vec<Value> {
    let member = |member: &Member| {
        let NodeId { node, generation } = member.id;
        json!({"node": node, "generation": generation, "points": member.points})
    };
    view.members.iter().map(member).collect()
}

fn node(node: &NodeStatus) -> Value {
    json!({
        "node": node.id.node,
        "generation": node.id.generation,
        "address": node.address.map(|address| address.to_string()),
        "core": node.core,
        "leaving": node.leaving,
        "alive": node.alive,
        "linked": node.linked,
        "metMs": node.met_unix_ms,
        "view": node.view,
        "revision": node.revision,
        "version": node.version,
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Role {
    core: bool,
}

/// Whether this node takes its share of the channels from now on. What its file says counts again after a restart.
pub async fn set_role(State(admin): State<Admin>, Body(body): Body) -> Result<StatusCode, Problem> {
    let cluster = cluster(&admin)?;
    let Role { core } = serde_json::from_slice(&body)
        .map_err(|error| Problem { code: ErrorCode::BadMessage, detail: Some(error.to_string()) })?;
    cluster.set_core(core).await;
    Ok(StatusCode::NO_CONTENT)
}

/// That node is certainly gone, says the administrator: nobody waits for it any more.
pub async fn forget(
    State(admin): State<Admin>,
    node: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Problem> {
    let cluster = cluster(&admin)?;
    let no_such = || Problem {
        code: ErrorCode::NotFound,
        detail: Some("No node of this number is known that is out of reach.".to_owned()),
    };
    let node = node.ok().and_then(|Path(node)| node.parse().ok()).ok_or_else(no_such)?;
    if cluster.forget(node).await { Ok(StatusCode::NO_CONTENT) } else { Err(no_such()) }
}

/// Begins to stop the node, as SIGTERM does.
pub async fn stop(State(admin): State<Admin>, Body(body): Body) -> Result<StatusCode, Problem> {
    // So that no request without a purpose stops a node.
    if serde_json::from_slice::<serde_json::Map<String, Value>>(&body).is_ok_and(|body| body.is_empty()) {
        admin.0.stop.notify_one();
        return Ok(StatusCode::ACCEPTED);
    }
    Err(Problem { code: ErrorCode::BadMessage, detail: Some("Send `{}`.".to_owned()) })
}

/// How far the node has come with stopping.
pub async fn stopping(State(admin): State<Admin>) -> Json<Value> {
    let points = admin.shared().cluster.as_ref().and_then(|cluster| {
        let status = cluster.status();
        status.view.as_ref().map(|view| view.member(cluster.me).map_or(0, |member| member.points))
    });
    Json(json!({
        "stopping": admin.0.draining.load(Ordering::Relaxed),
        "points": points,
        "sessions": admin.shared().meters.sum(Figure::Sessions),
        "connections": admin.0.connections.open(),
    }))
}

fn cluster(admin: &Admin) -> Result<&Cluster, Problem> {
    let alone = || Problem {
        code: ErrorCode::Unsupported,
        detail: Some("This node is alone: `cluster.listen` is not set.".to_owned()),
    };
    admin.shared().cluster.as_ref().ok_or_else(alone)
}
