//! An HTTP client, written by others.

use http_body_util::{BodyExt, Full};
use hyper::{HeaderMap, Method, Request, Response, body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use std::net::SocketAddr;

use super::{in_time, server::Server};

/// A request that is still to be sent.
pub struct Call {
    address: SocketAddr,
    request: hyper::http::request::Builder,
}

pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: Value,
}

impl Server {
    pub fn call(&self, method: Method, path: &str) -> Call {
        Call::new(self.address, method, path)
    }

    pub fn get(&self, path: &str) -> Call {
        self.call(Method::GET, path)
    }

    /// Publishes over HTTP.
    pub fn post(&self, hub: &str) -> Call {
        self.call(Method::POST, &format!("/hubs/{hub}/publish")).header("content-type", "application/json")
    }
}

impl Call {
    pub fn new(address: SocketAddr, method: Method, path: &str) -> Call {
        let request = Request::builder().method(method).uri(path).header("host", address.to_string());
        Call { address, request }
    }

    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.request = self.request.header(name, value);
        self
    }

    pub fn token(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    pub async fn send(self, body: impl ToString) -> Answer {
        let response = self.begin(body.to_string()).await;
        let (parts, body) = response.into_parts();
        let bytes = in_time(body.collect()).await.unwrap().to_bytes();
        let body = serde_json::from_slice(&bytes)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    pub async fn answer(self) -> Answer {
        self.send("").await
    }

    /// The answer as soon as its header is there. The connection lasts as long as its body.
    pub async fn begin(self, body: String) -> Response<Incoming> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        self.begin_on(stream, body).await
    }

    pub async fn begin_on(self, stream: TcpStream, body: String) -> Response<Incoming> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = self.request.body(Full::<hyper::body::Bytes>::from(body)).unwrap();
        in_time(sender.send_request(request)).await.unwrap()
    }
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Asserts that it is a refusal of this kind, in the form of problem details.
    #[track_caller]
    pub fn is_refusal(&self, status: u16, code: u16, name: &str) {
        assert_eq!(self.status, status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.body["status"], status);
        assert_eq!(self.body["code"], code);
        assert_eq!(self.body["name"], name);
        assert!(self.body["title"].as_str().is_some_and(|title| !title.is_empty()));
    }
}
