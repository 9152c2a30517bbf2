//! Nothing is written while nothing happens.

use std::{fs::File, io::Read, path::Path, time::Duration};

use anyhow::Context;
use serde_json::{Value, json};

use super::{
    failures::{mend, spoil},
    tenants::told,
};
use crate::{
    kubernetes::{Kubernetes, SHOP, until},
    place::Place,
};

const OPERATOR: &str = "system:serviceaccount:appsockets-system:appsockets-operator";
const IDLE: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_secs(30);

/// False: it can't be shown here.
pub async fn run(kubernetes: &Kubernetes<'_>, place: &Place, short: bool) -> anyhow::Result<bool> {
    let Some(log) = place.audit_log() else {
        println!("idle: not shown here, where the API server keeps no log of what it was asked");
        return Ok(false);
    };
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 60)?;
    // What is wrong with a resource is said once.
    spoil(kubernetes).await?;
    let wrong = json!({
        "apiVersion": "appsockets.io/v1alpha1", "kind": "Hub", "metadata": {"name": "wrong", "namespace": SHOP},
        "spec": {"clusterRef": {"name": "main"}, "limits": {"connections": 0}},
    });
    kubernetes.apply_value(&wrong)?;
    told(kubernetes, SHOP, "hub/odd", "False", "Undecodable").await?;
    told(kubernetes, SHOP, "hub/wrong", "False", "Invalid").await?;
    let shown = silent(&log, if short { SHORT } else { IDLE }).await;
    kubernetes.kubectl(&["-n", SHOP, "delete", "hub/wrong"])?;
    mend(kubernetes)?;
    shown.map(|()| true)
}

/// The operator writes nothing but its lease.
async fn silent(log: &Path, idle: Duration) -> anyhow::Result<()> {
    let mut log = File::open(log).with_context(|| format!("{} can't be read", log.display()))?;
    // What belongs to what was before has come to its end once the lease alone is written several times in a row.
    let mut in_a_row = 0;
    let quiet = until("the operator writes its lease alone", 120, async || {
        for write in written(&mut log)? {
            in_a_row = if write.is_lease { in_a_row + 1 } else { 0 };
        }
        Ok(if in_a_row >= 5 { Ok(()) } else { Err(format!("{in_a_row} times in a row")) })
    });
    quiet.await?;
    tokio::time::sleep(idle).await;
    let (leases, others): (Vec<_>, Vec<_>) = written(&mut log)?.into_iter().partition(|write| write.is_lease);
    println!(
        "idle: in {} s, beside hubs that can't be read or served, the operator wrote its lease {} times and {} others",
        idle.as_secs(),
        leases.len(),
        others.len()
    );
    anyhow::ensure!(!leases.is_empty(), "the log does not show the operator at all");
    let others: Vec<_> = others.into_iter().map(|write| write.what).collect();
    anyhow::ensure!(others.is_empty(), "the operator wrote: {}", others.join(", "));
    Ok(())
}

struct Write {
    what: String,
    is_lease: bool,
}

/// What the operator has written since it was asked last.
fn written(log: &mut File) -> anyhow::Result<Vec<Write>> {
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    let entries = text.lines().map(|line| serde_json::from_str(line).unwrap_or_default());
    let ours = entries.filter(|entry: &Value| entry["user"]["username"] == OPERATOR);
    let write = |entry: Value| Write {
        what: format!("{} {}", entry["verb"], entry["requestURI"]),
        is_lease: entry["objectRef"]["resource"] == "leases",
    };
    Ok(ours.map(write).collect())
}
