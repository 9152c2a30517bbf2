//! Nodes, operators, definitions and rights that go away, and what others change.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use k8s_openapi::api::coordination::v1::Lease;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::{
    forward::Admin,
    kubernetes::{Kubernetes, SHOP, SYSTEM, is_ready, until},
    place::Place,
};

const OPERATOR: &str = "deployment/appsockets-operator";

pub async fn run(kubernetes: &Kubernetes<'_>, place: &Place, short: bool) -> anyhow::Result<()> {
    drift(kubernetes).await?;
    leader_killed(kubernetes, place).await?;
    definition_deleted(kubernetes).await?;
    undecodable(kubernetes).await?;
    if !short {
        no_rights(kubernetes).await?;
        roles_alone(kubernetes).await?;
        operator_away(kubernetes).await?;
        node_cut_off(kubernetes, place).await?;
        node_out_of_reach(kubernetes, place).await?;
    }
    Ok(())
}

/// Whether a hub is served by every node that is ready.
async fn served_everywhere(kubernetes: &Kubernetes<'_>, hub: &str) -> anyhow::Result<Result<(), String>> {
    let token = kubernetes.admin_token(SHOP, "main").await?;
    for pod in kubernetes.node_pods(SHOP).await? {
        let node = Admin::of(kubernetes, SHOP, &pod.name_any(), &token).await?;
        if node.get(&format!("/v1/hubs/{hub}")).await?.is_none() {
            return Ok(Err(format!("{} does not serve {hub}", pod.name_any())));
        }
    }
    Ok(Ok(()))
}

/// Waits until no node serves a hub any more.
async fn served_nowhere(kubernetes: &Kubernetes<'_>, hub: &str) -> anyhow::Result<()> {
    let token = kubernetes.admin_token(SHOP, "main").await?;
    let gone = until("a deleted hub is served nowhere", 30, async || {
        for pod in kubernetes.node_pods(SHOP).await? {
            let node = Admin::of(kubernetes, SHOP, &pod.name_any(), &token).await?;
            if node.get(&format!("/v1/hubs/{hub}")).await?.is_some() {
                return Ok(Err(format!("{} serves {hub}", pod.name_any())));
            }
        }
        Ok(Ok(()))
    });
    gone.await.map(drop)
}

async fn must_serve(kubernetes: &Kubernetes<'_>, hub: &str) -> anyhow::Result<()> {
    served_everywhere(kubernetes, hub).await?.map_err(anyhow::Error::msg)
}

/// What others change of the operator's objects is put right.
async fn drift(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let patch = r#"{"spec":{"selector":{"app.kubernetes.io/name":"other"}}}"#;
    kubernetes.kubectl(&["-n", SHOP, "patch", "service/main", "--type=merge", "-p", patch])?;
    let selector = || kubernetes.kubectl(&["-n", SHOP, "get", "service/main", "-o", "jsonpath={.spec.selector}"]);
    let right = until("the Service is put right", 15, async || {
        let selector = selector()?;
        Ok(if selector.contains("\"appsockets\"") { Ok(()) } else { Err(selector) })
    });
    let changed = right.await?;
    kubernetes.kubectl(&["-n", SHOP, "delete", "service/main"])?;
    let there =
        until("the Service is there again", 15, async || Ok(selector().map(drop).map_err(|error| error.to_string())));
    let deleted = there.await?;
    let events = kubernetes.kubectl(&["-n", SHOP, "get", "events.events.k8s.io"])?;
    anyhow::ensure!(events.contains("DriftCorrected"), "no event says so: {events}");
    println!(
        "failures: a changed Service is right after {:.2} s, a deleted one after {:.2} s",
        changed.as_secs_f64(),
        deleted.as_secs_f64()
    );
    Ok(())
}

/// The pod that holds the lease, once one does: who stops gives it back before another takes it.
pub async fn leader(kubernetes: &Kubernetes<'_>) -> anyhow::Result<String> {
    let api: Api<Lease> = Api::namespaced(kubernetes.client.clone(), SYSTEM);
    let mut leader = String::new();
    let held = until("an operator holds the lease", 30, async || {
        let spec = api.get("appsockets-operator").await?.spec;
        let holder = spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        let Some((pod, _)) = holder.rsplit_once('_') else { return Ok(Err(format!("{holder:?} holds it"))) };
        pod.clone_into(&mut leader);
        Ok(Ok(()))
    });
    held.await?;
    Ok(leader)
}

/// Replaces all operators at once, and waits until one of the new ones acts and can't see hubs. A rolling restart would
/// wait for them to be ready, which they are not.
async fn blind(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let selector = "app.kubernetes.io/name=appsockets-operator";
    let before = kubernetes.kubectl(&["-n", SYSTEM, "get", "pods", "-l", selector, "-o", "name"])?;
    kubernetes.kubectl(&["-n", SYSTEM, "delete", "pods", "-l", selector])?;
    let acts = until("a new operator acts, and can't see hubs", 60, async || {
        let leader = leader(kubernetes).await?;
        if before.contains(&leader) {
            return Ok(Err(format!("{leader} held the lease last")));
        }
        let log = kubernetes.kubectl(&["-n", SYSTEM, "logs", &leader]).unwrap_or_default();
        Ok(if log.contains("Hub can't be watched") { Ok(()) } else { Err(log) })
    });
    acts.await.map(drop)
}

/// Without a word.
async fn leader_killed(kubernetes: &Kubernetes<'_>, place: &Place) -> anyhow::Result<()> {
    let leader = leader(kubernetes).await?;
    let how = if place.kill("appsockets-operator", &leader)? {
        "kill -9"
    } else {
        kubernetes.kubectl(&["-n", SYSTEM, "delete", "pod", &leader, "--grace-period=0", "--force"])?;
        "a forced deletion"
    };
    let began = Instant::now();
    touch(kubernetes, "demo")?;
    kubernetes.wait_ready(SHOP, "hub/demo", 30)?;
    let took = began.elapsed();
    println!("failures: {:.1} s after {how} of the leader a change is Ready", took.as_secs_f64());
    anyhow::ensure!(took < Duration::from_secs(20), "writes resumed too late");
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=60s"])?;
    Ok(())
}

/// Changes a hub.
fn touch(kubernetes: &Kubernetes<'_>, hub: &str) -> anyhow::Result<()> {
    let status = kubernetes.kubectl(&["-n", SHOP, "get", "hub", hub, "-o", "jsonpath={.spec.userChannel}"])?;
    let patch = format!(r#"{{"spec":{{"userChannel":{}}}}}"#, status.trim() != "true");
    kubernetes.kubectl(&["-n", SHOP, "patch", "hub", hub, "--type=merge", "-p", &patch])?;
    Ok(())
}

/// Who deletes the definition of hubs deletes all hubs, without having meant any: nodes keep them.
async fn definition_deleted(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let hubs = kubernetes.kubectl(&["-n", SHOP, "get", "hubs", "-o", "json"])?;
    kubernetes.kubectl(&["delete", "customresourcedefinition", "hubs.appsockets.io"])?;
    let told = until("the cluster says so", 20, async || {
        let status = kubernetes.status(SHOP, "appsocketscluster/main")?.to_string();
        Ok(if status.contains("DefinitionsGone") { Ok(()) } else { Err(status) })
    });
    let told = told.await?;
    let looked = async || {
        let log = kubernetes.kubectl(&["-n", SYSTEM, "logs", &leader(kubernetes).await?])?;
        anyhow::Ok(log.matches("Resources are gone").count())
    };
    let before = looked().await?;
    let again = until("the operator looks three times more, with all hubs gone", 30, async || {
        let times = looked().await?;
        Ok(if times >= before + 3 { Ok(()) } else { Err(format!("{times} times, {before} of them before")) })
    });
    again.await?;
    must_serve(kubernetes, "demo").await.context("a hub is gone with its definition")?;
    // An operator that begins without the definition knows nothing of hubs, and takes nothing away.
    blind(kubernetes).await?;
    must_serve(kubernetes, "demo").await.context("a hub is gone after the operator's start")?;
    kubernetes.define()?;
    restore(kubernetes, &hubs)?;
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=120s"])?;
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    must_serve(kubernetes, "demo").await?;
    println!("failures: a deleted definition is said after {:.1} s and takes no hub from a node", told.as_secs_f64());
    Ok(())
}

/// Objects as they were, without what the API server had added.
fn restore(kubernetes: &Kubernetes<'_>, list: &str) -> anyhow::Result<()> {
    let mut list: Value = serde_json::from_str(list)?;
    for object in list["items"].as_array_mut().into_iter().flatten() {
        let metadata = json!({"name": object["metadata"]["name"], "namespace": object["metadata"]["namespace"]});
        object["metadata"] = metadata;
        object.as_object_mut().map(|object| object.remove("status"));
    }
    kubernetes.apply_value(&json!({"apiVersion": "v1", "kind": "List", "items": list["items"]}))?;
    Ok(())
}

/// Makes a hub that the operator can't read, whose definition lets that through, and limits that nodes do not take.
pub async fn spoil(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let hub = json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "metadata": {"name": "odd", "namespace": SHOP},
        "spec": {"clusterRef": {"name": "main"}},
    });
    kubernetes.apply_value(&hub)?;
    kubernetes.wait_ready(SHOP, "hub/odd", 30)?;
    let path = |field: &str| format!("/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/{field}");
    let loose = json!([
        {"op": "replace", "path": path("userChannel"), "value": {"x-kubernetes-preserve-unknown-fields": true}},
        {"op": "remove", "path": path("limits/x-kubernetes-validations")},
    ]);
    kubernetes.kubectl(&[
        "patch",
        "customresourcedefinition",
        "hubs.appsockets.io",
        "--type=json",
        "-p",
        &loose.to_string(),
    ])?;
    let odd = until("the API server takes what the operator can't read", 20, async || {
        let patch = r#"{"spec":{"userChannel":"perhaps"}}"#;
        let patched = kubernetes.kubectl(&["-n", SHOP, "patch", "hub", "odd", "--type=merge", "-p", patch]);
        Ok(patched.map(drop).map_err(|error| error.to_string()))
    });
    odd.await.map(drop)
}

/// Makes the hub right again, and its definition.
pub fn mend(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let patch = r#"{"spec":{"userChannel":true}}"#;
    kubernetes.kubectl(&["-n", SHOP, "patch", "hub", "odd", "--type=merge", "-p", patch])?;
    kubernetes.define()?;
    kubernetes.wait_ready(SHOP, "hub/odd", 30).map(drop)
}

/// What an operator can't read stops nothing else, and nodes keep what they have of it.
pub async fn undecodable(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    spoil(kubernetes).await?;
    touch(kubernetes, "demo")?;
    let others = kubernetes.wait_ready(SHOP, "hub/demo", 30)?;
    let told = until("the odd hub is told so", 20, async || {
        let status = kubernetes.status(SHOP, "hub/odd")?.to_string();
        Ok(if status.contains("Undecodable") { Ok(()) } else { Err(status) })
    });
    told.await?;
    must_serve(kubernetes, "odd").await.context("nodes keep what they have of it")?;
    // So does one that begins anew.
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "restart", OPERATOR])?;
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=60s"])?;
    touch(kubernetes, "demo")?;
    kubernetes.wait_ready(SHOP, "hub/demo", 30)?;
    must_serve(kubernetes, "odd").await.context("also after the operator has begun again")?;
    mend(kubernetes)?;
    println!("failures: beside a hub that can't be read another change is Ready after {:.2} s", others.as_secs_f64());
    Ok(())
}

/// An operator that may not see hubs believes nothing about them.
async fn no_rights(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let right = std::fs::read_to_string("deploy/operator.yaml")?;
    let wrong = right.replacen("[appsocketsclusters, hubs,", "[appsocketsclusters,", 1);
    anyhow::ensure!(right != wrong, "the role does not name hubs");
    kubernetes.apply(&wrong)?;
    blind(kubernetes).await?;
    must_serve(kubernetes, "demo").await?;
    kubernetes.apply(&right)?;
    touch(kubernetes, "demo")?;
    let took = kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    println!(
        "failures: without the right to see hubs none is lost; {:.1} s after it is back a change is Ready",
        took.as_secs_f64()
    );
    Ok(())
}

/// An operator for one namespace, with Roles alone, takes over from the one for all.
async fn roles_alone(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    // It hands nothing over to a cluster of which tenants may be where it does not see them.
    let alone = r#"{"spec":{"tenants":null}}"#;
    kubernetes.kubectl(&["-n", SHOP, "patch", "appsocketscluster/main", "--type=merge", "-p", alone])?;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"])?;
    let manifest = "deploy/operator-namespaced.yaml";
    kubernetes.kubectl(&["-n", SHOP, "apply", "-f", manifest])?;
    kubernetes.kubectl(&["-n", SHOP, "rollout", "status", OPERATOR, "--timeout=60s"])?;
    touch(kubernetes, "demo")?;
    let changed = kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    must_serve(kubernetes, "odd").await?;
    // It has to be sure that the definitions are there, without being allowed to see them.
    kubernetes.kubectl(&["-n", SHOP, "delete", "hub/odd"])?;
    served_nowhere(kubernetes, "odd").await?;
    touch(kubernetes, "demo")?;
    kubernetes.wait_ready(SHOP, "hub/demo", 30).context("a change after a deletion is not in effect")?;
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 30)?;
    kubernetes.kubectl(&["-n", SHOP, "delete", "-f", manifest])?;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"])?;
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", OPERATOR, "--timeout=60s"])?;
    println!(
        "failures: with Roles alone a change is Ready after {:.1} s, the operator's start included",
        changed.as_secs_f64()
    );
    Ok(())
}

/// What the operator has not seen is said to be on its way, and never to be done: in the row that is shown to other tools.
fn unseen(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    let rows: Vec<Value> = serde_json::from_str(&std::fs::read_to_string("e2e/kstatus/rows.json")?)?;
    let row = rows.iter().find(|row| row["name"] == "made, and the operator has not seen it");
    let row = &row.context("there is no row of what the operator has not seen")?["object"];
    kubernetes.kubectl(&["-n", SYSTEM, "wait", "--for=delete", "pods", "--all", "--timeout=60s"])?;
    kubernetes.apply_value(&json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "metadata": {"name": "fresh", "namespace": SHOP},
        "spec": {"clusterRef": {"name": "main"}},
    }))?;
    let made: Value = serde_json::from_str(&kubernetes.kubectl(&["-n", SHOP, "get", "hub/fresh", "-o", "json"])?)?;
    let same = made["status"] == row["status"] && made["metadata"]["generation"] == row["metadata"]["generation"];
    anyhow::ensure!(same, "of a hub that the operator has not seen is said: {made}");
    let shown = kubernetes.kubectl(&["-n", SHOP, "get", "hub/fresh", "--no-headers"])?;
    anyhow::ensure!(shown.contains("Unknown") && shown.contains("Pending"), "kubectl shows {shown}");
    let done = kubernetes.wait_ready(SHOP, "hub/fresh", 0).is_ok();
    anyhow::ensure!(!done, "kubectl takes a hub for Ready that nobody has seen");
    Ok(())
}

/// Nodes do without the operator, also when each of them is replaced.
async fn operator_away(kubernetes: &Kubernetes<'_>) -> anyhow::Result<()> {
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=0"])?;
    unseen(kubernetes)?;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for pod in kubernetes.node_pods(SHOP).await? {
        let (name, uid) = (pod.name_any(), pod.uid());
        kubernetes.kubectl(&["-n", SHOP, "delete", "pod", &name])?;
        let what = format!("{name} is ready again");
        let back = until(&what, 60, async || {
            let pods = kubernetes.node_pods(SHOP).await?;
            let Some(pod) = pods.iter().find(|pod| pod.name_any() == name && pod.uid() != uid) else {
                return Ok(Err("it is not there".to_owned()));
            };
            Ok(if is_ready(pod) { Ok(()) } else { Err("it is not ready".to_owned()) })
        });
        slowest = slowest.max(back.await?);
        must_serve(kubernetes, "demo").await.context("a replaced node serves what the others do")?;
    }
    let rest = Duration::from_secs(120).saturating_sub(began.elapsed());
    tokio::time::sleep(rest).await;
    must_serve(kubernetes, "demo").await?;
    kubernetes.kubectl(&["-n", SYSTEM, "scale", OPERATOR, "--replicas=2"])?;
    touch(kubernetes, "demo")?;
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    kubernetes.wait_ready(SHOP, "hub/fresh", 60)?;
    kubernetes.kubectl(&["-n", SHOP, "delete", "hub/fresh"])?;
    println!(
        "failures: two minutes without the operator; each replaced node was ready within {:.1} s, with all that the others serve",
        slowest.as_secs_f64()
    );
    Ok(())
}

/// A node that nobody reaches is named where something is not in effect on it.
async fn node_cut_off(kubernetes: &Kubernetes<'_>, place: &Place) -> anyhow::Result<()> {
    let leader = leader(kubernetes).await?;
    let on = kubernetes.kubectl(&["-n", SYSTEM, "get", "pod", &leader, "-o", "jsonpath={.spec.nodeName}"])?;
    let pods = kubernetes.node_pods(SHOP).await?;
    // The first machine is this one.
    let elsewhere = |machine: &str| machine != "n1" && machine != on.trim();
    let machine = |pod: &k8s_openapi::api::core::v1::Pod| {
        pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default()
    };
    let Some(pod) = pods.iter().find(|pod| elsewhere(&machine(pod))) else { bail!("no node can be cut off") };
    let Some(link) = place.link(&machine(pod)) else {
        println!("failures: not shown here: a node that is cut off, for which this place has no means");
        return Ok(());
    };
    let still = json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "metadata": {"name": "still", "namespace": SHOP},
        "spec": {"clusterRef": {"name": "main"}},
    });
    kubernetes.apply_value(&still)?;
    kubernetes.wait_ready(SHOP, "hub/still", 30)?;
    link.cut()?;
    touch(kubernetes, "demo")?;
    let began = Instant::now();
    let named = until("the hub names the node", 15, async || {
        let status = kubernetes.status(SHOP, "hub/demo")?;
        let ready = status["conditions"]
            .as_array()
            .into_iter()
            .flatten()
            .find(|condition| condition["type"] == "Ready")
            .cloned();
        let ready = ready.unwrap_or_default();
        let named = ready["message"].as_str().unwrap_or_default().contains(&pod.name_any());
        Ok(if ready["status"] != "True" && named { Ok(()) } else { Err(status.to_string()) })
    });
    let named = named.await;
    let other = until("a hub that did not change names it too", 20, async || {
        let status = kubernetes.status(SHOP, "hub/still")?.to_string();
        Ok(if status.contains("NodeLagging") && status.contains(&pod.name_any()) { Ok(()) } else { Err(status) })
    });
    let other = other.await;
    link.join()?;
    let (named, _) = (named?, other?);
    let unchanged = began.elapsed();
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    println!(
        "failures: a node that is cut off is named after {:.1} s by what changed, after {:.1} s by what did not",
        named.as_secs_f64(),
        unchanged.as_secs_f64()
    );
    Ok(())
}

/// A node that only the operator does not reach gets what changes from others, and they say so.
async fn node_out_of_reach(kubernetes: &Kubernetes<'_>, place: &Place) -> anyhow::Result<()> {
    let operator = kubernetes.kubectl(&[
        "-n",
        SYSTEM,
        "get",
        "pod",
        &leader(kubernetes).await?,
        "-o",
        "jsonpath={.status.podIP}",
    ])?;
    let pods = kubernetes.node_pods(SHOP).await?;
    let pod = pods.first().context("there is no node")?;
    let machine = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let address = pod.status.as_ref().and_then(|status| status.pod_ip.clone()).context("the pod has no address")?;
    let Some(way) = place.way(&machine, operator.trim(), &address) else {
        println!("failures: not shown here: a node that only the operator does not reach: this place has no means");
        return Ok(());
    };
    way.shut()?;
    let shown = async {
        touch(kubernetes, "demo")?;
        let named = until("the hub names the node", 15, async || {
            let status = kubernetes.status(SHOP, "hub/demo")?.to_string();
            Ok(if status.contains(&pod.name_any()) { Ok(()) } else { Err(status) })
        });
        named.await?;
        let began = Instant::now();
        kubernetes.wait_ready(SHOP, "hub/demo", 30)?;
        Ok::<_, anyhow::Error>(began.elapsed())
    };
    let shown = shown.await;
    way.open()?;
    let shown = shown?;
    println!(
        "failures: a node that only the operator does not reach: others say what it serves after {:.1} s",
        shown.as_secs_f64()
    );
    kubernetes.wait_ready(SHOP, "hub/demo", 60)?;
    Ok(())
}
