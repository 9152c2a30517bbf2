//! What all workers of a node share.

use std::sync::{Arc, OnceLock};

use appsockets_core::{
    channel::ChannelKey,
    code::ErrorCode,
    identity::Identity,
    serial::Serial,
    session::{
        self,
        event::HistoryPage,
        request::{Credentials, HistoryBound, SubscribeInfo},
    },
    settings::hub::Hub,
    shard,
};
use tokio::{runtime, task::JoinHandle, time};

use super::{Hubs, Mail, Seat, last_event_id::Resume, meters::Meters};
use crate::{
    auth::Authenticator,
    cluster::Cluster,
    edge::{MailError, WorkerHandle},
    secret,
    settings::Settings,
    store::{MessageStore, StoreError},
};

/// What comes with a connection that has been let in.
#[derive(Debug)]
pub struct Ticket {
    pub hub: Arc<Hub>,
    pub seat: Seat,
    pub identity: Option<Arc<Identity>>,
    /// To be subscribed to at once.
    pub channels: Vec<SubscribeInfo>,
    /// The session that an SSE client had.
    pub restore: Option<Resume>,
}

/// Everything of a node that its workers use together.
pub struct Shared {
    pub session: session::Config,
    /// But for what differs from shard to shard.
    pub shard: shard::Config,
    /// What may wait for one client before histories of channels are left out, in bytes.
    pub outbox_bytes_max: usize,
    /// Messages in a page of history.
    pub history_page_max: u32,
    /// How long a session whose connection broke is kept, in milliseconds.
    pub restore_window_ms: u64,
    /// How many such sessions one worker keeps.
    pub parked_max: usize,
    pub settings: Arc<Settings>,
    pub secrets: secret::Shared,
    pub auth: Authenticator,
    pub store: MessageStore,
    pub hubs: Hubs,
    pub meters: Meters,
    /// For what has to wait.
    pub runtime: runtime::Handle,
    pub workers: u16,
    /// Whether `/` is a page to try things with.
    pub page: bool,
    pub handles: Handles,
    /// None if this node is alone.
    pub cluster: Option<Cluster>,
}

/// The workers, once they have been started.
#[derive(Default)]
pub struct Handles(OnceLock<Vec<WorkerHandle<Ticket, Mail>>>);

impl Shared {
    pub fn workers(&self) -> usize {
        usize::from(self.workers)
    }

    /// The worker whose shard has the channel.
    pub fn worker_of(&self, key: &ChannelKey) -> u16 {
        (key.point() % u64::from(self.workers)) as u16
    }

    pub fn shard_config(&self, worker: u16, seed: u64) -> shard::Config {
        shard::Config { index: u64::from(worker), count: u64::from(self.workers), seed, ..self.shard }
    }

    /// Makes the workers known to each other. Mail before that is refused as if the worker were gone.
    pub fn connect(&self, handles: Vec<WorkerHandle<Ticket, Mail>>) {
        // Called once, by the one who has started the workers.
        let _ = self.handles.0.set(handles);
    }

    pub fn mail(&self, worker: u16, mail: Mail) -> Result<(), MailError<Mail>> {
        match self.handles.0.get().and_then(|handles| handles.get(usize::from(worker))) {
            Some(handle) => handle.mail(mail),
            None => Err(MailError::Gone(mail)),
        }
    }

    /// Whether all workers have been started and none has ended.
    pub fn workers_run(&self) -> bool {
        self.handles.0.get().is_some_and(|handles| handles.iter().all(WorkerHandle::is_running))
    }

    /// Sends mail that may wait until there is room for it.
    pub async fn post(&self, worker: u16, mail: Mail) {
        const RETRY: time::Duration = time::Duration::from_millis(2);
        let mut mail = mail;
        while let Err(MailError::Full(back)) = self.mail(worker, mail) {
            mail = back;
            time::sleep(RETRY).await;
        }
    }

    /// Sends the same to every worker.
    pub async fn post_all(&self, mail: impl Fn() -> Mail) {
        for worker in 0..self.workers {
            self.post(worker, mail()).await;
        }
    }

    /// How many messages a page holds for one who asks for so many.
    pub fn page_limit(&self, wanted: Option<u32>) -> u32 {
        wanted.unwrap_or(self.history_page_max).clamp(1, self.history_page_max)
    }

    /// Reads a page of history, on the runtime for what has to wait. The outer error is a panic there.
    pub fn read_history(
        self: &Arc<Self>,
        key: ChannelKey,
        bound: HistoryBound,
        limit: u32,
    ) -> JoinHandle<Result<HistoryPage, ErrorCode>> {
        let shared = self.clone();
        self.runtime.spawn(async move {
            shared.page(&key, bound, limit).await.map_err(|error| {
                let code = ErrorCode::from(&error);
                match code {
                    ErrorCode::BadSerial => tracing::debug!(hub = &*key.hub, %error, "no such place in the history"),
                    _ => tracing::warn!(channel = &*key.channel, hub = &*key.hub, %error, "history was not read"),
                }
                code
            })
        })
    }

    async fn page(&self, key: &ChannelKey, bound: HistoryBound, limit: u32) -> Result<HistoryPage, StoreError> {
        let page = self.store.page(key, bound, limit).await;
        match bound {
            // An epoch of this process of which nothing was stored is newer than all that is stored.
            HistoryBound::BeforeSerial(serial) if unknown(&page) && self.is_own(serial) => {
                self.store.page(key, HistoryBound::Newest, limit).await
            }
            HistoryBound::AfterSerial(serial) if unknown(&page) && self.is_own(serial) => {
                Ok(HistoryPage { messages: Vec::new(), more: false })
            }
            _ => page,
        }
    }

    fn is_own(&self, serial: Serial) -> bool {
        (serial.epoch.node, serial.epoch.generation) == (self.shard.node, self.shard.generation)
    }

    /// Who shows these credentials.
    pub async fn identify(
        &self,
        hub: &Hub,
        session_id: &str,
        credentials: &Credentials,
    ) -> Result<Arc<Identity>, ErrorCode> {
        let outcome = self.auth.authenticate(hub, session_id, credentials).await;
        self.meters.count_auth(outcome.as_ref().err().map(|error| error.code));
        let identity = outcome.map_err(|error| {
            tracing::info!(hub = &*hub.id, code = error.code.name(), detail = error.detail, "not authenticated");
            error.code
        })?;
        Ok(Arc::new(identity))
    }

    /// The same, with a token for the HTTP interface.
    pub async fn authenticate(
        &self,
        hub: &Hub,
        session_id: &str,
        credentials: &Credentials,
    ) -> Result<(Arc<Identity>, Arc<str>), ErrorCode> {
        let identity = self.identify(hub, session_id, credentials).await?;
        let now = crate::edge::clock::now();
        let token = self.auth.issue(&hub.id, session_id, &identity, now.unix_ms).map_err(|error| {
            tracing::error!(hub = &*hub.id, %error, "no token could be made");
            error.code
        })?;
        Ok((identity, token))
    }
}

fn unknown(page: &Result<HistoryPage, StoreError>) -> bool {
    matches!(page, Err(StoreError::UnknownEpoch))
}
