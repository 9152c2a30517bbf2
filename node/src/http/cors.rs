//! What a browser wants to hear before it lets a page of another origin read an answer (Fetch standard, CORS protocol).

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Node, Problem,
    admission::{Visitor, from_allowed_origin},
    extract::HubName,
};

/// Marks answers as readable by the page that asked, refusals too: a page can't act upon a code that is kept from it.
pub async fn allow(State(node): State<Node>, HubName(hub): HubName, request: Request, next: Next) -> Response {
    let asked = request.headers().clone();
    let mut response = next.run(request).await;
    let allowed = node.shared.settings.current().hubs.get(&*hub).is_some_and(|hub| from_allowed_origin(hub, &asked));
    if let Some(origin) = asked.get(header::ORIGIN).filter(|_| allowed) {
        response.headers_mut().insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
    }
    response.headers_mut().append(header::VARY, HeaderValue::from_static("origin"));
    response
}

/// Answers the question that a browser asks before a request with a token or a body.
pub async fn preflight(
    State(node): State<Node>,
    HubName(hub): HubName,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    Visitor { hub: &hub, headers: &headers, token: None }.admit(&node).await?;
    let answer = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, "authorization, content-type, last-event-id"),
        (header::ACCESS_CONTROL_MAX_AGE, "600"),
    ];
    Ok((StatusCode::NO_CONTENT, answer).into_response())
}
