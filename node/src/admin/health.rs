//! Whether the node wants clients.

use std::sync::atomic::Ordering;

use axum::{extract::State, http::StatusCode};

use super::Admin;

/// The listener begins after the settings were loaded, so what remains are the workers, the will to serve, and what an
/// operator wants.
pub async fn ready(State(admin): State<Admin>) -> (StatusCode, &'static str) {
    if admin.0.draining.load(Ordering::Relaxed) {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n")
    } else if !admin.shared().workers_run() {
        (StatusCode::SERVICE_UNAVAILABLE, "a worker does not run\n")
    } else if !admin.shared().settings.are_complete() {
        (StatusCode::SERVICE_UNAVAILABLE, "the operator has not said yet what to serve\n")
    } else {
        (StatusCode::OK, "ready\n")
    }
}
