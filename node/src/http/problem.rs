//! Refusals over HTTP: problem details (RFC 9457) with the code and name that the protocol gives them.

use appsockets_core::code::ErrorCode;
use axum::{
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::json;

const MEDIA_TYPE: &str = "application/problem+json";

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
        let headers = [(header::CONTENT_TYPE, MEDIA_TYPE), (header::CACHE_CONTROL, "no-store")];
        (status(self.code), headers, self.body()).into_response()
    }
}

impl Problem {
    fn body(self) -> String {
        let Problem { code, detail } = self;
        json!({
            "type": format!("urn:appsockets:error:{}", code.name()),
            "title": code.message(),
            "status": status(code).as_u16(),
            "detail": detail,
            "code": code.code(),
            "name": code.name(),
            "retry": code.retry(),
        })
        .to_string()
    }

    /// The whole answer as it travels, for one who is not served at all.
    pub fn turn_away(self) -> Vec<u8> {
        let (status, body) = (status(self.code), self.body());
        format!(
            "HTTP/1.1 {status}\r\ncontent-type: {MEDIA_TYPE}\r\ncontent-length: {}\r\nretry-after: 1\r\n\
             cache-control: no-store\r\nconnection: close\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
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
        ErrorCode::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
        ErrorCode::KeyConflict | ErrorCode::ManagedElsewhere => StatusCode::CONFLICT,
        ErrorCode::HubFull
        | ErrorCode::NodeFull
        | ErrorCode::TryAgain
        | ErrorCode::AuthUnavailable
        | ErrorCode::AuthInProgress
        | ErrorCode::StoreFailed
        | ErrorCode::HistoryFailed => StatusCode::SERVICE_UNAVAILABLE,
        ErrorCode::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    }
}
