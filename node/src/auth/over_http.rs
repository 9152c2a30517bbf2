//! A provider that is asked over HTTP.

use std::time::Duration;

use appsockets_core::settings::resource::HttpProviderSpec;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{self, HeaderName, HeaderValue},
};

use super::{
    fetch::{Answer, FetchError, Fetcher},
    guard::{Guard, Target},
    provider::HEADERS_MAX,
};

/// [`HttpProviderSpec`], checked, but for its time.
pub struct OverHttp {
    target: Target,
    method: Method,
    headers: HeaderMap,
    fetcher: Fetcher,
}

impl OverHttp {
    /// Fails with a sentence for the author of the settings.
    pub fn new(spec: &HttpProviderSpec, guard: &Guard, fetcher: Fetcher) -> Result<Self, &'static str> {
        let (target, method) = (guard.target(&spec.url)?, method(spec.method.as_deref())?);
        Ok(OverHttp { target, method, headers: headers(spec)?, fetcher })
    }

    /// One attempt.
    pub async fn send(&self, body: Bytes, timeout: Duration) -> Result<Answer, FetchError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.target.uri();
        *request.headers_mut() = self.headers.clone();
        self.fetcher.send(request, timeout).await
    }
}

fn method(name: Option<&str>) -> Result<Method, &'static str> {
    match name {
        None | Some("POST") => Ok(Method::POST),
        Some("PUT") => Ok(Method::PUT),
        Some("PATCH") => Ok(Method::PATCH),
        Some("GET") => Ok(Method::GET),
        Some(_) => Err("the method must be POST, PUT, PATCH or GET"),
    }
}

fn headers(spec: &HttpProviderSpec) -> Result<HeaderMap, &'static str> {
    // Those that frame a message are the client's: set by a tenant, they could split one request into two.
    const RESERVED: [HeaderName; 9] = [
        header::CONNECTION,
        header::CONTENT_LENGTH,
        header::CONTENT_TYPE,
        header::EXPECT,
        header::HOST,
        header::TE,
        header::TRAILER,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ];
    if spec.headers.len() > HEADERS_MAX {
        return Err("more than 32 headers");
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
    for (name, value) in &spec.headers {
        let name: HeaderName = name.parse().map_err(|_| "the name of a header is not valid")?;
        if RESERVED.contains(&name) {
            return Err("a header is reserved: Connection, Content-*, Expect, Host, TE, Trailer, Transfer-*, Upgrade");
        }
        let mut value = HeaderValue::from_str(value).map_err(|_| "the value of a header is not valid")?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    Ok(headers)
}
