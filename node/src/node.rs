//! The composition root: the only place that knows which concrete parts a node is made of.

use std::{
    net::{SocketAddr, TcpListener},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use anyhow::Context;
use appsockets_core::{
    cluster::view::NodeId,
    code::ErrorCode,
    session::{self, DRAIN_GRACE_MS},
    shard::{self, history::HistoryBounds},
};
use futures_util::future::join_all;
use tokio::runtime;

use crate::{
    admin::{Admin, Listeners, Server},
    auth::Authenticator,
    cluster::Cluster,
    config::Config,
    edge::{self, Connections, Worker, WorkerHandle, clock},
    engine::{Engine, Handles, Hubs, Mail, Shared, Ticket, meters::Meters},
    http::{self, Problem},
    nats::Nats,
    operator, secret,
    settings::{self, Settings, handed::Kept},
    store::{self, MessageStore},
    tls::Tls,
};

/// Why a node no longer serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It was asked to.
    Stopped,
    /// It has met an older cluster, which only a new node can join.
    Dissolved,
}

/// A node that serves.
pub struct Node {
    shared: Arc<Shared>,
    admin: Admin,
    listeners: Listeners,
    operator: Option<operator::Port>,
    tls: Vec<Arc<Tls>>,
    workers: Vec<Worker<Ticket, Mail>>,
    connections: Arc<Connections>,
    drain_ms: u32,
    hub_close_ms: u64,
    retention_days: u32,
    address: SocketAddr,
}

impl Node {
    /// Opens the stores, reads the settings and begins to serve. `hubs` is a file of resources.
    pub async fn start(mut config: Config, hubs: Option<PathBuf>) -> anyhow::Result<Node> {
        let (cluster, options) = Cluster::bind(&config)?.unzip();
        std::fs::create_dir_all(&config.data)
            .with_context(|| format!("the folder {} can't be made", config.data.display()))?;
        let derived = config.auth.session_secret.is_empty() && cluster.is_some();
        if config.auth.session_secret.is_empty() && !derived {
            config.auth.session_secret = secret::read_or_make(&config.data, secret::SESSION)?.into();
        }
        if config.admin.token.is_empty() && config.admin.listen.is_some() {
            config.admin.token = secret::read_or_make(&config.data, secret::ADMIN)?.into();
            tracing::info!(file = %config.data.join(secret::ADMIN).display(), "The admin token is in this file.");
        }
        let secrets = secret::Shared {
            session: config.auth.session_secret.clone(),
            membership: config.cluster.membership.secret_key.clone(),
            rpc: config.cluster.rpc.secret_key.clone(),
            admin: config.admin.token.clone(),
            nats: config.nats.url.clone(),
            session_of: derived.then(|| config.cluster.name.clone()),
        };
        secrets.derive();
        if config.workers == 0 {
            config.workers = std::thread::available_parallelism().map_or(1, |cores| cores.get().min(256) as u16);
        }
        let client_tls = Tls::load("tls", &config.tls)?;
        let admin_tls = Tls::load("admin.tls", &config.admin.tls)?;
        let database = store::open(&config.data).await?;
        let node = cluster.as_ref().map_or(0, |cluster| cluster.me.node);
        let settings = Settings::open(settings_options(&config, hubs, node), database.writer().clone()).await?;
        let auth = Authenticator::new(config.auth.clone(), Nats::start(&config.nats).await?)?;
        let shared = Arc::new(shared(&config, settings, MessageStore::new(database), cluster, secrets, auth));
        let (address, listeners) =
            listen(config.listen, config.workers).with_context(|| format!("{} can't be listened on", config.listen))?;
        let connections = Connections::new(config.connection.max);
        let mut workers = Vec::new();
        for (index, listener) in listeners.into_iter().enumerate() {
            let shared = shared.clone();
            let start = move |worker: WorkerHandle<Ticket, Mail>| {
                (Engine::new(index as u16, shared.clone()), http::router(http::Node { shared, worker }))
            };
            let options = edge_options(&config, client_tls.clone());
            workers.push(edge::spawn(listener, options, connections.clone(), start)?);
        }
        shared.connect(workers.iter().map(|worker| worker.handle.clone()).collect());
        if let Some(options) = options {
            options.start(&config, &shared)?;
        }
        let tls: Vec<_> = client_tls.into_iter().chain(admin_tls.clone()).collect();
        let admin = Admin::new(&config.admin, &shared, &connections, tls.clone());
        let listeners = Listeners::start(&config, &admin, admin_tls).await?;
        let operator = operator::Port::start(&config.operator, &shared).await?;
        Ok(Node {
            shared,
            admin,
            listeners,
            operator,
            tls,
            workers,
            connections,
            drain_ms: config.engine.drain_ms,
            hub_close_ms: config.hub.close_timeout_ms,
            retention_days: config.storage.message_retention_days,
            address,
        })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where administrators connect.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        self.listeners.admin.as_ref().map(Server::address)
    }

    /// Where what watches the node connects, if that is another address.
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.listeners.metrics.as_ref().map(Server::address)
    }

    /// Where the operator connects.
    pub fn operator_address(&self) -> Option<SocketAddr> {
        self.operator.as_ref().map(operator::Port::address)
    }

    /// Serves until `stop` comes, and then until the sessions are gone or their time is up. Fails if a part of the node
    /// has ended that must not.
    pub async fn serve(self, stop: impl Future<Output = ()>) -> anyhow::Result<End> {
        let end = tokio::select! {
            () = stop => End::Stopped,
            () = self.admin.stop_asked() => End::Stopped,
            () = self.dissolved() => End::Dissolved,
            error = self.watch_workers() => return Err(error),
            () = self.take_settings() => anyhow::bail!("the settings are no longer watched"),
            () = self.close_hubs() => anyhow::bail!("hubs are no longer closed"),
            () = self.watch_certificates(), if !self.tls.is_empty() => anyhow::bail!("certificates are no longer watched"),
            () = self.shared.secrets.watch(&self.shared.settings) => anyhow::bail!("secrets are no longer watched"),
            () = self.remove_old_messages(), if self.retention_days > 0 => anyhow::bail!("old messages stay"),
        };
        if end == End::Stopped {
            self.leave().await;
            self.drain().await;
        }
        self.end().await;
        Ok(end)
    }

    /// Waits until this node's part in its cluster has ended by itself.
    async fn dissolved(&self) {
        match &self.shared.cluster {
            Some(cluster) => cluster.dissolved().await,
            None => std::future::pending().await,
        }
    }

    /// Gives its channels to the other nodes, as far as there are any.
    async fn leave(&self) {
        let Some(cluster) = &self.shared.cluster else { return };
        self.admin.drain();
        tracing::info!("giving the channels to other nodes");
        if tokio::time::timeout(LEAVE_PATIENCE, cluster.leave()).await.is_err() {
            tracing::warn!("not all channels were taken over in time");
        }
    }

    /// A worker that has ended leaves connections without anybody behind them.
    async fn watch_workers(&self) -> anyhow::Error {
        while !self.workers.iter().any(Worker::is_finished) {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        anyhow::anyhow!("a worker has ended: the log says why")
    }

    /// Takes settings to the workers as they change.
    async fn take_settings(&self) {
        let mut changes = self.shared.settings.subscribe();
        let tell = async {
            while changes.changed().await.is_ok() {
                self.shared.post_all(|| Mail::Settings).await;
            }
        };
        tokio::select! {
            () = tell => {}
            () = self.shared.settings.watch() => {}
        }
    }

    /// Replaces certificates as their files change.
    async fn watch_certificates(&self) {
        join_all(self.tls.iter().map(|tls| tls.watch())).await;
    }

    /// Closes hubs that nobody uses.
    async fn close_hubs(&self) {
        loop {
            tokio::time::sleep(Duration::from_secs(1)).await;
            for hub in self.shared.hubs.close_unused(clock::now(), self.hub_close_ms) {
                self.shared.auth.forget(&hub);
            }
        }
    }

    /// Removes stored messages that are older than they may get, in steps so small that appends hardly wait.
    async fn remove_old_messages(&self) {
        const STEP_ROWS: u32 = 2_000;
        const PAUSE: Duration = Duration::from_secs(60);
        let age_ms = u64::from(self.retention_days) * 24 * 3600 * 1000;
        loop {
            let before_ms = clock::now().unix_ms.saturating_sub(age_ms);
            match self.shared.store.purge(before_ms, STEP_ROWS).await {
                Ok(removed) if removed == u64::from(STEP_ROWS) => tokio::task::yield_now().await,
                Ok(_) => tokio::time::sleep(PAUSE).await,
                Err(error) => {
                    tracing::warn!(%error, "old messages were not removed");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }

    /// Tells every session to connect elsewhere at a moment of its own, and waits for them to go.
    async fn drain(&self) {
        let spread_ms = self.drain_ms;
        self.admin.drain();
        self.workers.iter().for_each(|worker| worker.handle.drain());
        if self.connections.open() > 0 {
            tracing::info!(connections = self.connections.open(), spread_ms, "telling sessions to connect elsewhere");
            self.shared.post_all(|| Mail::Drain { spread_ms }).await;
            let patience = Duration::from_millis(u64::from(spread_ms) + DRAIN_GRACE_MS);
            let _ = tokio::time::timeout(patience, self.until_empty()).await;
        }
    }

    /// Ends what is still there. Other nodes learn at once that this one is gone, and where its sessions were.
    async fn end(self) {
        self.workers.iter().for_each(|worker| worker.handle.drain());
        self.shared.post_all(|| Mail::End).await;
        let _ = tokio::time::timeout(Duration::from_secs(1), self.until_empty()).await;
        if let Some(cluster) = &self.shared.cluster {
            cluster.end().await;
        }
        self.workers.iter().for_each(|worker| worker.handle.stop());
        self.shared.store.close().await;
    }

    async fn until_empty(&self) {
        while self.connections.open() > 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// How long other nodes are given to take over the channels of one that stops.
const LEAVE_PATIENCE: Duration = Duration::from_secs(20);

/// A listener for each worker, on one address; port 0 becomes a free port.
fn listen(address: SocketAddr, workers: u16) -> std::io::Result<(SocketAddr, Vec<TcpListener>)> {
    let first = edge::listen(address)?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..workers {
        listeners.push(edge::listen(address)?);
    }
    Ok((address, listeners))
}

fn settings_options(config: &Config, hubs: Option<PathBuf>, node: u64) -> settings::Options {
    settings::Options {
        file: hubs,
        file_interval: Duration::from_millis(config.engine.hubs_file_interval_ms),
        database_interval: Duration::from_millis(config.engine.settings_interval_ms),
        dynamic: config.engine.allow_dynamic_hubs.then(|| config.engine.dynamic_hub.clone()),
        dynamic_auth_subject: config.engine.dynamic_hub_auth_subject.clone(),
        dynamic_hubs_max: config.engine.dynamic_hubs_max,
        node,
        operator: config.operator.listen.map(|_| Kept::new(&config.data, &config.cluster.membership.secret_key)),
        ..settings::Options::default()
    }
}

fn shared(
    config: &Config,
    settings: Settings,
    store: MessageStore,
    cluster: Option<Cluster>,
    secrets: secret::Shared,
    auth: Authenticator,
) -> Shared {
    let me = cluster.as_ref().map(|cluster| cluster.me);
    Shared {
        session: session_config(config),
        shard: shard_config(config, me),
        outbox_bytes_max: config.connection.ws.msg_send_buffer_size,
        history_page_max: config.channel.history_page_size,
        restore_window_ms: config.session.restore_window_ms,
        parked_max: config.session.restorable_max,
        settings: Arc::new(settings),
        auth,
        store,
        hubs: Hubs::default(),
        meters: Meters::new(usize::from(config.workers)),
        runtime: runtime::Handle::current(),
        workers: config.workers,
        page: config.page,
        secrets,
        handles: Handles::default(),
        cluster,
    }
}

fn session_config(config: &Config) -> session::Config {
    session::Config {
        ping_interval_ms: config.connection.ws.ping_interval_ms,
        pong_timeout_ms: config.connection.ws.pong_interval_ms,
        auth_timeout_ms: config.hub.authenticate_request_timeout_ms,
        messages_per_second: config.session.rate_limit,
        channels_max: config.session.channels_max,
        pending_max: config.session.pending_requests_max,
        message_bytes_max: config.session.message_bytes_max,
        unreadable_max: config.session.unreadable_messages_max,
    }
}

/// Messages of a channel that are kept beyond its live history while another node may lack them.
const UNSEEN_MAX: usize = 1_000;
/// How long a request waits for a channel's owner before it is refused, in milliseconds.
const HOLD_MS: u64 = 10_000;
/// Publishes to one channel that wait for its owner.
const HELD_MAX: usize = 4_096;

/// Few enough that what is asked meanwhile hardly waits for the end of the turn.
const COPYING_MAX: usize = 256;

/// Of all shards; each has its own index, count and seed.
fn shard_config(config: &Config, me: Option<NodeId>) -> shard::Config {
    let channel = &config.channel;
    // One node in a view of its own needs no name; its generations tell its epochs apart.
    let NodeId { node, generation } = me.unwrap_or(NodeId { node: 0, generation: clock::now().unix_ms });
    shard::Config {
        node,
        generation,
        index: 0,
        count: 1,
        seed: 0,
        history: HistoryBounds {
            messages_max: if channel.enable_live_history { channel.max_live_history_size } else { 0 },
            bytes_max: channel.live_history_bytes_max,
            unseen_max: UNSEEN_MAX,
        },
        retain_ms: channel.retain_msg_duration_ms,
        close_ms: channel.close_timeout_ms,
        occupancy_ms: channel.occupancy_interval_ms,
        hold_ms: HOLD_MS,
        restore_ms: config.session.restore_window_ms,
        waiting_max: channel.waiting_publishes_max,
        held_max: HELD_MAX.max(channel.waiting_publishes_max),
        channels_max: channel.open_max,
        copying_max: COPYING_MAX,
    }
}

fn edge_options(config: &Config, tls: Option<Arc<Tls>>) -> edge::Options {
    edge::Options {
        message_bytes_max: config.session.message_bytes_max,
        outbox_bytes_max: config.connection.ws.msg_send_buffer_size,
        sse_outbox_bytes_max: config.connection.sse.msg_buffer_size,
        header_timeout_ms: config.connection.header_timeout_ms,
        write_timeout_ms: config.connection.write_timeout_ms,
        handshakes_max: config.connection.handshakes_max,
        tls,
        full: Problem::from(ErrorCode::NodeFull).turn_away().into(),
        ..edge::Options::default()
    }
}
