//! Which of several operators acts. It holds a Lease of Kubernetes, and what it tells nodes carries how often that has
//! changed hands, so what one says that has lost it is refused.
//!
//! Written here because what a push carries must be the number of the very write by which the lease was won.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, bail};
use k8s_openapi::{
    api::coordination::v1::{Lease as LeaseObject, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, api::PostParams};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout, timeout_at},
};
use tracing::{info, warn};

/// For how long a lease counts that is not renewed.
const DURATION: Duration = Duration::from_secs(10);
/// How long after the begin of its last renewal its holder ends. Others count the duration from when they saw that
/// renewal, which was later. So two act at once only for a moment after a holder's process was stopped and goes on: then
/// nodes refuse what it tells them, because its term is over.
const DEADLINE: Duration = Duration::from_secs(7);
const RENEWAL: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_secs(1);
const CALL_TIMEOUT: Duration = Duration::from_secs(3);

/// The lease, seen by one operator.
pub struct Lease {
    api: Api<LeaseObject>,
    name: String,
    /// Differs for each start of an operator.
    me: String,
    /// The least number of changes that the lease ought to have: nodes have seen as many.
    term_min: AtomicU64,
    term: watch::Sender<u64>,
}

/// A lease that was won, and when the attempt began that won it.
pub struct Won(LeaseObject, Instant);

impl Lease {
    pub fn new(api: Api<LeaseObject>, name: &str, me: String) -> Lease {
        Lease { api, name: name.to_owned(), me, term_min: AtomicU64::new(0), term: watch::Sender::new(0) }
    }

    /// How often the lease has changed hands; 0: it was not won yet.
    pub fn term(&self) -> watch::Receiver<u64> {
        self.term.subscribe()
    }

    /// Has the lease count on from what a node has seen, which is more when somebody has deleted the lease.
    pub fn raise(&self, term: u64) {
        self.term_min.fetch_max(term, Ordering::Relaxed);
    }

    /// Waits until the lease is won.
    pub async fn win(&self) -> Won {
        let mut seen: Option<(LeaseObject, Instant)> = None;
        loop {
            let began = Instant::now();
            match timeout(CALL_TIMEOUT, self.try_to_win(&mut seen)).await {
                Ok(Ok(Some(won))) => return Won(won, began),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => warn!(error = format!("{error:#}"), "The lease can't be asked for."),
                Err(_) => warn!("The API server does not answer when it is asked for the lease."),
            }
            sleep(POLL).await;
        }
    }

    async fn try_to_win(&self, seen: &mut Option<(LeaseObject, Instant)>) -> anyhow::Result<Option<LeaseObject>> {
        let Some(found) = self.api.get_opt(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
            let new = LeaseObject { metadata, spec: Some(self.spec(1, None)) };
            return self.write(self.api.create(&PostParams::default(), &new).await);
        };
        let spec = found.spec.clone().unwrap_or_default();
        let held = spec.holder_identity.as_deref().is_some_and(|holder| !holder.is_empty());
        if held {
            // Only this machine's own clock is compared: those of others may be wrong.
            match seen {
                Some((before, since)) if before.spec == found.spec => {
                    if since.elapsed() < DURATION {
                        return Ok(None);
                    }
                }
                _ => {
                    *seen = Some((found, Instant::now()));
                    return Ok(None);
                }
            }
        }
        let term = u64::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0) + 1;
        let new = LeaseObject { spec: Some(self.spec(term, None)), ..found };
        self.write(self.api.replace(&self.name, &PostParams::default(), &new).await)
    }

    /// What a write has come to; None: another one was faster.
    fn write(&self, written: kube::Result<LeaseObject>) -> anyhow::Result<Option<LeaseObject>> {
        match written {
            Ok(won) => {
                let term = term_of(&won);
                info!(term, "This operator holds the lease.");
                self.term.send_replace(term);
                Ok(Some(won))
            }
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Renews the lease for ever.
    ///
    /// # Errors
    /// It is lost, or could not be renewed for so long that another one may have it.
    pub async fn keep(&self, Won(mut lease, mut renewed): Won) -> anyhow::Result<()> {
        loop {
            let renewal = timeout_at(renewed + DEADLINE, self.renewal(&mut lease)).await;
            let late = || format!("the lease could not be renewed for {} seconds", DEADLINE.as_secs());
            renewed = renewal.with_context(late)??;
        }
    }

    /// Renews the lease once, and gives when that began.
    async fn renewal(&self, lease: &mut LeaseObject) -> anyhow::Result<Instant> {
        sleep(RENEWAL).await;
        loop {
            let began = Instant::now();
            if self.renew(lease).await? {
                return Ok(began);
            }
            sleep(POLL / 2).await;
        }
    }

    /// False: it did not work this time.
    async fn renew(&self, lease: &mut LeaseObject) -> anyhow::Result<bool> {
        let term = term_of(lease).max(self.term_min.load(Ordering::Relaxed));
        let acquired = lease.spec.as_ref().and_then(|spec| spec.acquire_time.clone());
        let new = LeaseObject { spec: Some(self.spec(term, acquired)), ..lease.clone() };
        let writing = async {
            match self.api.replace(&self.name, &PostParams::default(), &new).await {
                // Somebody else wrote to it, perhaps only a label. For who waits for it that is no renewal.
                Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
                    let Some(found) = self.api.get_opt(&self.name).await? else {
                        return Ok(Err("the lease was deleted".to_owned()));
                    };
                    let holder = found.spec.as_ref().and_then(|spec| spec.holder_identity.clone()).unwrap_or_default();
                    match holder == self.me {
                        true => Ok(Ok((found, false))),
                        false => Ok(Err(format!("the lease is held by {holder}"))),
                    }
                }
                written => written.map(|written| Ok((written, true))),
            }
        };
        match timeout(CALL_TIMEOUT, writing).await {
            Ok(Ok(Ok((found, is_renewed)))) => {
                let term = term_of(&found);
                self.term.send_if_modified(|held| std::mem::replace(held, term) != term);
                *lease = found;
                Ok(is_renewed)
            }
            Ok(Ok(Err(lost))) => bail!(lost),
            Ok(Err(error)) => {
                warn!(%error, "The lease was not renewed.");
                Ok(false)
            }
            Err(_) => Ok(false),
        }
    }

    /// Gives the lease back, so that another one need not wait.
    ///
    /// # Errors
    /// The API server did not take it.
    pub async fn give_back(&self) -> anyhow::Result<()> {
        let giving = timeout(CALL_TIMEOUT, self.try_to_give_back()).await;
        giving.context("the API server does not answer")?
    }

    async fn try_to_give_back(&self) -> anyhow::Result<()> {
        let mut found = self.api.get(&self.name).await.context("the lease can't be read")?;
        if let Some(spec) = found.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me)) {
            spec.holder_identity = Some(String::new());
            self.api
                .replace(&self.name, &PostParams::default(), &found)
                .await
                .context("the lease can't be given back")?;
        }
        Ok(())
    }

    fn spec(&self, term: u64, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: acquired.or_else(|| Some(now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(i32::try_from(term).unwrap_or(i32::MAX)),
            ..LeaseSpec::default()
        }
    }
}

fn term_of(lease: &LeaseObject) -> u64 {
    let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
    u64::try_from(transitions).unwrap_or(0)
}

#[cfg(test)]
mod tests;
