//! The opening handshake (RFC 6455, 4.2).

use std::fmt;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use base64::{Engine, prelude::BASE64_STANDARD};
use hyper::upgrade::OnUpgrade;
use sha1::{Digest, Sha1};

use super::Kind;
use crate::codec::Format;

const ACCEPT_GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const KEY_BYTES: usize = 16;

/// Which subprotocols a route speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subprotocols {
    /// The formats of the client protocol: the first that the client offers, JSON if it offers none. Messages of the
    /// other kind are refused.
    Formats,
    /// None. Messages of both kinds come to [`crate::edge::Handler::received_any`]; the format says JSON.
    Any,
}

/// A request that may become a WebSocket.
pub struct Handshake {
    pub(crate) format: Format,
    /// The only kind of message that the client may send, if it may not send both.
    pub(crate) kind: Option<Kind>,
    pub(crate) upgrade: OnUpgrade,
    accept: HeaderValue,
    subprotocol: Option<&'static str>,
}

impl fmt::Debug for Handshake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handshake").field("format", &self.format).field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Handshake {
    pub fn format(&self) -> Format {
        self.format
    }

    /// 101, after which the connection is a WebSocket.
    pub(crate) fn response(&self) -> Response {
        let mut response = Response::new(Body::empty());
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
        headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, self.accept.clone());
        if let Some(subprotocol) = self.subprotocol {
            headers.insert(header::SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(subprotocol));
        }
        response
    }
}

/// Why a request can't become a WebSocket. It is its own answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("This address speaks WebSocket: send an upgrade request as RFC 6455 describes it.\n")]
    NotWebSocket,
    #[error("Sec-WebSocket-Key must be 16 bytes in base64.\n")]
    BadKey,
    #[error("Only version 13 of the WebSocket protocol is spoken.\n")]
    BadVersion,
    #[error(
        "None of the subprotocols is known: offer appsockets.v1.protobuf or appsockets.v1.json, or none for JSON.\n"
    )]
    UnknownSubprotocol,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = self.to_string();
        match self {
            Refusal::BadVersion => {
                let headers = [(header::SEC_WEBSOCKET_VERSION, "13"), (header::UPGRADE, "websocket")];
                (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
            }
            _ => (StatusCode::BAD_REQUEST, text).into_response(),
        }
    }
}

/// Checks the request. What to do with it is [`crate::edge::WorkerHandle::accept_websocket`]'s.
pub fn handshake<B>(request: &mut Request<B>, subprotocols: Subprotocols) -> Result<Handshake, Refusal> {
    let headers = request.headers();
    let asks = request.method() == Method::GET
        && request.version() == Version::HTTP_11
        && headers.contains_key(header::HOST)
        && tokens(headers, header::UPGRADE).any(|token| token.eq_ignore_ascii_case("websocket"))
        && tokens(headers, header::CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"));
    if !asks {
        return Err(Refusal::NotWebSocket);
    }
    if headers.get(header::SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(Refusal::BadVersion);
    }
    let accept = headers.get(header::SEC_WEBSOCKET_KEY).and_then(accept).ok_or(Refusal::BadKey)?;
    let (format, subprotocol, kind) = match subprotocols {
        Subprotocols::Any => (Format::Json, None, None),
        Subprotocols::Formats => {
            let (format, subprotocol) = choose(headers)?;
            (format, subprotocol, Some(kind_of(format)))
        }
    };
    Ok(Handshake { format, kind, upgrade: hyper::upgrade::on(request), accept, subprotocol })
}

/// The answer to a key; none if it is not one.
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let decoded = BASE64_STANDARD.decode(key.as_bytes()).ok()?;
    if decoded.len() != KEY_BYTES {
        return None;
    }
    let digest = Sha1::new().chain_update(key.as_bytes()).chain_update(ACCEPT_GUID).finalize();
    HeaderValue::try_from(BASE64_STANDARD.encode(digest)).ok()
}

fn choose(headers: &HeaderMap) -> Result<(Format, Option<&'static str>), Refusal> {
    if !headers.contains_key(header::SEC_WEBSOCKET_PROTOCOL) {
        return Ok((Format::Json, None));
    }
    let format = tokens(headers, header::SEC_WEBSOCKET_PROTOCOL)
        .find_map(|token| [Format::Protobuf, Format::Json].into_iter().find(|format| format.subprotocol() == token))
        .ok_or(Refusal::UnknownSubprotocol)?;
    Ok((format, Some(format.subprotocol())))
}

const fn kind_of(format: Format) -> Kind {
    match format {
        Format::Protobuf => Kind::Binary,
        Format::Json => Kind::Text,
    }
}

/// The elements of a list that may be spread over several headers of the name.
fn tokens(headers: &HeaderMap, name: header::HeaderName) -> impl Iterator<Item = &str> {
    headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, Request, StatusCode, header};
    use axum::response::IntoResponse;

    use super::{Format, Handshake, Kind, Refusal, Subprotocols, handshake};

    /// The request of RFC 6455, 1.3, with some of its headers replaced, or left out.
    fn shake(changes: &[(HeaderName, Option<&str>)], subprotocols: Subprotocols) -> Result<Handshake, Refusal> {
        let mut request = Request::get("/chat").body(()).unwrap();
        let headers = request.headers_mut();
        headers.insert(header::HOST, "server.example.com".parse().unwrap());
        headers.insert(header::UPGRADE, "websocket".parse().unwrap());
        headers.insert(header::CONNECTION, "Upgrade".parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==".parse().unwrap());
        headers.insert(header::SEC_WEBSOCKET_VERSION, "13".parse().unwrap());
        for (name, value) in changes {
            match value {
                Some(value) => _ = headers.insert(name, value.parse().unwrap()),
                None => _ = headers.remove(name),
            }
        }
        handshake(&mut request, subprotocols)
    }

    #[test]
    fn answers_the_example_of_the_rfc() {
        let shaken = shake(&[], Subprotocols::Formats).unwrap();
        let response = shaken.response();
        assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
        assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        assert!(!response.headers().contains_key(header::SEC_WEBSOCKET_PROTOCOL));
        assert_eq!((shaken.format, shaken.kind), (Format::Json, Some(Kind::Text)));
    }

    #[test]
    fn chooses_the_first_known_subprotocol() {
        let offer = [(header::SEC_WEBSOCKET_PROTOCOL, Some("mqtt, appsockets.v1.protobuf ,appsockets.v1.json"))];
        let shaken = shake(&offer, Subprotocols::Formats).unwrap();
        assert_eq!((shaken.format, shaken.kind), (Format::Protobuf, Some(Kind::Binary)));
        assert_eq!(shaken.response().headers()[header::SEC_WEBSOCKET_PROTOCOL], "appsockets.v1.protobuf");
        assert_eq!(shake(&offer, Subprotocols::Any).unwrap().kind, None);
    }

    #[test]
    fn refuses_what_is_no_handshake() {
        let cases = [
            (header::UPGRADE, None, Refusal::NotWebSocket),
            (header::CONNECTION, Some("keep-alive"), Refusal::NotWebSocket),
            (header::HOST, None, Refusal::NotWebSocket),
            (header::SEC_WEBSOCKET_KEY, None, Refusal::BadKey),
            (header::SEC_WEBSOCKET_KEY, Some("c2hvcnQ="), Refusal::BadKey),
            (header::SEC_WEBSOCKET_VERSION, Some("8"), Refusal::BadVersion),
            (header::SEC_WEBSOCKET_PROTOCOL, Some("mqtt"), Refusal::UnknownSubprotocol),
        ];
        for (name, value, refusal) in cases {
            assert_eq!(shake(&[(name.clone(), value)], Subprotocols::Formats).unwrap_err(), refusal, "{name}");
        }
        assert_eq!(Refusal::BadVersion.into_response().status(), StatusCode::UPGRADE_REQUIRED);
    }

    #[test]
    fn takes_connection_headers_as_browsers_send_them() {
        assert!(shake(&[(header::CONNECTION, Some("keep-alive, Upgrade"))], Subprotocols::Formats).is_ok());
    }
}
