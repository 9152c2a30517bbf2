//! A node in this process, and an HTTP client that others wrote for its administration.

use std::{net::SocketAddr, time::Duration};

use appsockets_node::{config::Config, node::Node};
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, client::conn::http1};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::{net::TcpStream, sync::oneshot, task::JoinHandle};

/// No test waits longer than this for anything. It only ends those that would wait for ever.
pub const PATIENCE: Duration = Duration::from_secs(30);

const HUBS: &str = "kind: Hub\nname: filed\nspec: {defaultPublic: true, allowAnonymous: true}\n";

pub struct Server {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
    stop: Option<oneshot::Sender<()>>,
    _folder: TempDir,
    _serving: JoinHandle<anyhow::Result<()>>,
}

pub struct Answer {
    pub status: u16,
    pub kind: String,
    pub text: String,
    pub body: Value,
}

impl Server {
    pub async fn start() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("hubs.yaml");
        std::fs::write(&file, HUBS).unwrap();
        let mut config = Config { data: folder.path().join("data"), workers: 2, ..Config::default() };
        config.listen.set_port(0);
        config.auth.allow_private_addresses = true;
        let node = Node::start(config, Some(file)).await.unwrap();
        let (address, admin) = (node.address(), node.admin_address().unwrap());
        let token = std::fs::read_to_string(folder.path().join("data/admin.token")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let _serving = tokio::spawn(async { node.serve(async { drop(stopped.await) }).await.map(drop) });
        Server { address, admin, token, stop: Some(stop), _folder: folder, _serving }
    }

    /// Begins to stop it, as SIGTERM does.
    pub fn drain(&mut self) {
        drop(self.stop.take());
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &self.token, "").await
    }

    pub async fn put(&self, path: &str, body: impl ToString) -> Answer {
        self.send(Method::PUT, path, &self.token, &body.to_string()).await
    }

    pub async fn post(&self, path: &str, body: impl ToString) -> Answer {
        self.send(Method::POST, path, &self.token, &body.to_string()).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(Method::DELETE, path, &self.token, "").await
    }

    pub async fn send(&self, method: Method, path: &str, token: &str, body: &str) -> Answer {
        tokio::time::timeout(PATIENCE, call(self.admin, method, path, token, body)).await.expect("it is answered")
    }
}

async fn call(address: SocketAddr, method: Method, path: &str, token: &str, body: &str) -> Answer {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = Request::builder().method(method).uri(path).header("host", "node");
    let request = request.header("authorization", format!("Bearer {token}"));
    let request = request.body(Full::<hyper::body::Bytes>::from(body.to_owned())).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let kind = response.headers().get("content-type").map(|kind| kind.to_str().unwrap().to_owned()).unwrap_or_default();
    let status = response.status().as_u16();
    let text = String::from_utf8(response.collect().await.unwrap().to_bytes().to_vec()).unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Answer { status, kind, text, body }
}

impl Answer {
    #[track_caller]
    pub fn is_refusal(&self, status: u16, name: &str) {
        assert_eq!((self.status, self.kind.as_str()), (status, "application/problem+json"), "{}", self.text);
        assert_eq!(self.body["name"], name);
    }

    #[track_caller]
    pub fn is_done(&self) {
        assert!((200..300).contains(&self.status), "{} {}", self.status, self.text);
    }
}
