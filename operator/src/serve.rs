//! Whether the operator is well, and its figures.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::Context;
use axum::{Router, extract::State, http::StatusCode, routing::get};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{metrics::Metrics, watching::Watched};

/// What is served.
#[derive(Clone)]
pub struct Health(Arc<Inner>);

struct Inner {
    watched: Arc<Watched>,
    metrics: Metrics,
    listed: AtomicBool,
}

impl Health {
    pub fn new(watched: Arc<Watched>, metrics: Metrics) -> Health {
        Health(Arc::new(Inner { watched, metrics, listed: AtomicBool::new(false) }))
    }

    /// Every kind was listed once.
    pub fn listed(&self) {
        self.0.listed.store(true, Ordering::Relaxed);
    }
}

/// Serves until it ends, which is a mistake.
///
/// # Errors
/// The address can't be listened on.
pub async fn serve(address: SocketAddr, health: Health) -> anyhow::Result<JoinHandle<std::io::Result<()>>> {
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("--metrics: {address} can't be listened on"))?;
    let router = Router::new()
        .route("/healthz", get(async || "well\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(async |State(health): State<Health>| health.0.metrics.text()))
        .with_state(health);
    Ok(tokio::spawn(axum::serve(listener, router).into_future()))
}

/// It is ready when it knows all that is there, whether or not it is the one that acts.
async fn ready(State(health): State<Health>) -> (StatusCode, String) {
    if health.0.listed.load(Ordering::Relaxed) {
        return (StatusCode::OK, "ready\n".to_owned());
    }
    let failing = health.0.watched.failing();
    let why: String = failing.iter().map(|(kind, error)| format!("{kind} can't be watched: {error}\n")).collect();
    let why = if why.is_empty() { "what is there is being read\n".to_owned() } else { why };
    (StatusCode::SERVICE_UNAVAILABLE, why)
}
