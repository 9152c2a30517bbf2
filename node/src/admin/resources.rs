//! Reading, writing and removing resources.

use std::sync::Arc;

use appsockets_core::{
    code::ErrorCode,
    settings::{
        entry::{Entry, ResourceId, ResourceKind},
        object::object,
        resource::Resource,
    },
};
use axum::{
    Json,
    extract::{FromRequestParts, Path, State},
    http::{StatusCode, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{Admin, page::Wanted, secrets};
use crate::{
    http::{
        Problem,
        extract::{Body, HubName, Query},
    },
    settings::Refusal,
};

/// A kind of resource, with its place in the paths.
pub trait Kind: 'static {
    const KIND: ResourceKind;

    fn resource(hub: String, name: String, spec: &[u8]) -> serde_json::Result<Resource>;
}

pub struct Hubs;
pub struct AuthProvider;
pub struct Rules;
pub struct Namespaces;
pub struct Channels;

impl Kind for Hubs {
    const KIND: ResourceKind = ResourceKind::Hub;

    fn resource(_: String, name: String, spec: &[u8]) -> serde_json::Result<Resource> {
        Ok(Resource::Hub { name, spec: read(spec)? })
    }
}

impl Kind for AuthProvider {
    const KIND: ResourceKind = ResourceKind::AuthProvider;

    fn resource(hub: String, _: String, spec: &[u8]) -> serde_json::Result<Resource> {
        Ok(Resource::AuthProvider { hub, spec: read(spec)? })
    }
}

impl Kind for Rules {
    const KIND: ResourceKind = ResourceKind::ChannelRules;

    fn resource(hub: String, name: String, spec: &[u8]) -> serde_json::Result<Resource> {
        Ok(Resource::ChannelRules { hub, name, spec: read(spec)? })
    }
}

impl Kind for Namespaces {
    const KIND: ResourceKind = ResourceKind::Namespace;

    fn resource(hub: String, name: String, spec: &[u8]) -> serde_json::Result<Resource> {
        Ok(Resource::Namespace { hub, name, spec: read(spec)? })
    }
}

impl Kind for Channels {
    const KIND: ResourceKind = ResourceKind::Channel;

    fn resource(hub: String, name: String, spec: &[u8]) -> serde_json::Result<Resource> {
        Ok(Resource::Channel { hub, name, spec: read(spec)? })
    }
}

fn read<T: DeserializeOwned>(spec: &[u8]) -> serde_json::Result<T> {
    let mut text = serde_json::Deserializer::from_slice(spec);
    let spec = object(&mut text)?;
    text.end()?;
    Ok(spec)
}

/// Of which a hub has one.
pub fn own<K: Kind>() -> MethodRouter<Admin> {
    get(async |State(admin): State<Admin>, HubName(hub): HubName| find::<K>(&admin, hub.clone(), hub).await)
        .put(async |State(admin): State<Admin>, HubName(hub): HubName, Body(body): Body| {
            write::<K>(&admin, hub.clone(), hub, &body).await
        })
        .delete(async |State(admin): State<Admin>, HubName(hub): HubName| remove::<K>(&admin, hub.clone(), hub).await)
}

/// Of which a hub has any number.
pub fn named<K: Kind>() -> MethodRouter<Admin> {
    get(async |State(admin): State<Admin>, Names(hub, name): Names| find::<K>(&admin, hub, name).await)
        .put(async |State(admin): State<Admin>, Names(hub, name): Names, Body(body): Body| {
            write::<K>(&admin, hub, name, &body).await
        })
        .delete(async |State(admin): State<Admin>, Names(hub, name): Names| remove::<K>(&admin, hub, name).await)
}

/// All of a hub.
pub fn list<K: Kind>() -> MethodRouter<Admin> {
    get(async |State(admin): State<Admin>, HubName(hub): HubName, Query(wanted): Query<Wanted>| {
        if admin.shared().settings.hub(&hub).is_none() {
            return Err(Problem::from(ErrorCode::HubNotFound));
        }
        let snapshot = admin.shared().settings.snapshot().await;
        let entries = snapshot.of_hub(&hub).map(|entry| &**entry).filter(|entry| entry.id.kind == K::KIND);
        Ok(Json(wanted.page(entries, show)))
    })
}

/// Those of all hubs, of a kind of which each has at most one.
pub fn of_all_hubs<K: Kind>() -> MethodRouter<Admin> {
    get(async |State(admin): State<Admin>, Query(wanted): Query<Wanted>| {
        let snapshot = admin.shared().settings.snapshot().await;
        let entries = snapshot.entries().map(|entry| &**entry).filter(|entry| entry.id.kind == K::KIND);
        Json(wanted.page(entries, show))
    })
}

/// The two names of a path, decoded.
pub struct Names(pub String, pub String);

impl<S: Send + Sync> FromRequestParts<S> for Names {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        // Nothing has a name that is not UTF-8.
        let Path((hub, name)) = Path::from_request_parts(parts, state).await.map_err(|_| ErrorCode::NotFound)?;
        Ok(Names(hub, name))
    }
}

async fn find<K: Kind>(admin: &Admin, hub: String, name: String) -> Result<Json<Value>, Problem> {
    let id = ResourceId::new(K::KIND, hub, name);
    let entry = admin.shared().settings.entry(&id).await;
    let known = admin.shared().settings.hub(&id.hub).is_some();
    let missing = if known { Refusal::NotFound(id.clone()) } else { Refusal::HubNotFound(id.hub.clone()) };
    Ok(Json(show(&*entry.ok_or_else(|| problem(&missing))?)))
}

async fn write<K: Kind>(admin: &Admin, hub: String, name: String, body: &[u8]) -> Result<Json<Value>, Problem> {
    let mut resource = K::resource(hub, name, body)
        .map_err(|error| Problem { code: ErrorCode::ResourceInvalid, detail: Some(format!("spec: {error}.")) })?;
    let settings = admin.shared().settings.clone();
    let held = settings.entry(&resource.id()).await;
    let held = held.as_ref().map(|entry| &entry.resource);
    secrets::keep(&mut resource, held).map_err(|problems| problem(&Refusal::Invalid(problems)))?;
    let entry: Arc<Entry> = to_the_end(async move { settings.apply(resource).await }).await?;
    Ok(Json(show(&entry)))
}

async fn remove<K: Kind>(admin: &Admin, hub: String, name: String) -> Result<Response, Problem> {
    let id = ResourceId::new(K::KIND, hub, name);
    let settings = admin.shared().settings.clone();
    to_the_end(async move { settings.remove(&id).await }).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// In a task of its own: an administrator who goes away leaves no half of a change behind.
pub async fn to_the_end<T: Send + 'static>(
    change: impl Future<Output = Result<T, Refusal>> + Send + 'static,
) -> Result<T, Problem> {
    tokio::spawn(change).await.map_err(|_| ErrorCode::Internal)?.map_err(|refusal| problem(&refusal))
}

/// Without its secrets.
fn show(entry: &Entry) -> Value {
    let mut shown = json!(secrets::hide(&entry.resource));
    if let Value::Object(fields) = &mut shown {
        fields.insert("source".to_owned(), entry.source.name().into());
    }
    shown
}

/// What an administrator is told.
pub fn problem(refusal: &Refusal) -> Problem {
    if let Refusal::Database(error) = refusal {
        tracing::error!(%error, "the database of settings failed");
        return ErrorCode::Internal.into();
    }
    Problem { code: refusal.code(), detail: Some(refusal.to_string()) }
}
