//! What axum takes from a request, with refusals in the node's own form.

use appsockets_core::code::ErrorCode;
use axum::{
    body::Bytes,
    extract::{self, FromRequest, FromRequestParts, Request},
    http::{StatusCode, request::Parts},
    response::IntoResponse,
};
use serde::de::DeserializeOwned;

use super::Problem;

/// The hub that the path names.
pub struct HubName(pub String);

/// The parameters of the query.
pub struct Query<T>(pub T);

/// The whole body, within its bound.
pub struct Body(pub Bytes);

impl<S: Send + Sync> FromRequestParts<S> for HubName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Path::from_request_parts(parts, state).await {
            Ok(extract::Path(name)) => Ok(HubName(name)),
            // No hub has a name that is not UTF-8.
            Err(_) => Err(ErrorCode::HubNotFound.into()),
        }
    }
}

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        match extract::Query::from_request_parts(parts, state).await {
            Ok(extract::Query(parameters)) => Ok(Query(parameters)),
            Err(rejection) => Err(Problem { code: ErrorCode::BadMessage, detail: Some(rejection.body_text()) }),
        }
    }
}

impl<S: Send + Sync> FromRequest<S> for Body {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        match Bytes::from_request(request, state).await {
            Ok(bytes) => Ok(Body(bytes)),
            Err(rejection) => {
                let detail = Some(rejection.body_text());
                let too_large = rejection.into_response().status() == StatusCode::PAYLOAD_TOO_LARGE;
                let code = if too_large { ErrorCode::MessageTooLarge } else { ErrorCode::BadMessage };
                Err(Problem { code, detail })
            }
        }
    }
}
