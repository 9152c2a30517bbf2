//! `appsockets-operator`: see `appsockets-operator --help`.

use std::{collections::BTreeMap, net::SocketAddr, process::ExitCode, sync::Arc};

use anyhow::{Context, bail};
use appsockets_operator::{
    apply::{Applying, Made, Problems},
    decide,
    events::Events,
    keys::{Keys, Rotations},
    lease::Lease,
    link::Links,
    metrics::Metrics,
    rolling::{Rolling, Rollouts},
    serve::{self, Health},
    statuses::Statuses,
    watching::Watched,
};
use clap::Parser;
use k8s_openapi::api::coordination::v1::Lease as LeaseObject;
use kube::{Api, Client};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

/// The operator of AppSockets: it runs clusters of nodes, and has them serve what custom resources say.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// Looks at this Kubernetes namespace only, for which Roles suffice; otherwise at all.
    #[arg(long)]
    namespace: Option<String>,
    /// Where the lease is, by which one of several operators acts; unless given, the operator's own.
    #[arg(long, env = "POD_NAMESPACE")]
    lease_namespace: Option<String>,
    /// Where `/metrics`, `/healthz` and `/readyz` are served.
    #[arg(long, default_value = "0.0.0.0:9090")]
    metrics: SocketAddr,
    /// What this operator is called in the lease and in events; unless given, the host's name.
    #[arg(long, env = "POD_NAME")]
    name: Option<String>,
    /// Has a task panic, to show what becomes of the operator then.
    #[arg(long, hide = true)]
    panic: bool,
}

fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=error"));
    tracing_subscriber::fmt().json().with_env_filter(filter).with_writer(std::io::stderr).init();
    // A task that is no longer there is worse than an operator that begins again.
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let client = Client::try_default().await.context("no API server is configured")?;
    let metrics = Metrics::default();
    let name = arguments.name.or_else(host_name).unwrap_or_else(|| "appsockets-operator".to_owned());
    let namespace = arguments.lease_namespace.or(arguments.namespace.clone());
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    let watched = Arc::new(Watched::start(&client, arguments.namespace.as_deref(), &metrics));
    let health = Health::new(watched.clone(), metrics.clone());
    let serving = serve::serve(arguments.metrics, health.clone()).await?;

    if arguments.panic {
        tokio::spawn(async { panic!("this was asked for") });
    }
    let leases: Api<LeaseObject> = Api::namespaced(client.clone(), &namespace);
    let lease = Arc::new(Lease::new(leases, "appsockets-operator", format!("{name}_{}", chance()?)));
    let listed = async {
        watched.listed().await;
        health.listed();
        std::future::pending::<()>().await;
    };
    let acting = act(client, watched.clone(), lease.clone(), name, metrics.clone());
    tokio::select! {
        () = listed => bail!("what is watched was lost"),
        ended = serving => bail!("the metrics are no longer served: {ended:?}"),
        ended = acting => ended?,
        _ = terminated.recv() => {
            info!("This operator ends.");
            if *lease.term().borrow() > 0 && let Err(error) = lease.give_back().await {
                warn!(error = format!("{error:#}"), "The lease was not given back.");
            }
        }
    }
    Ok(())
}

/// Waits for the lease, and then does what operators do until it is lost.
async fn act(
    client: Client,
    watched: Arc<Watched>,
    lease: Arc<Lease>,
    name: String,
    metrics: Metrics,
) -> anyhow::Result<()> {
    let won = lease.win().await;
    metrics.leader.set(1);
    let (decided, decisions) = watch::channel(Default::default());
    let (events, writing_events) = Events::new(client.clone(), name, metrics.clone());
    let links = Arc::new(Links::new(decisions.clone(), lease.clone(), events.clone(), metrics.clone()));
    let problems = Arc::new(Problems::default());
    let (made, rollouts) = (Arc::new(Made::default()), Arc::new(Rollouts::default()));
    let rolling = Rolling {
        client: client.clone(),
        watched: watched.clone(),
        links: links.clone(),
        rollouts: rollouts.clone(),
        events: events.clone(),
        memory: BTreeMap::new(),
    };
    let rotations = Arc::new(Rotations::default());
    let keys = Keys { client: client.clone(), rotations: rotations.clone(), events: events.clone() };
    let applying = Applying {
        client: client.clone(),
        watched: watched.clone(),
        decided: decisions.clone(),
        problems: problems.clone(),
        made: made.clone(),
        rolling,
        keys,
        events: events.clone(),
        applied: BTreeMap::new(),
    };
    let statuses = Statuses {
        client: client.clone(),
        watched: watched.clone(),
        decided: decisions,
        links: links.clone(),
        problems,
        made,
        rollouts,
        rotations,
        events,
        metrics,
        memory: BTreeMap::new(),
    };
    // Each on its own, so that none waits for another; and none may end while the operator goes on.
    let kept = tokio::spawn(async move { lease.keep(won).await });
    tokio::select! {
        lost = kept => lost?.context("the lease is lost")?,
        ended = tokio::spawn(decide::run(client, watched, decided, links)) => ended?,
        ended = tokio::spawn(applying.run()) => ended?,
        ended = tokio::spawn(statuses.run()) => ended?,
        ended = tokio::spawn(writing_events) => ended?,
    }
    bail!("a part of the operator has ended")
}

fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/etc/hostname").ok()?;
    Some(name.trim().to_owned())
}

/// Tells this start of an operator from all others.
fn chance() -> anyhow::Result<String> {
    let mut bytes = [0; 6];
    getrandom::fill(&mut bytes).context("this machine gives no random bytes")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
