//! A node in this process, on free ports.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

use appsockets_node::{
    config::{Config, TlsConfig},
    node::Node,
};
use jsonwebtoken::{EncodingKey, Header};
use rcgen::{CertifiedKey, generate_simple_self_signed};
use tempfile::TempDir;
use tokio::{runtime::Runtime, sync::oneshot, task::JoinHandle};

const HUBS: &str = "{kind: Hub, name: shop, spec: {defaultPublic: true, allowAnonymous: true, defaultRules: open}}
---
{kind: ChannelRules, hub: shop, name: open, spec: {public: true, allowAnonymous: true, allowStore: true, allowRetain: true, presence: true}}
---
{kind: ChannelRules, hub: shop, name: bare, spec: {public: true, allowAnonymous: true, clientPublish: false}}
---
{kind: Channel, hub: shop, name: bare, spec: {rules: bare}}
---
{kind: ChannelRules, hub: shop, name: closed, spec: {public: false}}
---
{kind: Channel, hub: shop, name: closed, spec: {rules: closed}}
---
{kind: Hub, name: members, spec: {defaultPublic: true, allowAnonymous: false, defaultRules: open}}
---
{kind: ChannelRules, hub: members, name: open, spec: {public: true, presence: true}}
---
{kind: AuthProvider, hub: members, spec: {jwt: {secret: a secret of at least thirty-two bytes}}}
";

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A token of a user of the hub `members`.
pub fn token(user: &str) -> String {
    let expires = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let claims = serde_json::json!({"sub": user, "exp": expires, "extra": {"name": user.to_uppercase()}});
    let key = EncodingKey::from_secret(b"a secret of at least thirty-two bytes");
    jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
}

pub struct Server {
    pub address: SocketAddr,
    pub admin: SocketAddr,
    pub token: String,
    runtime: Runtime,
    folder: TempDir,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Result<(), String>>,
}

impl Server {
    pub fn start() -> Server {
        Server::start_in(tempfile::tempdir().unwrap(), ANY, TlsConfig::default())
    }

    /// One that speaks TLS, and the file with its certificate, which is for `localhost`.
    pub fn start_secured() -> (Server, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("tls.crt"), folder.path().join("tls.key"));
        std::fs::write(&certificate, cert.pem()).unwrap();
        std::fs::write(&key, signing_key.serialize_pem()).unwrap();
        let tls = TlsConfig { certificate: Some(certificate.clone()), key: Some(key) };
        (Server::start_in(folder, ANY, tls), certificate)
    }

    fn start_in(folder: TempDir, listen: SocketAddr, tls: TlsConfig) -> Server {
        let runtime = Runtime::new().unwrap();
        let hubs = folder.path().join("hubs.yaml");
        std::fs::write(&hubs, HUBS).unwrap();
        let data = folder.path().join("data");
        let mut config = Config { listen, tls, data: data.clone(), workers: 2, ..Config::default() };
        config.admin.listen = Some(ANY);
        config.engine.drain_ms = 100;
        let node = runtime.block_on(Node::start(config, Some(hubs))).unwrap();
        let (address, admin) = (node.address(), node.admin_address().unwrap());
        let token = std::fs::read_to_string(data.join("admin.token")).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        let serving = runtime
            .spawn(async { node.serve(async { drop(stopped.await) }).await.map(drop).map_err(|e| e.to_string()) });
        Server { address, admin, token, runtime, folder, stop, serving }
    }

    /// Stops it, and starts another one in its place.
    pub fn again(self) -> Server {
        let Server { address, runtime, folder, stop, serving, .. } = self;
        drop(stop);
        runtime.block_on(serving).unwrap().unwrap();
        drop(runtime);
        Server::start_in(folder, address, TlsConfig::default())
    }
}
