//! What a node answers over HTTP: the way in for WebSocket and SSE clients, and publishing without a connection.

mod admission;
mod cors;
pub mod last_event_id;
mod problem;
mod publish;
mod sse;
mod websocket;

use std::sync::Arc;

use axum::{
    Router,
    http::StatusCode,
    response::IntoResponse,
    routing::{get, post},
};

pub use problem::Problem;

use crate::{
    edge::WorkerHandle,
    engine::{Mail, Shared, Ticket},
};

/// What the handlers of one worker work with.
#[derive(Clone)]
pub struct Node {
    pub shared: Arc<Shared>,
    /// The worker that accepted the connection, and keeps it.
    pub worker: WorkerHandle<Ticket, Mail>,
}

/// The routes of one worker.
pub fn router(node: Node) -> Router {
    Router::new()
        .route("/hubs/{hub}/ws", get(websocket::connect))
        .route("/hubs/{hub}/sse", get(sse::connect))
        .route("/hubs/{hub}/publish", post(publish::publish).options(cors::preflight))
        .route("/healthz", get(|| async { (StatusCode::OK, "ok\n") }))
        .fallback(|| async { Problem::from(appsockets_core::code::ErrorCode::NotFound).into_response() })
        .with_state(node)
}
