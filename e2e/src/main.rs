//! AppSockets on a real Kubernetes: what is promised, seen from outside. Called by `cargo xtask e2e`.

use std::{path::PathBuf, process::ExitCode, time::Instant};

use clap::{Parser, ValueEnum};
use kubernetes::Kubernetes;
use place::Place;

mod checks;
mod forward;
mod kubernetes;
mod place;

/// AppSockets on a real Kubernetes.
#[derive(Parser)]
struct Arguments {
    /// What is shown.
    #[arg(value_enum, default_value = "all")]
    what: What,
    /// Runs in the cluster of this context of the usual kubeconfig, which has to have the images, in namespaces of its
    /// own; it is refused where AppSockets or one of them is already.
    #[arg(long)]
    context: Option<String>,
    /// Archives of the images.
    #[arg(long)]
    images: PathBuf,
    /// Where the programs of Kubernetes are kept that were built from source.
    #[arg(long)]
    cache: PathBuf,
    /// Leaves the cluster as it is at the end.
    #[arg(long)]
    keep: bool,
    /// How many random resources are changed.
    #[arg(long, default_value_t = 500)]
    changes: usize,
    /// How many hubs there are where scale is shown.
    #[arg(long, default_value_t = 1000)]
    hubs: usize,
    /// How many sessions there are while pods are replaced.
    #[arg(long, default_value_t = 3000)]
    sessions: usize,
}

/// What is shown.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum What {
    /// From nothing to a message through two nodes.
    Quickstart,
    /// The same, and a few of the others with smaller figures.
    Smoke,
    /// Everything.
    All,
    /// What is wrong, and is not taken.
    Refused,
    /// Random changes, each looked at on every node.
    Changes,
    /// Who may refer to what.
    Tenants,
    /// Nodes, operators and definitions that go away.
    Failures,
    /// Many hubs.
    Scale,
    /// What clients notice of pods that are replaced.
    Upgrade,
    /// A cluster and its tenants from a git repository, by the engine of Argo CD.
    Gitops,
    /// Installing by Helm.
    Chart,
    /// What replaces pods, and what does not.
    Rollout,
    /// Nodes that only hold connections.
    Edges,
    /// What `kubectl appsockets` does.
    Plugin,
    /// What the operator may do, and where no secret comes to.
    Rights,
    /// Nothing is written while nothing happens.
    Idle,
    /// Everything can be deleted in any order. Nothing is left afterwards.
    Deletion,
}

fn main() -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(Arguments::parse())));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let place = Place::choose(arguments.context.clone(), &arguments.cache)?;
    println!("place: {place}");
    let began = Instant::now();
    place.up(&arguments.images)?;
    println!("cluster up: {:.1} s", began.elapsed().as_secs_f64());
    let shown = show(&arguments, &place, began).await;
    if arguments.keep {
        println!("kept: {}", place.hint());
    } else {
        place.down()?;
    }
    shown
}

async fn show(arguments: &Arguments, place: &Place, began: Instant) -> anyhow::Result<()> {
    let kubernetes = Kubernetes::connect(place).await?;
    if place.is_shared() {
        kubernetes.refuse_where_others_are()?;
    }
    let mut count = Count::default();
    let shown = checks(arguments, place, &kubernetes, began, &mut count);
    let shown = shown.await;
    if shown.is_err() {
        kubernetes.tell_what_is_there();
    }
    if place.is_shared() {
        kubernetes.remove_what_is_ours()?;
    }
    // As the tests of packages end, for those who look for that.
    let failed = usize::from(shown.is_err());
    let took = began.elapsed().as_secs_f64();
    let outcome = if failed == 0 { "ok" } else { "FAILED" };
    let Count { passed, not_shown } = count;
    println!(
        "test result: {outcome}. {passed} passed; {failed} failed; {not_shown} not shown; finished in {took:.1} s"
    );
    shown
}

/// What came of the checks.
#[derive(Default)]
struct Count {
    passed: usize,
    /// For which the place has no means.
    not_shown: usize,
}

/// What is asked for, one after the other.
async fn checks(
    arguments: &Arguments,
    place: &Place,
    kubernetes: &Kubernetes<'_>,
    began: Instant,
    count: &mut Count,
) -> anyhow::Result<()> {
    let what = arguments.what;
    let (smoke, all) = (what == What::Smoke, what == What::All);
    checks::quickstart::run(kubernetes, began).await?;
    count.passed += 1;
    if smoke || all || what == What::Refused {
        checks::refused::run(kubernetes).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Changes {
        checks::changes::run(kubernetes, if smoke { 20 } else { arguments.changes }).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Tenants {
        checks::tenants::run(kubernetes).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Failures {
        checks::failures::run(kubernetes, place, smoke).await?;
        count.passed += 1;
    }
    if all || what == What::Upgrade {
        checks::upgrade::run(kubernetes, arguments.sessions).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Rollout {
        checks::rollout::run(kubernetes, smoke).await?;
        count.passed += 1;
    }
    if all || what == What::Edges {
        checks::edges::run(kubernetes).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Plugin {
        checks::plugin::run(kubernetes).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Rights {
        checks::rights::run(kubernetes).await?;
        count.passed += 1;
    }
    if all || what == What::Gitops {
        checks::gitops::run(kubernetes, &arguments.cache).await?;
        count.passed += 1;
    }
    if all || what == What::Chart {
        checks::chart::run(kubernetes).await?;
        count.passed += 1;
    }
    if all || what == What::Scale {
        checks::scale::run(kubernetes, arguments.hubs).await?;
        count.passed += 1;
    }
    if smoke || all || what == What::Idle {
        let shown = checks::idle::run(kubernetes, place, smoke).await?;
        *if shown { &mut count.passed } else { &mut count.not_shown } += 1;
    }
    if all || what == What::Deletion {
        checks::deletion::run(kubernetes).await?;
        count.passed += 1;
    }
    Ok(())
}
