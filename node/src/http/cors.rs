//! What a browser wants to hear before it lets a page of another origin read an answer (Fetch standard, CORS protocol).
//! Whether the origin is allowed has been decided by then; it is only said again.

use axum::{
    extract::State,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{Node, Problem, admission::Visitor, extract::HubName};

/// Marks an answer as readable by the page that asked.
pub fn allow(request: &HeaderMap, mut response: Response) -> Response {
    if let Some(origin) = request.get(header::ORIGIN) {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// Answers the question that a browser asks before a publish.
pub async fn preflight(
    State(node): State<Node>,
    HubName(hub): HubName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Visitor { hub: &hub, headers: &headers, token: None }.admit(&node).await?;
    let answer = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    Ok(allow(&headers, (StatusCode::NO_CONTENT, answer).into_response()))
}
