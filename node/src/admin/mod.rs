//! What administrators do over HTTP, and what watches the node: resources, publishing, presence, health and metrics.
//!
//! Served on listeners of its own by the small runtime, so that nothing here takes time from a worker.

mod cluster;
mod health;
mod listeners;
mod messages;
mod metadata;
mod metrics;
mod page;
mod resources;
mod secrets;
mod server;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use appsockets_core::code::ErrorCode;
use axum::{
    Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderValue, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, delete, get, post, put},
};
use tokio::sync::Notify;

pub use listeners::Listeners;
pub use server::Server;

use crate::{
    config::AdminConfig,
    edge::Connections,
    engine::Shared,
    http::{Problem, bearer, not_that_way, nothing_here},
    secret::Secret,
    tls::Tls,
};

/// The description of all that is served here.
pub const OPENAPI: &str = include_str!("openapi.json");

/// The largest body of a request, in bytes.
const BODY_BYTES_MAX: usize = 1 << 20;

/// What the handlers work with.
#[derive(Clone)]
pub struct Admin(Arc<Inner>);

struct Inner {
    shared: Arc<Shared>,
    connections: Arc<Connections>,
    token: Secret,
    metric_hubs_max: usize,
    tls: Vec<Arc<Tls>>,
    draining: AtomicBool,
    /// An administrator wants the node to stop.
    stop: Notify,
}

impl Admin {
    /// The configured token must not be empty where administrators may connect. `tls` is what the listeners speak.
    pub fn new(
        config: &AdminConfig,
        shared: &Arc<Shared>,
        connections: &Arc<Connections>,
        tls: Vec<Arc<Tls>>,
    ) -> Admin {
        Admin(Arc::new(Inner {
            shared: shared.clone(),
            connections: connections.clone(),
            token: config.token.clone(),
            metric_hubs_max: config.metric_hubs_max,
            tls,
            draining: AtomicBool::new(false),
            stop: Notify::new(),
        }))
    }

    /// From now on the node is not ready.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    /// Waits until an administrator wants the node to stop.
    pub async fn stop_asked(&self) {
        self.0.stop.notified().await;
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }

    /// All that administrators may ask for.
    fn router(self) -> Router {
        let guarded = guarded().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
        let guarded = guarded.route_layer(middleware::from_fn_with_state(self.clone(), administrators_only));
        let open = open().into_iter().fold(guarded, |router, (path, methods)| router.route(path, methods));
        open.fallback(nothing_here)
            .method_not_allowed_fallback(not_that_way)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }

    /// What watches the node may ask for no more than this.
    fn metrics_router(self) -> Router {
        let watching =
            watching().into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods));
        watching
            .fallback(nothing_here)
            .method_not_allowed_fallback(not_that_way)
            .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
            .with_state(self)
    }
}

/// Every path that is served, as the description writes it.
pub fn paths() -> Vec<&'static str> {
    guarded().into_iter().chain(open()).map(|(path, _)| path).collect()
}

type Routes = Vec<(&'static str, MethodRouter<Admin>)>;

/// For those who show the token.
fn guarded() -> Routes {
    use resources::{AuthProvider, Channels, Hubs, Namespaces, Rules};
    vec![
        ("/v1/hubs", resources::of_all_hubs::<Hubs>()),
        ("/v1/auth-providers", resources::of_all_hubs::<AuthProvider>()),
        ("/v1/hubs/{hub}", resources::own::<Hubs>()),
        ("/v1/hubs/{hub}/auth-provider", resources::own::<AuthProvider>()),
        ("/v1/hubs/{hub}/channel-rules", resources::list::<Rules>()),
        ("/v1/hubs/{hub}/channel-rules/{name}", resources::named::<Rules>()),
        ("/v1/hubs/{hub}/namespaces", resources::list::<Namespaces>()),
        ("/v1/hubs/{hub}/namespaces/{name}", resources::named::<Namespaces>()),
        ("/v1/hubs/{hub}/channels", resources::list::<Channels>()),
        ("/v1/hubs/{hub}/channels/{name}", resources::named::<Channels>()),
        ("/v1/hubs/{hub}/channels/{name}/metadata", metadata::of_channel()),
        ("/v1/cluster", get(cluster::show)),
        ("/v1/cluster/role", put(cluster::set_role)),
        ("/v1/cluster/nodes/{node}", delete(cluster::forget)),
        ("/v1/stop", get(cluster::stopping).post(cluster::stop)),
        ("/v1/hubs/{hub}/publish", post(messages::publish)),
        ("/v1/hubs/{hub}/presence", get(messages::presence)),
    ]
}

/// For whoever reaches the listener.
fn open() -> Routes {
    let description = get(|| async { ([(header::CONTENT_TYPE, "application/json")], OPENAPI) });
    watching().into_iter().chain([("/openapi.json", description)]).collect()
}

/// What watches a node shows no token.
fn watching() -> Routes {
    vec![("/healthz", get(|| async { "ok\n" })), ("/readyz", get(health::ready)), ("/metrics", get(metrics::metrics))]
}

async fn administrators_only(State(admin): State<Admin>, request: Request, next: Next) -> Response {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if authorization.and_then(bearer).is_some_and(|token| admin.0.token.knows(token.as_bytes())) {
        return next.run(request).await;
    }
    let mut refusal = Problem::from(ErrorCode::Unauthorized).into_response();
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    refusal
}
