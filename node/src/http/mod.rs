//! What a node answers over HTTP: the way in for WebSocket and SSE clients, and publishing without a connection.

mod admission;
mod cors;
pub(crate) mod extract;
mod history;
mod problem;
pub(crate) mod publish;
mod sse;
mod websocket;

use std::{sync::Arc, time::Duration};

use appsockets_core::code::ErrorCode;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request},
    middleware::{self, Next},
    response::{Html, Response},
    routing::{any, get, post},
};

pub use admission::bearer;
pub use problem::Problem;

use crate::{
    edge::WorkerHandle,
    engine::{Mail, Shared, Ticket},
};

/// A page to try things with: connect, subscribe, publish, and see what comes.
const PAGE: &str = include_str!("page.html");

/// What the handlers of one worker work with.
#[derive(Clone)]
pub struct Node {
    pub shared: Arc<Shared>,
    /// The worker that accepted the connection, and keeps it.
    pub worker: WorkerHandle<Ticket, Mail>,
}

/// The routes of one worker.
pub fn router(node: Node) -> Router {
    let page = if node.shared.page { get(|| async { Html(PAGE) }) } else { any(nothing_here) };
    // What one who publishes without a connection sends at once is a message of a client as well.
    let body_max = DefaultBodyLimit::max(node.shared.session.message_bytes_max as usize);
    Router::new()
        .route("/hubs/{hub}/sse", get(sse::connect).options(cors::preflight))
        .route("/hubs/{hub}/publish", post(publish::publish).options(cors::preflight).layer(body_max))
        .route("/hubs/{hub}/history", get(history::history).options(cors::preflight))
        .route_layer(middleware::from_fn_with_state(node.clone(), cors::allow))
        .route("/hubs/{hub}/ws", get(websocket::connect))
        .route("/", page)
        .route("/healthz", get(|| async { "ok\n" }))
        .fallback(nothing_here)
        .method_not_allowed_fallback(not_that_way)
        .layer(middleware::from_fn(in_time))
        .with_state(node)
}

/// Bounds how long a request may take to arrive and be decided. What follows an answer's head is not concerned.
async fn in_time(request: Request, next: Next) -> Result<Response, Problem> {
    const LIMIT: Duration = Duration::from_secs(30);
    tokio::time::timeout(LIMIT, next.run(request)).await.map_err(|_| ErrorCode::TryAgain.into())
}

pub(crate) async fn nothing_here() -> Problem {
    ErrorCode::NotFound.into()
}

/// The header `Allow` is added to it.
pub(crate) async fn not_that_way() -> Problem {
    ErrorCode::MethodNotAllowed.into()
}
