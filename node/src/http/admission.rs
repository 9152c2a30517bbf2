//! Who is let in: the hub must be there, the page's origin allowed, the token valid, and a seat free.

use std::sync::Arc;

use appsockets_core::{
    channel::is_valid_name, code::ErrorCode, identity::Identity, session::request::Credentials, settings::hub::Hub,
    settings::origin::origin_allowed,
};
use axum::http::{HeaderMap, HeaderName, header};

use super::{Node, Problem};
use crate::{edge::clock, engine::Seat};

/// What a connection or a request brought, of which the decision depends.
pub struct Visitor<'a> {
    pub hub: &'a str,
    pub headers: &'a HeaderMap,
    /// The token of the query, for those who can set no header.
    pub token: Option<&'a str>,
}

/// One who was let in.
pub struct Admitted {
    pub hub: Arc<Hub>,
    pub identity: Option<Arc<Identity>>,
}

impl Visitor<'_> {
    /// Decides about hub, origin and token.
    pub async fn admit(&self, node: &Node) -> Result<Admitted, Problem> {
        let hub = find_hub(node, self.hub).await?;
        if !from_allowed_origin(&hub, self.headers) {
            return Err(ErrorCode::OriginDenied.into());
        }
        let bearer = text(self.headers, header::AUTHORIZATION).and_then(bearer);
        let identity = match bearer.or(self.token) {
            Some(token) => Some(identify(node, &hub, token).await?),
            None => None,
        };
        Ok(Admitted { hub, identity })
    }
}

impl Admitted {
    pub fn seat(&self, node: &Node) -> Result<Seat, Problem> {
        node.shared.hubs.seat(&self.hub, clock::now()).ok_or_else(|| ErrorCode::HubFull.into())
    }

    /// Refuses one who could never authenticate later, where one must.
    pub fn must_be_somebody(&self) -> Result<(), Problem> {
        if self.identity.is_none() && !self.hub.allow_anonymous {
            return Err(ErrorCode::Unauthorized.into());
        }
        Ok(())
    }
}

/// Whether a request comes from a page that the hub allows, or from no page at all.
pub fn from_allowed_origin(hub: &Hub, headers: &HeaderMap) -> bool {
    // An origin that is not text is none that anybody has allowed.
    let origin = headers.get(header::ORIGIN).map(|value| value.to_str().unwrap_or("null"));
    origin_allowed(hub, origin, text(headers, header::HOST))
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

async fn find_hub(node: &Node, name: &str) -> Result<Arc<Hub>, Problem> {
    if !is_valid_name(name) {
        return Err(ErrorCode::HubNotFound.into());
    }
    let known = node.shared.settings.current().hubs.get(name).cloned();
    match known {
        Some(hub) => Ok(hub),
        None => {
            let (shared, name) = (node.shared.clone(), name.to_owned());
            let created = node.shared.runtime.spawn(async move { shared.settings.create_dynamic(&name).await });
            created.await.map_err(|_| ErrorCode::Internal)?.map_err(|refusal| refusal.code().into())
        }
    }
}

/// On the node's other runtime: a worker's thread does not wait for a tenant's key set.
async fn identify(node: &Node, hub: &Arc<Hub>, token: &str) -> Result<Arc<Identity>, Problem> {
    let (shared, hub) = (node.shared.clone(), hub.clone());
    let credentials = Credentials::Token(token.into());
    let outcome = node.shared.runtime.spawn(async move { shared.identify(&hub, "", &credentials).await });
    Ok(outcome.await.map_err(|_| ErrorCode::Internal)??)
}

/// The token of an `Authorization` header.
pub fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}
