//! Which listeners there are beside that for clients.

use std::sync::Arc;

use super::{Admin, Server};
use crate::{config::Config, tls::Tls};

/// Those that are configured. They serve until this is dropped.
pub struct Listeners {
    pub admin: Option<Server>,
    pub metrics: Option<Server>,
}

impl Listeners {
    /// Begins to serve, on the runtime that this is called on. `tls` is for administrators.
    ///
    /// # Errors
    /// An address can't be listened on.
    pub async fn start(config: &Config, admin: &Admin, tls: Option<Arc<Tls>>) -> anyhow::Result<Listeners> {
        let mut listeners = Listeners { admin: None, metrics: None };
        if let Some(address) = config.admin_address() {
            let router = admin.clone().router();
            listeners.admin = Some(Server::start("admin.listen", address, router, tls).await?);
        }
        if let Some(address) = config.metrics.listen {
            let router = admin.clone().metrics_router();
            listeners.metrics = Some(Server::start("metrics.listen", address, router, None).await?);
        }
        Ok(listeners)
    }
}
