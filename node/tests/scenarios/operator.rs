//! What the operator hands over, from a port that only it can use.

use std::net::SocketAddr;

use appsockets_proto::configuration::{
    Entry, Head, Held, Identity, PushRequest, ShedRequest, ShowRequest, configuration_client::ConfigurationClient,
};
use hyper::Method;
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};
use serde_json::{Value, json};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity as TlsIdentity};

use super::{
    client::text,
    eventually,
    process::{Process, free_addresses},
    web::Call,
};

const TOKEN: &str = "a token for administrators";
/// What nodes share, in files of these names.
const SECRETS: [(&str, &str); 4] = [
    ("membership", "who may be a member"),
    ("rpc", "what nodes show each other"),
    ("admin", TOKEN),
    ("session", "what signs the tokens of sessions"),
];
const HOST: &str = "nodes.example";

/// The authority of a cluster.
struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        Authority { certificate, issuer: Issuer::new(params, key) }
    }

    /// A certificate for one use, and its key.
    fn sign(&self, purpose: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    /// What a caller needs that shows such a certificate.
    fn caller(&self, purpose: ExtendedKeyUsagePurpose) -> ClientTlsConfig {
        let (certificate, key) = self.sign(purpose);
        self.anonymous().identity(TlsIdentity::from_pem(certificate, key))
    }

    fn anonymous(&self) -> ClientTlsConfig {
        ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&self.certificate)).domain_name(HOST)
    }
}

/// A node with an operator's port.
struct Managed {
    folder: tempfile::TempDir,
    config: String,
    authority: Authority,
    port: SocketAddr,
    admin: SocketAddr,
    /// None only while it restarts.
    process: Option<Process>,
}

impl Managed {
    async fn start() -> Managed {
        Managed::start_as(1, free(), Vec::new()).await
    }

    /// A node of this number, which other nodes reach at an address, and which knows these.
    async fn start_as(number: u64, peers: SocketAddr, seeds: Vec<SocketAddr>) -> Managed {
        Managed::start_with(number, peers, seeds, SECRETS.map(|(_, key)| key.to_owned())).await
    }

    async fn start_with(number: u64, peers: SocketAddr, seeds: Vec<SocketAddr>, secrets: [String; 4]) -> Managed {
        let (folder, authority) = (tempfile::tempdir().unwrap(), Authority::new());
        for ((name, _), keys) in SECRETS.iter().zip(secrets) {
            std::fs::write(folder.path().join(name), keys).unwrap();
        }
        let (certificate, key) = authority.sign(ExtendedKeyUsagePurpose::ServerAuth);
        for (name, content) in [("tls.crt", &certificate), ("tls.key", &key), ("ca.crt", &authority.certificate)] {
            std::fs::write(folder.path().join(name), content).unwrap();
        }
        let (port, admin) = (free(), free());
        let path = |name: &str| folder.path().join(name);
        let config = [
            ("admin", json!({"listen": admin, "tokenFile": path("admin")})),
            ("auth", json!({"sessionSecretFile": path("session")})),
            ("engine", json!({"drainMs": 100, "settingsIntervalMs": 100})),
            (
                "cluster",
                json!({
                    "listen": peers, "node": number,
                    "membership": {"secretKeyFile": path("membership")}, "rpc": {"secretKeyFile": path("rpc")},
                }),
            ),
            ("discovery", json!({"seeds": seeds})),
            (
                "operator",
                json!({"listen": port, "certificate": path("tls.crt"), "key": path("tls.key"), "authority": path("ca.crt")}),
            ),
        ];
        let config: String = config.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
        let process = Some(Process::start(folder.path(), &config).await);
        Managed { folder, config, authority, port, admin, process }
    }

    async fn restart(&mut self) {
        let process = self.process.take().expect("it runs");
        process.terminate();
        process.ended().await;
        self.process = Some(Process::start(self.folder.path(), &self.config).await);
    }

    async fn operator(&self) -> ConfigurationClient<Channel> {
        self.reach(self.authority.caller(ExtendedKeyUsagePurpose::ClientAuth)).await.unwrap()
    }

    async fn reach(&self, tls: ClientTlsConfig) -> Result<ConfigurationClient<Channel>, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("https://{}", self.port)).unwrap().tls_config(tls)?;
        endpoint.connect().await.map(ConfigurationClient::new)
    }

    async fn push(&self, (term, sequence): (u64, u64), base: &str, set: &[Value], removed: &[&str]) -> Held {
        let head = Head { term, sequence, base: base.to_owned(), removals_max: 0 };
        let entry = |resource: &Value| Entry { uid: "a-uid".into(), generation: 1, resource: resource.to_string() };
        let removed =
            removed.iter().map(|hub| Identity { hub: hub.to_string(), kind: "Hub".into(), name: hub.to_string() });
        let parts = [
            PushRequest { head: Some(head), ..PushRequest::default() },
            PushRequest { set: set.iter().map(entry).collect(), removed: removed.collect(), ..PushRequest::default() },
        ];
        self.operator().await.push(futures_util::stream::iter(parts)).await.unwrap().into_inner()
    }

    /// Changes files at once, as a machine does, and waits until the node has what they say.
    async fn give(&self, files: &[(&str, String)]) {
        // While it takes up other certificates it may break a connection off.
        let keys = async || {
            let tls = self.authority.caller(ExtendedKeyUsagePurpose::ClientAuth);
            Some(self.reach(tls).await.ok()?.show(ShowRequest {}).await.ok()?.into_inner().keys)
        };
        let before = keys().await.expect("it serves");
        for (name, content) in files {
            let new = self.folder.path().join("new");
            std::fs::write(&new, content).unwrap();
            std::fs::rename(new, self.folder.path().join(name)).unwrap();
        }
        eventually(async || keys().await.is_some_and(|keys| keys != before)).await;
    }

    async fn knows(&self, token: &str) -> bool {
        Call::new(self.admin, Method::GET, "/v1/hubs").token(token).answer().await.status == 200
    }

    async fn is_ready(&self) -> bool {
        Call::new(self.admin, Method::GET, "/readyz").answer().await.status == 200
    }

    async fn alike(&self) -> Vec<u64> {
        self.operator().await.show(ShowRequest {}).await.unwrap().into_inner().alike
    }

    async fn hubs(&self) -> Vec<String> {
        let list = Call::new(self.admin, Method::GET, "/v1/hubs").token(TOKEN).answer().await.body;
        let items = list["items"].as_array().unwrap_or_else(|| panic!("{list}"));
        items.iter().map(|hub| text(&hub["name"])).collect()
    }
}

fn free() -> SocketAddr {
    free_addresses(1)[0]
}

fn hub(name: &str) -> Value {
    json!({"kind": "Hub", "name": name, "spec": {"allowAnonymous": true, "defaultPublic": true}})
}

#[tokio::test]
async fn what_the_operator_says_is_served_and_survives_a_restart() {
    let mut node = Managed::start().await;
    assert!(!node.is_ready().await, "nobody has said yet what to serve");

    let secret = "a secret of the tenant, 32 bytes or more";
    let provider = json!({"kind": "AuthProvider", "hub": "shop", "spec": {"jwt": {"secret": secret}}});
    let held = node.push((1, 1), "", &[hub("shop"), provider], &[]).await;
    assert!(held.taken && held.withheld.is_empty(), "{held:?}");
    assert!(node.is_ready().await);
    assert_eq!(node.hubs().await, ["shop"]);
    drop(node.process.as_ref().unwrap().connect("shop").await);

    // The administration leaves what the operator manages alone.
    let refused = Call::new(node.admin, Method::PUT, "/v1/hubs/shop").token(TOKEN).send(json!({})).await;
    refused.is_refusal(409, 144, "managed_elsewhere");

    let kept = std::fs::read(node.folder.path().join("data/operator.settings")).unwrap();
    assert!(!kept.windows(secret.len()).any(|window| window == secret.as_bytes()), "a secret is kept in clear");
    node.restart().await;
    assert_eq!(node.hubs().await, ["shop"]);
    // Nobody has anything later to say.
    eventually(async || node.is_ready().await).await;
    let shown = node.operator().await.show(ShowRequest {}).await.unwrap().into_inner();
    assert_eq!((shown.term, shown.sequence, &shown.handed), (1, 1, &held.handed));

    // What is gone from the whole is gone from the node.
    let held = node.push((1, 2), &shown.handed, &[hub("bank")], &["shop"]).await;
    assert!(held.taken, "{held:?}");
    eventually(async || node.hubs().await == ["bank"]).await;
}

#[tokio::test]
async fn a_late_push_and_one_for_another_state_change_nothing() {
    let node = Managed::start().await;
    let held = node.push((2, 1), "", &[hub("shop")], &[]).await;
    for (stamp, base) in [((1, 99), ""), ((2, 1), ""), ((2, 2), "00000000000000000000000000000001")] {
        let refused = node.push(stamp, base, &[hub("other")], &[]).await;
        assert!(!refused.taken && !refused.refused.is_empty(), "{refused:?}");
        assert_eq!((refused.term, refused.sequence, refused.handed), (2, 1, held.handed.clone()));
    }
    assert_eq!(node.hubs().await, ["shop"]);
}

#[tokio::test]
async fn a_hub_that_the_node_can_not_use_whole_stays_as_it_was() {
    let node = Managed::start().await;
    node.push((1, 1), "", &[hub("shop")], &[]).await;
    let newer = json!({"kind": "AuthProvider", "hub": "shop", "spec": {"passkeys": {}}});
    let held = node.push((1, 2), "", &[hub("shop"), newer, hub("bank")], &[]).await;
    assert!(held.taken, "{held:?}");
    assert_eq!(held.withheld, ["shop"]);
    assert_eq!(node.hubs().await, ["bank", "shop"]);
}

#[tokio::test]
async fn only_the_operator_of_the_cluster_is_listened_to() {
    let node = Managed::start().await;
    let callers = [
        ("nobody", node.authority.anonymous()),
        // As a node has it.
        ("a server", node.authority.caller(ExtendedKeyUsagePurpose::ServerAuth)),
        ("a stranger", {
            let (certificate, key) = Authority::new().sign(ExtendedKeyUsagePurpose::ClientAuth);
            node.authority.anonymous().identity(TlsIdentity::from_pem(certificate, key))
        }),
    ];
    for (who, tls) in callers {
        // TLS 1.3 lets a client think that it has connected before the server has judged it.
        if let Ok(mut client) = node.reach(tls).await {
            assert!(client.show(ShowRequest {}).await.is_err(), "{who} was listened to");
        }
    }
    assert!(node.operator().await.show(ShowRequest {}).await.is_ok());
}

#[tokio::test]
async fn a_new_node_takes_over_from_another_what_the_operator_said() {
    let peers = free();
    let old = Managed::start_as(1, peers, Vec::new()).await;
    let held = old.push((3, 7), "", &[hub("shop")], &[]).await;
    let new = Managed::start_as(2, free(), vec![peers]).await;
    eventually(async || new.is_ready().await).await;
    assert_eq!(new.hubs().await, ["shop"]);
    let shown = new.operator().await.show(ShowRequest {}).await.unwrap().into_inner();
    assert_eq!((shown.term, shown.sequence, shown.handed), (3, 7, held.handed));
    // Each tells of the other that it serves the same.
    eventually(async || old.alike().await == [2] && new.alike().await == [1]).await;

    // Also that there is nothing.
    assert!(old.push((3, 8), "", &[], &[]).await.taken);
    eventually(async || new.hubs().await.is_empty()).await;
    let third = Managed::start_as(3, free(), vec![peers]).await;
    eventually(async || third.is_ready().await).await;
}

#[tokio::test]
async fn some_sessions_go_elsewhere_when_the_operator_asks() {
    let node = Managed::start().await;
    node.push((1, 1), "", &[hub("shop")], &[]).await;
    let process = node.process.as_ref().unwrap();
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(process.connect("shop").await);
    }
    let mut operator = node.operator().await;
    eventually(async || operator.show(ShowRequest {}).await.unwrap().into_inner().sessions == 20).await;
    let shown = operator.show(ShowRequest {}).await.unwrap().into_inner();
    assert!(shown.view > 0 && shown.settled, "{shown:?}");

    operator.shed(ShedRequest { sessions: 10, spread_ms: 50 }).await.unwrap();
    // Who does not go by itself is closed. Each worker rounds its share.
    eventually(async || (10..=12).contains(&operator.show(ShowRequest {}).await.unwrap().into_inner().sessions)).await;
    // The node is as open as before.
    drop(process.connect("shop").await);
}

/// As an operator has it done: all accept the new keys before any uses them, and all use them before any forgets the others.
#[tokio::test]
async fn nodes_exchange_their_keys_while_they_serve() {
    let peers = free();
    let one = Managed::start_as(1, peers, Vec::new()).await;
    one.push((1, 1), "", &[hub("shop")], &[]).await;
    let two = Managed::start_as(2, free(), vec![peers]).await;
    eventually(async || two.is_ready().await).await;
    let mut client = one.process.as_ref().unwrap().connect("shop").await;

    let new = |key: &str| format!("{key}, and anew");
    let keys = |keys: fn(&str, &str) -> String| SECRETS.map(|(name, old)| (name, keys(old, &new(old))));
    for files in [keys(|old, new| format!("{old}\n{new}\n")), keys(|old, new| format!("{new}\n{old}\n"))] {
        for node in [&one, &two] {
            node.give(&files).await;
            assert!(node.knows(TOKEN).await && node.knows(&new(TOKEN)).await);
        }
    }
    for node in [&one, &two] {
        node.give(&keys(|_, new| new.to_owned())).await;
        assert!(!node.knows(TOKEN).await && node.knows(&new(TOKEN)).await);
    }
    // Who comes with the new ones alone finds them, and who comes with the former ones does not.
    let third = Managed::start_with(3, free(), vec![peers], SECRETS.map(|(_, old)| new(old))).await;
    eventually(async || third.is_ready().await).await;
    client.subscribe(&["news"]).await;
}

#[tokio::test]
async fn what_is_kept_is_kept_under_the_new_keys() {
    let mut node = Managed::start().await;
    node.push((1, 1), "", &[hub("shop")], &[]).await;
    let (old, new) = (SECRETS[0].1, "who else may be a member");
    for keys in [format!("{old}\n{new}"), format!("{new}\n{old}"), new.to_owned()] {
        node.give(&[("membership", keys)]).await;
    }
    node.restart().await;
    assert_eq!(node.hubs().await, ["shop"], "what was kept can't be read");
}

#[tokio::test]
async fn an_authority_is_exchanged_while_a_node_serves() {
    let node = Managed::start().await;
    let next = Authority::new();
    let both = format!("{}{}", node.authority.certificate, next.certificate);
    let (certificate, key) = next.sign(ExtendedKeyUsagePurpose::ClientAuth);
    let identity = || TlsIdentity::from_pem(&certificate, &key);
    let trusting = |certificates: &str| {
        ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(certificates))
            .domain_name(HOST)
            .identity(identity())
    };
    let answers = async |tls: ClientTlsConfig| match node.reach(tls).await {
        Ok(mut client) => client.show(ShowRequest {}).await.is_ok(),
        Err(_) => false,
    };
    assert!(!answers(trusting(&both)).await);
    node.give(&[("ca.crt", both.clone())]).await;
    assert!(answers(trusting(&both)).await, "who the new one has signed is not listened to");
    assert!(!answers(trusting(&next.certificate)).await, "the node shows what the new one has not signed yet");

    let (certificate, key) = next.sign(ExtendedKeyUsagePurpose::ServerAuth);
    for (name, content) in [("tls.key", key), ("tls.crt", certificate), ("ca.crt", next.certificate.clone())] {
        std::fs::write(node.folder.path().join(name), content).unwrap();
    }
    eventually(async || answers(trusting(&next.certificate)).await).await;
    let former = node.authority.caller(ExtendedKeyUsagePurpose::ClientAuth);
    let former = former.ca_certificate(Certificate::from_pem(&next.certificate));
    assert!(!answers(former).await, "who the former one has signed is listened to");
}
