//! What tenants can't do to each other, and what they are told.

use std::time::Duration;

use anyhow::Context;
use appsockets_client::{Client, Credentials, Options};
use appsockets_crds::Hub;
use jsonwebtoken::{EncodingKey, Header};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{
    forward::{Admin, Forward},
    kubernetes::{BAR, Kubernetes, SHOP, condition, until},
};

pub async fn run(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    kubernetes.apply_value(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": BAR}}))?;
    let shown = async {
        references(kubernetes).await?;
        conflict(kubernetes).await?;
        secrets(kubernetes).await
    };
    let shown = shown.await;
    kubernetes.kubectl(&["delete", "namespace", BAR, "--wait=false"])?;
    shown
}

fn object(kind: &str, namespace: &str, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": kind, "spec": spec,
        "metadata": {"name": name, "namespace": namespace},
    })
}

/// Waits until a resource is told something, and gives how long that took.
pub async fn told(
    kubernetes: &Kubernetes<'_>,
    namespace: &str,
    object: &str,
    ready: &str,
    reason: &str,
) -> anyhow::Result<(Duration, String)> {
    let mut message = String::new();
    let what = format!("{object} is told {reason}");
    let took = until(&what, 30, async || {
        let status = kubernetes.status(namespace, object)?;
        let condition = condition(&status, "Ready");
        message = condition["message"].as_str().unwrap_or_default().to_owned();
        let holds = condition["status"] == ready && condition["reason"] == reason;
        Ok(if holds { Ok(()) } else { Err(status.to_string()) })
    });
    let took = took.await?;
    Ok((took, message))
}

async fn references(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let target =
        |allow: &[&str]| object("Hub", SHOP, "target", json!({"clusterRef": {"name": "main"}, "allowFrom": allow}));
    kubernetes.apply_value(&target(&[]))?;
    kubernetes.wait_ready(SHOP, "hub/target", 30)?;
    let hub_ref = json!({"name": "target", "namespace": SHOP});
    kubernetes.apply_value(&object("ChannelRules", BAR, "intruder", json!({"hubRef": hub_ref, "public": true})))?;
    told(kubernetes, BAR, "channelrules/intruder", "False", "RefNotGranted").await?;
    let nowhere = json!({"hubRef": {"name": "secret-plans", "namespace": SHOP}});
    kubernetes.apply_value(&object("ChannelRules", BAR, "curious", nowhere))?;
    let (_, message) = told(kubernetes, BAR, "channelrules/curious", "False", "RefNotGranted").await?;
    anyhow::ensure!(!message.contains("no Hub"), "it is told whether another tenant's hub is there: {message}");

    kubernetes.apply_value(&target(&[BAR]))?;
    kubernetes.wait_ready(BAR, "channelrules/intruder", 30)?;
    let token = kubernetes.admin_token(SHOP, "main").await?;
    let mut nodes = Vec::new();
    for pod in kubernetes.node_pods(SHOP).await? {
        nodes.push(Admin::of(kubernetes, SHOP, &pod.name_any(), &token).await?);
    }
    kubernetes.apply_value(&target(&[]))?;
    let revoked = until("revoked rules are served nowhere", 10, async || {
        for (number, node) in nodes.iter().enumerate() {
            if node.get("/v1/hubs/target/channel-rules/intruder").await?.is_some() {
                return Ok(Err(format!("node {number} serves them")));
            }
        }
        Ok(Ok(()))
    });
    println!("tenants: revoked rules gone from all nodes after {:.2} s", revoked.await?.as_secs_f64());
    Ok(())
}

/// Two hubs with one name: the older wins, and when it goes, the younger's clients were never away.
async fn conflict(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let hub = |name: &str| {
        object(
            "Hub",
            SHOP,
            name,
            json!({"clusterRef": {"name": "main"}, "hubName": "contested", "allowAnonymous": true, "defaultPublic": true}),
        )
    };
    for name in ["one", "other"] {
        kubernetes.apply_value(&hub(name))?;
    }
    // Times of creation have seconds; of two within one the uid decides.
    let api: Api<Hub> = Api::namespaced(kubernetes.client.clone(), SHOP);
    let mut both = [api.get("one").await?, api.get("other").await?];
    both.sort_by_key(|hub| (hub.creation_timestamp().map(|time| time.0), hub.uid()));
    let [older, younger] = both.map(|hub| hub.name_any());
    let (older_hub, younger_hub) = (format!("hub/{older}"), format!("hub/{younger}"));
    told(kubernetes, SHOP, &older_hub, "True", "Served").await?;
    let (_, message) = told(kubernetes, SHOP, &younger_hub, "False", "Conflict").await?;
    anyhow::ensure!(message.contains(&format!("Hub {SHOP}/{older}")), "the owner is not named: {message}");
    let pods = kubernetes.node_pods(SHOP).await?;
    let pod = pods.first().context("there is a node")?.name_any();
    let forward = Forward::to(kubernetes, SHOP, &pod, 8080).await?;
    let listener = Listener::connect(&forward, "contested").await?;
    kubernetes.kubectl(&["-n", SHOP, "delete", &older_hub])?;
    let (took, _) = told(kubernetes, SHOP, &younger_hub, "True", "Served").await?;
    anyhow::ensure!(listener.is_connected(), "a client was disconnected");
    println!(
        "tenants: the younger hub is Ready {:.2} s after the older went, with its clients still there",
        took.as_secs_f64()
    );
    Ok(())
}

/// A client that does not come back by itself.
struct Listener(tokio::task::JoinHandle<()>);

impl Listener {
    async fn connect(forward: &Forward, hub: &str) -> anyhow::Result<Listener> {
        let mut stream = TcpStream::connect(("127.0.0.1", forward.port)).await?;
        let request =
            format!("GET /hubs/{hub}/sse?channel=room HTTP/1.1\r\nhost: e2e\r\naccept: text/event-stream\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer).await?;
        let head = String::from_utf8_lossy(&buffer[..length]).into_owned();
        anyhow::ensure!(head.starts_with("HTTP/1.1 200"), "the node does not let listen: {head}");
        Ok(Listener(tokio::spawn(
            async move { while stream.read(&mut buffer).await.is_ok_and(|length| length > 0) {} },
        )))
    }

    fn is_connected(&self) -> bool {
        !self.0.is_finished()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn secrets(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let secret = |value: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": BAR},
            "stringData": {"jwt": value},
        })
    };
    let tenants = json!({"spec": {"tenants": {"namespaces": [BAR]}}}).to_string();
    kubernetes.kubectl(&["-n", SHOP, "patch", "asc/main", "--type=merge", "-p", &tenants])?;
    let hub = json!({"clusterRef": {"name": "main", "namespace": SHOP}, "hubName": "bars"});
    kubernetes.apply_value(&object("Hub", BAR, "own", hub))?;
    kubernetes.wait_ready(BAR, "hub/own", 30)?;
    let jwt = json!({"hubRef": {"name": "own"}, "jwt": {"secretKeyRef": {"name": "keys", "key": "jwt"}}});
    kubernetes.apply_value(&object("AuthProvider", BAR, "own", jwt))?;
    told(kubernetes, BAR, "authprovider/own", "False", "SecretNotReadable").await?;
    kubernetes.kubectl(&[
        "-n",
        BAR,
        "create",
        "rolebinding",
        "appsockets-operator-secrets",
        "--clusterrole=appsockets-operator-tenant-secrets",
        "--serviceaccount=appsockets-system:appsockets-operator",
    ])?;
    told(kubernetes, BAR, "authprovider/own", "False", "SecretNotFound").await?;
    let (first, second) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
    kubernetes.apply_value(&secret(first))?;
    let (took, _) = told(kubernetes, BAR, "authprovider/own", "True", "Served").await?;
    println!("tenants: an AuthProvider is Ready {:.2} s after its Secret is there", took.as_secs_f64());
    let before = kubernetes.node_uids(SHOP).await?;
    taken(kubernetes, first, second).await?;
    kubernetes.apply_value(&secret(second))?;
    let took = taken(kubernetes, second, first).await?;
    anyhow::ensure!(kubernetes.node_uids(SHOP).await? == before, "pods were replaced for another Secret");
    println!("tenants: another Secret of a tenant is in effect on all nodes after {:.2} s", took.as_secs_f64());
    kubernetes.apply_value(&secret("short"))?;
    told(kubernetes, BAR, "authprovider/own", "False", "Invalid").await?;
    for object in ["authprovider/own", "hub/own"] {
        let status = kubernetes.status(BAR, object)?.to_string();
        anyhow::ensure!(!status.contains(first) && !status.contains(second), "a status shows a secret: {status}");
    }
    Ok(())
}

/// Waits until every node takes tokens that one secret has signed, and none that another has.
async fn taken(kubernetes: &Kubernetes<'_>, secret: &str, other: &str) -> anyhow::Result<Duration> {
    let mut forwards = Vec::new();
    for pod in kubernetes.node_pods(SHOP).await? {
        forwards.push(Forward::to(kubernetes, SHOP, &pod.name_any(), 8080).await?);
    }
    let taken = until("all nodes take the new tokens alone", 10, async || {
        for forward in &forwards {
            let (new, old) = (is_taken(forward, secret).await?, is_taken(forward, other).await?);
            if !new || old {
                return Ok(Err(format!("a node takes the right ones: {new}, others: {old}")));
            }
        }
        Ok(Ok(()))
    });
    taken.await
}

async fn is_taken(forward: &Forward, secret: &str) -> anyhow::Result<bool> {
    let claims = json!({"sub": "ann", "exp": 4_102_444_800_u64});
    let key = EncodingKey::from_secret(secret.as_bytes());
    let token = jsonwebtoken::encode(&Header::default(), &claims, &key)?;
    let client = Client::connect(Options::new(format!("ws://127.0.0.1:{}", forward.port), "bars"))?;
    let taken = client.authenticate(Credentials::Token(token)).await.is_ok();
    client.close().await;
    Ok(taken)
}
