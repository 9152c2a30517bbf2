//! Metadata of channels: shown, written and removed, in hubs of any source.

use appsockets_core::{code::ErrorCode, session::check_channel};
use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{MethodRouter, get},
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    Admin,
    messages::find,
    resources::{Names, problem, to_the_end},
};
use crate::{
    http::{Problem, extract::Body},
    settings::metadata::Metadata,
};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    hub: String,
    channel: String,
    /// As it was written.
    value: Box<RawValue>,
    /// Unix milliseconds.
    written_ms: i64,
}

/// Of which a channel has one.
pub fn of_channel() -> MethodRouter<Admin> {
    get(async |State(admin): State<Admin>, names: Names| read(&admin, names).await)
        .put(async |State(admin): State<Admin>, names: Names, body: Body| write(&admin, names, body).await)
        .delete(async |State(admin): State<Admin>, names: Names| remove(&admin, names).await)
}

async fn read(admin: &Admin, names: Names) -> Result<Response, Problem> {
    let Names(hub, channel) = check(admin, names)?;
    let metadata = admin.shared().settings.metadata(&hub, &channel).await.map_err(|refusal| problem(&refusal))?;
    Ok(show(hub, channel, metadata))
}

async fn write(admin: &Admin, names: Names, Body(value): Body) -> Result<Response, Problem> {
    let Names(hub, channel) = check(admin, names)?;
    let settings = admin.shared().settings.clone();
    let written = async move {
        let metadata = settings.put_metadata(&hub, &channel, &value).await?;
        Ok((hub, channel, metadata))
    };
    let (hub, channel, metadata) = to_the_end(written).await?;
    Ok(show(hub, channel, metadata))
}

async fn remove(admin: &Admin, names: Names) -> Result<StatusCode, Problem> {
    let Names(hub, channel) = check(admin, names)?;
    let settings = admin.shared().settings.clone();
    to_the_end(async move { settings.remove_metadata(&hub, &channel).await }).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The names, if there may be such a channel.
fn check(admin: &Admin, names: Names) -> Result<Names, Problem> {
    find(admin, &names.0)?;
    check_channel(&names.1)?;
    Ok(names)
}

fn show(hub: String, channel: String, metadata: Metadata) -> Response {
    let Metadata { value, written_ms } = metadata;
    match RawValue::from_string(value) {
        Ok(value) => Json(Shown { hub, channel, value, written_ms }).into_response(),
        Err(error) => {
            tracing::error!(%hub, %channel, %error, "metadata in the database is no JSON");
            Problem::from(ErrorCode::Internal).into_response()
        }
    }
}
