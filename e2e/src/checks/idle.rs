//! Nothing is written while nothing happens.

use std::{
    io::{Read, Seek, SeekFrom},
    time::Duration,
};

use anyhow::Context;
use serde_json::Value;

use crate::{
    kubernetes::{Kubernetes, SHOP},
    place::Place,
};

const IDLE: Duration = Duration::from_secs(600);

pub async fn run(kubernetes: &Kubernetes<'_>, place: &Place) -> anyhow::Result<()> {
    let Some(log) = place.audit_log() else {
        println!("idle: not shown here, where the API server keeps no log of what it was asked");
        return Ok(());
    };
    kubernetes.wait_ready(SHOP, "appsocketscluster/main", 60)?;
    // What belongs to what was before.
    tokio::time::sleep(Duration::from_secs(20)).await;
    let mut log = std::fs::File::open(&log).with_context(|| format!("{} can't be read", log.display()))?;
    log.seek(SeekFrom::End(0))?;
    tokio::time::sleep(IDLE).await;
    let mut text = String::new();
    log.read_to_string(&mut text)?;
    let (mut leases, mut others) = (0, Vec::new());
    for line in text.lines() {
        let entry: Value = serde_json::from_str(line).unwrap_or_default();
        if entry["user"]["username"] != "system:serviceaccount:appsockets-system:appsockets-operator" {
            continue;
        }
        match entry["objectRef"]["resource"] == "leases" {
            true => leases += 1,
            false => others.push(format!("{} {}", entry["verb"], entry["requestURI"])),
        }
    }
    println!("idle: in {} s the operator wrote its lease {leases} times and {} others", IDLE.as_secs(), others.len());
    anyhow::ensure!(others.is_empty(), "the operator wrote: {}", others.join(", "));
    Ok(())
}
