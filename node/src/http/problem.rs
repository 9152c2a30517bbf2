//! Refusals over HTTP: problem details (RFC 9457) with the code and name that the protocol gives them.

use appsockets_core::code::ErrorCode;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

/// A refusal.
#[derive(Clone, Debug)]
pub struct Problem {
    pub code: ErrorCode,
    /// What exactly is wrong, where there is more to say than the code's sentence.
    pub detail: Option<String>,
}

impl From<ErrorCode> for Problem {
    fn from(code: ErrorCode) -> Self {
        Problem { code, detail: None }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let Problem { code, detail } = self;
        let status = status(code);
        let body = json!({
            "type": format!("urn:appsockets:error:{}", code.name()),
            "title": code.message(),
            "status": status.as_u16(),
            "detail": detail,
            "code": code.code(),
            "name": code.name(),
            "retry": code.retry(),
        });
        let headers = [(header::CONTENT_TYPE, "application/problem+json"), (header::CACHE_CONTROL, "no-store")];
        (status, headers, body.to_string()).into_response()
    }
}

/// The status that says the same to those who know only HTTP.
fn status(code: ErrorCode) -> StatusCode {
    match code {
        ErrorCode::RateLimited | ErrorCode::HubRateLimited | ErrorCode::TooManyRequests => {
            StatusCode::TOO_MANY_REQUESTS
        }
        ErrorCode::MessageTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        ErrorCode::ChannelDenied | ErrorCode::OriginDenied => StatusCode::FORBIDDEN,
        ErrorCode::AuthFailed
        | ErrorCode::TokenInvalid
        | ErrorCode::TokenExpired
        | ErrorCode::Unauthorized
        | ErrorCode::AuthNotConfigured
        | ErrorCode::NotAuthenticated => StatusCode::UNAUTHORIZED,
        ErrorCode::HubNotFound | ErrorCode::NotFound => StatusCode::NOT_FOUND,
        ErrorCode::KeyConflict | ErrorCode::ManagedElsewhere => StatusCode::CONFLICT,
        ErrorCode::HubFull
        | ErrorCode::TryAgain
        | ErrorCode::AuthUnavailable
        | ErrorCode::AuthInProgress
        | ErrorCode::StoreFailed
        | ErrorCode::HistoryFailed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
