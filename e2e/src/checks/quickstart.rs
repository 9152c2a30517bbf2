//! From nothing to a message that is published at one node and received at a second.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use appsockets_client::{Client, Event, Options, Subscription};
use kube::ResourceExt;
use tokio::time::timeout;

use crate::{
    forward::Forward,
    kubernetes::{Kubernetes, SHOP, SYSTEM},
};

pub async fn run(kubernetes: &Kubernetes<'_>, began: Instant) -> anyhow::Result<()> {
    let applied = Instant::now();
    kubernetes.define()?;
    kubernetes.kubectl(&["apply", "-f", "deploy/operator.yaml"])?;
    kubernetes.kubectl(&["apply", "-f", "deploy/quickstart.yaml"])?;
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 120)?;
    kubernetes.wait_ready(SHOP, "hub/demo", 30)?;
    println!("ready after apply: {:.1} s", applied.elapsed().as_secs_f64());

    let pods = kubernetes.node_pods(SHOP).await?;
    let [first, second, ..] = &*pods else { bail!("there are fewer than two nodes") };
    message(kubernetes, &first.name_any(), &second.name_any()).await?;
    println!(
        "quickstart: {:.1} s from nothing, {:.1} s of it after the cluster was up",
        began.elapsed().as_secs_f64(),
        applied.elapsed().as_secs_f64()
    );

    let difference =
        kubernetes.kubectl(&["diff", "-f", "deploy/quickstart.yaml"]).context("kubectl diff is not empty")?;
    anyhow::ensure!(difference.is_empty(), "kubectl diff is not empty: {difference}");
    kubernetes.kubectl(&["-n", SYSTEM, "rollout", "status", "deployment/appsockets-operator", "--timeout=60s"])?;
    Ok(())
}

/// What is published at one node arrives at another.
pub async fn message(kubernetes: &Kubernetes<'_>, sender: &str, receiver: &str) -> anyhow::Result<()> {
    let sender = Forward::to(kubernetes, SHOP, sender, 8080).await?;
    let receiver = Forward::to(kubernetes, SHOP, receiver, 8080).await?;
    let url = |forward: &Forward| format!("ws://127.0.0.1:{}", forward.port);
    let receiver = Client::connect(Options::new(url(&receiver), "demo"))?;
    let mut news = receiver.subscribe("news").await?;
    // It begins with where it begins; what is published after that is heard.
    let begun = next(&mut news).await?;
    anyhow::ensure!(matches!(begun, Event::Position(_)), "the subscription does not begin: {begun:?}");
    let sender = Client::connect(Options::new(url(&sender), "demo"))?;
    sender.publish("news", "greeting", "hello").await?;
    let heard = next(&mut news).await?;
    let is_it = matches!(&heard, Event::Message(message) if message.event == "greeting");
    anyhow::ensure!(is_it, "another message came: {heard:?}");
    Ok(())
}

async fn next(subscription: &mut Subscription) -> anyhow::Result<Event> {
    let next = timeout(Duration::from_secs(10), subscription.next()).await;
    next.context("nothing came within 10 s")?.context("the subscription has ended")
}
