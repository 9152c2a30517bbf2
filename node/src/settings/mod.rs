//! What tenants set, from its sources to the compiled form that everything else reads.
//!
//! A change goes to its source first and then, from all sources together, to a new [`Compiled`], which is published
//! whole. Whoever keeps something that follows from settings subscribes and compares.

mod document;
pub mod exchange;
pub mod file;
pub mod handed;
pub mod metadata;
mod refusal;
mod replica;
mod sources;
pub mod sqlite;

pub use refusal::{OpenError, Refusal};

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use appsockets_core::{
    channel::{HubId, is_valid_name},
    settings::{
        compile::Compiled,
        entry::{Entry, ResourceId, ResourceKind, Revision, Source},
        hub::Hub,
        push::{Handed, Push, PushRefused, PushStamp, Taken},
        resource::{AuthProviderSpec, HubSpec, NatsProviderSpec, Resource},
        snapshot::Snapshot,
        subject,
    },
};
use arc_swap::ArcSwap;
use sqlx::SqlitePool;
use tokio::{
    sync::{Mutex, watch},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use self::{
    exchange::{Item, Page, Refused},
    file::Watched,
    handed::Kept,
    metadata::{Limits, Word},
    refusal::list,
    replica::Changes,
    sources::Sources,
    sqlite::{Change, Table},
};
use crate::edge::clock;

/// How settings are kept on this node.
#[derive(Clone, Debug)]
pub struct Options {
    /// A file of resources, in YAML.
    pub file: Option<PathBuf>,
    /// How often the file is looked at.
    pub file_interval: Duration,
    /// How often the database is looked at, in case a change was not told.
    pub database_interval: Duration,
    /// What a hub gets that is made because a client named it; None: no hubs are made so.
    pub dynamic: Option<HubSpec>,
    /// Where the auth provider of such a hub is asked over NATS, a template of [`subject`]; None: it gets none.
    pub dynamic_auth_subject: Option<String>,
    /// Hubs made so, at most. Each costs time in proportion to the hubs that there are.
    pub dynamic_hubs_max: usize,
    /// Resources in the database, at most, not counting those hubs.
    pub resources_max: usize,
    /// Channels that may have metadata.
    pub metadata: Limits,
    /// The number of this node, which tells its writes from those of others.
    pub node: u64,
    /// Where that is kept which the operator hands over; None: no operator does.
    pub operator: Option<Kept>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            file: None,
            file_interval: Duration::from_secs(1),
            database_interval: Duration::from_secs(5),
            dynamic: None,
            dynamic_auth_subject: None,
            dynamic_hubs_max: 1_000,
            resources_max: 100_000,
            metadata: Limits { of_hub: 10_000, in_all: 100_000 },
            node: 0,
            operator: None,
        }
    }
}

/// All settings of this node.
#[derive(Debug)]
pub struct Settings {
    options: Options,
    table: Table,
    sources: Mutex<Sources>,
    current: ArcSwap<Compiled>,
    changes: watch::Sender<Arc<Compiled>>,
    /// The digest of all metadata that the database holds.
    metadata: watch::Sender<u64>,
    not_made: AtomicU64,
    refused: AtomicU64,
    /// The operator, or a node that it has told, has said since this node began what is to be served.
    told: AtomicBool,
    /// From when on what an earlier run has kept counts as that, in `Now::mono_ms`; none if nothing was kept.
    trusted_ms: Option<AtomicU64>,
}

/// How long a node that has kept what it was told waits for somebody who may know better: nobody may be there.
const TRUSTED_AFTER_MS: u64 = 5_000;
/// The same from when an operator has asked what the node holds: what it has to say follows at once.
const ANSWERED_AFTER_MS: u64 = 1_000;

/// Items that are merged in one transaction, about: other writers wait for no more.
const MERGED_MAX: usize = 500;
/// Refused items that are remembered, so that each is logged once.
const REFUSED_MAX: usize = 1_000;

impl Settings {
    /// Reads all sources. The pool's tables must be up to date.
    ///
    /// # Errors
    /// The file is there and has anything wrong, or the database failed.
    pub async fn open(options: Options, pool: SqlitePool) -> Result<Settings, OpenError> {
        if let Some(spec) = &options.dynamic {
            let problems = Resource::Hub { name: "demo".to_string(), spec: spec.clone() }.problems();
            if !problems.is_empty() {
                return Err(OpenError::Dynamic(problems));
            }
        }
        let mut sources = Sources::default();
        if let Some(path) = &options.file {
            sources.file = Watched::new(path).read().await.map_err(OpenError::File)?;
        }
        if let Some(kept) = &options.operator {
            sources.operator = kept.read();
        }
        let settings = Settings {
            table: Table::new(pool, options.node),
            options,
            sources: Mutex::new(Sources::default()),
            current: ArcSwap::default(),
            changes: watch::Sender::default(),
            metadata: watch::Sender::default(),
            not_made: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            told: AtomicBool::new(false),
            trusted_ms: sources.operator.stamp().map(|_| AtomicU64::new(clock::now().mono_ms + TRUSTED_AFTER_MS)),
        };
        settings.reload(&mut sources).await?;
        settings.publish(&mut sources);
        *settings.sources.lock().await = sources;
        Ok(settings)
    }

    /// What is in force. Costs next to nothing.
    pub fn current(&self) -> Arc<Compiled> {
        self.current.load_full()
    }

    /// A hub, if there is one of this name.
    pub fn hub(&self, name: &str) -> Option<Arc<Hub>> {
        self.current.load().hubs.get(name).cloned()
    }

    /// Tells of each change; several in quick succession may be told as one.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Compiled>> {
        self.changes.subscribe()
    }

    /// Tells the digest of all metadata of channels: nodes that have the same hold the same.
    pub fn subscribe_metadata(&self) -> watch::Receiver<u64> {
        self.metadata.subscribe()
    }

    /// The digest of all metadata of channels.
    pub fn metadata_digest(&self) -> u64 {
        *self.metadata.borrow()
    }

    /// The entries that count, as their sources gave them. They hold secrets.
    pub async fn snapshot(&self) -> Snapshot {
        self.sources.lock().await.snapshot.clone()
    }

    /// The entry of this identity that counts, if there is one. It may hold secrets.
    pub async fn entry(&self, id: &ResourceId) -> Option<Arc<Entry>> {
        self.sources.lock().await.snapshot.get(id).cloned()
    }

    /// Writes a resource for the administration interface. In force when it returns.
    ///
    /// # Errors
    /// The resource is not valid, its hub does not exist or is managed elsewhere, there are too many, or the database
    /// failed.
    pub async fn apply(&self, resource: Resource) -> Result<Arc<Entry>, Refusal> {
        let problems = resource.problems();
        if !problems.is_empty() {
            return Err(Refusal::Invalid(problems));
        }
        let mut sources = self.sources.lock().await;
        let id = resource.id();
        sources.snapshot.may_change(&id, Source::Api)?;
        if sources.count(Source::Api) >= self.options.resources_max && !sources.database.contains_key(&id) {
            return Err(Refusal::TooManyResources(self.options.resources_max));
        }
        let Change { before, after, done: entry } = self.table.put(resource).await?;
        let mut changes: Changes = Vec::new();
        if id.kind == ResourceKind::Hub && !sources.database.contains_key(&id) {
            changes.extend(sources.gone_with(&id.hub));
        }
        changes.push((id, Some(entry.clone())));
        self.follow(&mut sources, Change { before, after, done: changes }).await?;
        Ok(entry)
    }

    /// Removes a resource for the administration interface; with a hub, everything of that hub. Out of force when it
    /// returns.
    ///
    /// # Errors
    /// There is no such resource, it is managed elsewhere, or the database failed.
    pub async fn remove(&self, id: &ResourceId) -> Result<(), Refusal> {
        let mut sources = self.sources.lock().await;
        sources.snapshot.may_change(id, Source::Api)?;
        self.table.remove(id).await?;
        self.reload(&mut sources).await?;
        self.publish(&mut sources);
        Ok(())
    }

    /// The hub of this name, which is made with the default settings if there is none and the node makes hubs so.
    ///
    /// # Errors
    /// There is no such hub and none is made: that is switched off, the name is not valid, or there are too many.
    pub async fn create_dynamic(&self, name: &str) -> Result<Arc<Hub>, Refusal> {
        if let Some(hub) = self.hub(name) {
            return Ok(hub);
        }
        let not_found = || Refusal::HubNotFound(name.into());
        let spec = self.options.dynamic.as_ref().filter(|_| is_valid_name(name)).ok_or_else(not_found)?;
        let mut sources = self.sources.lock().await;
        if let Some(hub) = self.hub(name) {
            return Ok(hub);
        }
        if sources.dynamic_hubs() >= self.options.dynamic_hubs_max {
            self.not_made.fetch_add(1, Ordering::Relaxed);
            return Err(Refusal::TooManyDynamicHubs(self.options.dynamic_hubs_max));
        }
        let auth = self.options.dynamic_auth_subject.as_deref().map(|template| asked_at(template, name));
        let Change { before, after, done: made } = self.table.create_dynamic(name, spec, auth).await?;
        if made.is_empty() {
            self.reload(&mut sources).await?;
            self.publish(&mut sources);
        } else {
            let mut changes: Changes = sources.gone_with(name).collect();
            changes.extend(made.into_iter().map(|entry| (entry.id.clone(), Some(entry))));
            self.follow(&mut sources, Change { before, after, done: changes }).await?;
        }
        self.hub(name).ok_or_else(not_found)
    }

    /// How often a hub was not made for a client because there are as many as may be.
    pub fn not_made(&self) -> u64 {
        self.not_made.load(Ordering::Relaxed)
    }

    /// Takes what the operator says. In force when it returns, and kept for the next start. Gives how many hubs stayed
    /// although they are no longer there.
    ///
    /// # Errors
    /// It is not later than what is held, or changes something else.
    pub async fn push(&self, push: Push) -> Result<(usize, BTreeSet<HubId>), PushRefused> {
        let mut sources = self.sources.lock().await;
        let taken = sources.operator.after(push);
        if let Err(PushRefused::Late(_)) = taken {
            self.note_told();
        }
        let Taken { handed, removals_held, contested } = taken?;
        self.take_over(&mut sources, handed, Word::Own).await;
        self.note_told();
        Ok((removals_held, contested))
    }

    /// What the operator handed over, for another node that has taken this push last; empty if that is the last one.
    pub async fn handed_since(&self, held: Option<PushStamp>) -> Vec<u8> {
        let handed = self.sources.lock().await.operator.clone();
        match &self.options.operator {
            Some(kept) if handed.stamp() > held => kept.seal(&handed).unwrap_or_else(|error| {
                error!(error = format!("{error:#}"), "What the operator handed over can't be given to another node.");
                Vec::new()
            }),
            _ => Vec::new(),
        }
    }

    /// Takes what another node gave, where that is later than what is held. False: it is not of this cluster.
    pub async fn take_handed(&self, sealed: &[u8]) -> bool {
        let Some(handed) = self.options.operator.as_ref().and_then(|kept| kept.open(sealed)) else { return false };
        let mut sources = self.sources.lock().await;
        if handed.stamp() > sources.operator.stamp() {
            self.take_over(&mut sources, handed, Word::Passed).await;
        }
        true
    }

    async fn take_over(&self, sources: &mut Sources, handed: Handed, word: Word) {
        sources.operator = handed;
        // Before it is kept: a node that ends in between sees again what is gone.
        self.merge_managed(sources, word).await;
        self.keep(&sources.operator).await;
        self.install(sources);
    }

    async fn keep(&self, handed: &Handed) {
        let Some(kept) = self.options.operator.clone() else { return };
        let kept = {
            let handed = handed.clone();
            tokio::task::spawn_blocking(move || kept.write(&handed)).await
        };
        // What is in force matters more than what would be after a restart, when the operator says it again.
        if let Err(error) = kept.map_err(anyhow::Error::from).and_then(|kept| kept) {
            error!(error = format!("{error:#}"), "What the operator handed over was not kept for the next start.");
        }
    }

    /// Keeps what the operator handed over once more, because the key has changed that it is sealed with.
    pub async fn keep_again(&self) {
        let sources = self.sources.lock().await;
        if sources.operator.stamp().is_some() {
            self.keep(&sources.operator).await;
        }
    }

    /// Which push of the operator is in force, and the revision of all that it handed over.
    pub async fn handed(&self) -> (Option<PushStamp>, Revision) {
        let sources = self.sources.lock().await;
        (sources.operator.stamp(), sources.operator.revision())
    }

    /// Whether an operator hands something over to this node.
    pub fn has_operator(&self) -> bool {
        self.options.operator.is_some()
    }

    /// Whether the node knows what its operator wants; also if there is none.
    pub fn are_complete(&self) -> bool {
        !self.has_operator() || self.is_told() || self.is_trusted()
    }

    /// Whether the operator, or a node that it has told, has spoken since this node began.
    pub fn is_told(&self) -> bool {
        self.told.load(Ordering::Relaxed)
    }

    fn is_trusted(&self) -> bool {
        self.trusted_ms.as_ref().is_some_and(|ms| ms.load(Ordering::Relaxed) <= clock::now().mono_ms)
    }

    /// The operator asks what this node holds.
    pub fn note_asked(&self) {
        if let Some(trusted_ms) = &self.trusted_ms {
            trusted_ms.fetch_min(clock::now().mono_ms + ANSWERED_AFTER_MS, Ordering::Relaxed);
        }
    }

    /// A node that was told has nothing later than what is held here.
    pub fn note_told(&self) {
        self.told.store(true, Ordering::Relaxed);
    }

    /// What has changed in the database since it had this revision; others merge it. It holds secrets.
    ///
    /// # Errors
    /// The database failed.
    pub async fn page(&self, after: i64) -> sqlx::Result<Page> {
        self.table.page(after).await
    }

    /// Takes what another database says, where that is later than what is here. In force when it returns.
    ///
    /// A hub of which an item can't be used stays as it was: what lacks may be what protects it. Returns the first
    /// revision of that database at which something was left so, and from which to read again.
    ///
    /// # Errors
    /// The database failed; some hubs may have been taken.
    pub async fn merge(&self, items: Vec<Item>) -> sqlx::Result<Option<i64>> {
        if items.is_empty() {
            return Ok(None);
        }
        let refused: Vec<_> = items.iter().filter_map(|item| item.check().err()).collect();
        let withheld: BTreeSet<_> = refused.iter().map(|refused| &*refused.hub).collect();
        let mut hubs: BTreeMap<String, Vec<Item>> = BTreeMap::new();
        let mut again: Option<i64> = None;
        for item in items {
            match withheld.contains(&*item.hub) {
                true => again = Some(again.map_or(item.changed, |again| again.min(item.changed))),
                false => hubs.entry(item.hub.clone()).or_default().push(item),
            }
        }
        let mut sources = self.sources.lock().await;
        self.report_refused(&mut sources, refused);
        let mut hubs = hubs.into_iter().peekable();
        let mut followed = true;
        while hubs.peek().is_some() {
            let mut count = 0;
            let some = std::iter::from_fn(|| {
                let hub = hubs.next_if(|_| count < MERGED_MAX)?;
                count += hub.1.len();
                Some(hub)
            });
            followed &= sources.follow(self.table.merge(some.collect()).await?);
        }
        if !followed {
            self.reload(&mut sources).await?;
        }
        self.publish(&mut sources);
        self.tell_metadata().await?;
        Ok(again)
    }

    /// Counts them, and logs each once.
    fn report_refused(&self, sources: &mut Sources, refused: Vec<Refused>) {
        self.refused.fetch_add(refused.len() as u64, Ordering::Relaxed);
        if sources.refused.len() + refused.len() > REFUSED_MAX {
            sources.refused.clear();
        }
        for refused in refused {
            let Refused { hub, row, reason, .. } = &refused;
            if !sources.refused.contains(&refused) {
                error!(%hub, %row, %reason, "What another node has can't be used: of a resource the hub stays as it was, of metadata the channel.");
                sources.refused.insert(refused);
            }
        }
    }

    /// How often a resource of another node could not be used.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Looks at the file and the database for ever: for a change by hand, by another process, or whose notice was lost.
    pub async fn watch(&self) {
        self.leave_absent_hubs(&mut *self.sources.lock().await).await;
        tokio::join!(self.watch_file(), self.watch_database());
    }

    async fn watch_file(&self) {
        let Some(path) = &self.options.file else { return };
        let mut watched = Watched::new(path);
        let mut ticks = ticks(self.options.file_interval);
        loop {
            ticks.tick().await;
            self.check_file(&mut watched).await;
        }
    }

    async fn check_file(&self, watched: &mut Watched) {
        match watched.poll().await {
            None => {}
            Some(Ok(entries)) => {
                let mut sources = self.sources.lock().await;
                sources.file = entries;
                self.merge_managed(&mut sources, Word::Own).await;
                self.install(&sources);
            }
            Some(Err(problems)) => error!(
                problems = %list(&problems),
                "The new version of the file of hubs can't be used: the last good one stays in force."
            ),
        }
    }

    async fn watch_database(&self) {
        let mut ticks = ticks(self.options.database_interval);
        loop {
            ticks.tick().await;
            if let Err(error) = self.check_database().await {
                error!(%error, "The database of settings can't be read: what was read last stays in force.");
            }
        }
    }

    async fn check_database(&self) -> sqlx::Result<()> {
        let mut sources = self.sources.lock().await;
        if sources.seen != Some(self.table.revision().await?) {
            self.reload(&mut sources).await?;
            self.publish(&mut sources);
        }
        self.tell_metadata().await
    }

    /// After a write: takes over what it did if nobody else has written, because reading everything takes long.
    async fn follow(&self, sources: &mut Sources, change: Change<Changes>) -> sqlx::Result<()> {
        if !sources.follow(change) {
            self.reload(sources).await?;
        }
        self.publish(sources);
        self.tell_metadata().await
    }

    async fn reload(&self, sources: &mut Sources) -> sqlx::Result<()> {
        sources.take(self.table.list().await?);
        self.tell_metadata().await
    }

    /// Puts into force what the sources say now.
    fn publish(&self, sources: &mut Sources) {
        sources.merge();
        self.install(sources);
    }

    /// Puts into force what was put together.
    fn install(&self, sources: &Sources) {
        let previous = self.current();
        let compiled = Arc::new(sources.snapshot.compile(Some(&previous)));
        if compiled.revision == previous.revision {
            return;
        }
        report(&compiled, &previous);
        self.current.store(compiled.clone());
        self.changes.send_replace(compiled);
    }
}

/// The auth provider of a hub that is made for a client.
fn asked_at(template: &str, hub: &str) -> AuthProviderSpec {
    let subject = subject::of_hub(template, hub);
    let nats = NatsProviderSpec { subject, headers: BTreeMap::new(), timeout_ms: None };
    AuthProviderSpec { nats: Some(Box::new(nats)), ..AuthProviderSpec::default() }
}

fn ticks(period: Duration) -> tokio::time::Interval {
    let mut ticks = interval(period.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

fn report(compiled: &Compiled, previous: &Compiled) {
    let changed = compiled.changed(previous);
    info!(revision = %compiled.revision, hubs = compiled.hubs.len(), changed = changed.len(), "Settings are in force.");
    for (hub, problems) in &compiled.problems {
        if previous.problems.get(hub) != Some(problems) {
            warn!(%hub, problems = %list(problems), "Some settings of the hub can't be used as they are.");
        }
    }
}

#[cfg(test)]
mod tests;
