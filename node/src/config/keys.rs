//! Every key that an administrator may set. Times are milliseconds, sizes are bytes.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use appsockets_core::settings::resource::HubSpec;

use super::section::section;
use crate::{auth::AuthConfig, nats::NatsConfig, secret::Secret, store::PAGE_ROWS_MAX};

/// Times are added to the clock, which must not overflow: some hundred years, which is as good as never.
const TIMES: RangeInclusive<u64> = 0..=4_000_000_000_000;
const INTERVALS: RangeInclusive<u64> = 1..=*TIMES.end();
const POSITIVE: RangeInclusive<u64> = 1..=u64::MAX;
const PAGE: RangeInclusive<u64> = 1..=PAGE_ROWS_MAX as u64;
/// The shortest token of administrators, in bytes.
const TOKEN_BYTES: RangeInclusive<u64> = 16..=u64::MAX;

section! {
    /// The configuration of a node.
    pub struct Config {
        /// Where clients connect.
        pub listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8080));
        /// The folder of the database and of generated secrets.
        pub data: PathBuf = "data".into();
        /// Threads that hold connections; 0: one for each core.
        pub workers: u16 = 0;
        /// Whether `/` shows a page to try things with.
        pub page: bool = false;
        /// TLS for clients.
        pub tls: TlsConfig = TlsConfig::default();
        /// What is of no other part.
        pub engine: EngineConfig = EngineConfig::default();
        /// Hubs.
        pub hub: HubConfig = HubConfig::default();
        /// Sessions.
        pub session: SessionConfig = SessionConfig::default();
        /// Channels.
        pub channel: ChannelConfig = ChannelConfig::default();
        /// Connections.
        pub connection: ConnectionConfig = ConnectionConfig::default();
        /// What is stored.
        pub storage: StorageConfig = StorageConfig::default();
        /// Who somebody is.
        pub auth: AuthConfig = AuthConfig::default();
        /// NATS, over which auth providers are asked.
        pub nats: NatsConfig = NatsConfig::default();
        /// Administration.
        pub admin: AdminConfig = AdminConfig::default();
        /// What watches the node.
        pub metrics: MetricsConfig = MetricsConfig::default();
        /// What the node says of itself.
        pub debug: DebugConfig = DebugConfig::default();
        /// The nodes that share the channels.
        pub cluster: ClusterConfig = ClusterConfig::default();
        /// How a node finds the first others of its cluster; from them it learns of all.
        pub discovery: DiscoveryConfig = DiscoveryConfig::default();
        /// The operator that hands over what custom resources say.
        pub operator: OperatorConfig = OperatorConfig::default();
    }
}

section! {
    /// The certificate that a listener shows. Both files are looked at every second.
    pub struct TlsConfig {
        /// A PEM file: the certificate, and those between it and its root. With it, the listener speaks TLS and nothing
        /// else.
        pub certificate: Option<PathBuf> = None;
        /// A PEM file: the private key of the certificate.
        pub key: Option<PathBuf> = None;
    }
}

section! {
    /// What is of no other part.
    pub struct EngineConfig {
        /// Whether a client that names an unknown hub gets one made.
        pub allow_dynamic_hubs: bool = false;
        /// What such a hub is made with.
        pub dynamic_hub: HubSpec = HubSpec::default();
        /// Where the auth provider of such a hub is asked over NATS, as `appsockets.auth.{hub}`: `{hub}`, which stands
        /// alone between dots, becomes the hub's name, and all in it but letters and digits of ASCII, `-` and `_` is
        /// escaped as in URLs. null: such a hub gets no auth provider.
        pub dynamic_hub_auth_subject: Option<String> = None;
        /// How many hubs may be made in that way.
        pub dynamic_hubs_max: usize = 1_000;
        /// How often the file of resources is looked at.
        pub hubs_file_interval_ms: u64 = 1_000, in TIMES;
        /// How often the database is looked at for settings that another process changed, and nodes whose settings differ.
        pub settings_interval_ms: u64 = 5_000, in TIMES;
        /// How long sessions are given to connect elsewhere when the node stops; each is told a moment within it.
        pub drain_ms: u32 = 10_000;
    }
}

section! {
    /// Bounds of hubs.
    pub struct HubConfig {
        /// How long a hub that nobody uses is kept open.
        pub close_timeout_ms: u64 = 60_000, in TIMES;
        /// How long a session may take to authenticate where it must.
        pub authenticate_request_timeout_ms: u64 = 10_000, in TIMES;
    }
}

section! {
    /// Bounds of sessions.
    pub struct SessionConfig {
        /// Messages per second of one session; heartbeats do not count.
        pub rate_limit: u32 = 100, in POSITIVE;
        /// The largest message of a client.
        pub message_bytes_max: u32 = 64 << 10, in POSITIVE;
        /// Channels that one session may be subscribed to.
        pub channels_max: u32 = 1_000;
        /// Subscribe requests of one session that wait for an answer, and as many for pages of history.
        pub pending_requests_max: usize = 64, in POSITIVE;
        /// Messages in a row that can't be read, after which a session ends.
        pub unreadable_messages_max: u8 = 10;
        /// How long a session whose connection broke is kept.
        pub restore_window_ms: u64 = 5_000, in TIMES;
        /// How many sessions without a connection each worker keeps.
        pub restorable_max: usize = 100_000;
    }
}

section! {
    /// Bounds of channels, and what each keeps.
    pub struct ChannelConfig {
        /// Messages in a page of history, unless the client asks for fewer.
        pub history_page_size: u32 = 100, in PAGE;
        /// Whether the last messages of a channel are kept in memory.
        pub enable_live_history: bool = true;
        /// How many messages of a channel are kept in memory.
        pub max_live_history_size: usize = 100;
        /// How many bytes they may have together.
        pub live_history_bytes_max: usize = 1 << 20;
        /// How long a retained message is kept.
        pub retain_msg_duration_ms: u64 = 24 * 3600 * 1000, in TIMES;
        /// How long a channel that nobody uses stays open.
        pub close_timeout_ms: u64 = 60_000, in TIMES;
        /// The shortest time between two occupancy counts of a channel.
        pub occupancy_interval_ms: u64 = 1_000, in TIMES;
        /// Publishes of one channel that wait for the store.
        pub waiting_publishes_max: usize = 1_000, in POSITIVE;
        /// Open channels of each worker.
        pub open_max: usize = 2_000_000, in POSITIVE;
    }
}

section! {
    /// Bounds of connections.
    pub struct ConnectionConfig {
        /// Connections of the node, of any kind.
        pub max: usize = 1_000_000, in POSITIVE;
        /// From accepting a connection to the last byte of a request's header; for a TLS handshake, as long again.
        pub header_timeout_ms: u64 = 10_000, in TIMES;
        /// TLS handshakes that each worker has under way; who comes meanwhile waits before the first byte.
        pub handshakes_max: u32 = 1_000, in POSITIVE;
        /// How long a client may take nothing while something waits for it.
        pub write_timeout_ms: u64 = 20_000, in TIMES;
        /// Clients that listen by SSE.
        pub sse: SseConfig = SseConfig::default();
        /// Clients that speak WebSocket.
        pub ws: WsConfig = WsConfig::default();
    }
}

section! {
    /// Clients that listen by SSE.
    pub struct SseConfig {
        /// What may wait for one client that listens by SSE.
        pub msg_buffer_size: usize = 256 << 10;
    }
}

section! {
    /// Clients that speak WebSocket.
    pub struct WsConfig {
        /// What may wait for one client that speaks WebSocket.
        pub msg_send_buffer_size: usize = 256 << 10;
        /// Silence of a client after which it is pinged.
        pub ping_interval_ms: u64 = 25_000, in INTERVALS;
        /// Silence after a ping that ends the session.
        pub pong_interval_ms: u64 = 10_000, in INTERVALS;
    }
}

section! {
    /// What is stored.
    pub struct StorageConfig {
        /// Days after which stored messages are removed; 0: never.
        pub message_retention_days: u32 = 0;
    }
}

section! {
    /// The listener for administrators.
    pub struct AdminConfig {
        /// Where administrators connect; null: nowhere.
        pub listen: Option<SocketAddr> = Some(SocketAddr::from(([127, 0, 0, 1], 8081)));
        /// What administrators show. Empty: made once, and kept in the data folder as `admin.token`.
        pub token: Secret = Secret::default(), in TOKEN_BYTES;
        /// Hubs that have a figure of their own in the metrics; the others are summed.
        pub metric_hubs_max: usize = 100;
        /// TLS for administrators.
        pub tls: TlsConfig = TlsConfig::default();
    }
}

section! {
    /// The listener for what watches the node.
    pub struct MetricsConfig {
        /// Where `/metrics`, `/healthz` and `/readyz` are served, over plain HTTP and without a token, as they are
        /// where administrators connect; null: only there.
        pub listen: Option<SocketAddr> = None;
    }
}

section! {
    /// What the node says of itself.
    pub struct DebugConfig {
        /// What is logged: `error`, `warn`, `info`, `debug` or `trace`, and each is said of a part of the program alone when
        /// that is named before it, as in `warn,appsockets_node::cluster=debug`.
        pub level: String = "info".into();
    }
}

section! {
    /// The nodes that share the channels.
    pub struct ClusterConfig {
        /// Where other nodes reach this one: TCP for messages, UDP for gossip, on the same port. null: this node is alone.
        pub listen: Option<SocketAddr> = None;
        /// The address that others are told, where it differs from `listen`.
        pub advertise: Option<SocketAddr> = None;
        /// What the cluster is called; nodes of another name are ignored.
        pub name: String = "appsockets".into();
        /// This node's number, which no other node of the cluster has, and which it keeps when it restarts. 0: one more
        /// than the number at the end of the host's name.
        pub node: u64 = 0;
        /// What is added to the number that is taken of the host's name, so that two StatefulSets can be one cluster.
        pub node_offset: u64 = 0;
        /// Whether this node takes its share of the channels. One that does not, an edge node, only holds connections.
        pub core: bool = true;
        /// How many core nodes a new cluster is meant to have. It begins when more than half of them have met.
        pub expected_core_nodes: usize = 1, in POSITIVE;
        /// The share of the channels that this node takes, beside the others' shares.
        pub points: u16 = 128, in POSITIVE;
        /// In how many steps a node takes its share, or gives it away. Each step concerns all channels for a moment, so
        /// more than one only spreads what has to be moved where channels are large.
        pub steps: u16 = 1, in POSITIVE;
        /// Who may be a member.
        pub membership: MembershipConfig = MembershipConfig::default();
        /// Calls between nodes.
        pub rpc: RpcConfig = RpcConfig::default();
    }
}

section! {
    /// Who may be a member.
    pub struct MembershipConfig {
        /// Encrypts gossip. All nodes of a cluster have the same.
        pub secret_key: Secret = Secret::default(), in TOKEN_BYTES;
    }
}

section! {
    /// Calls between nodes.
    pub struct RpcConfig {
        /// What nodes show each other. All nodes of a cluster have the same.
        pub secret_key: Secret = Secret::default(), in TOKEN_BYTES;
    }
}

section! {
    /// How a node finds the first others of its cluster; from them it learns of all.
    pub struct DiscoveryConfig {
        /// Addresses of nodes, `host:port`. Names are looked up every second, and each address of a name counts, as
        /// those of a headless service of Kubernetes.
        pub seeds: Vec<String> = Vec::new();
        /// Where this node makes itself known to those of its own network, as `255.255.255.255:7946`; null: nowhere.
        pub broadcast: Option<SocketAddr> = None;
    }
}

section! {
    /// The operator that hands over what custom resources say.
    pub struct OperatorConfig {
        /// Where the operator reaches this node; null: there is none. With it, the node is not ready before it has been
        /// told what to serve, by the operator or another node; if nobody speaks, what it was told before its last
        /// restart counts after five seconds.
        pub listen: Option<SocketAddr> = None;
        /// A PEM file: the certificate that this node shows to the operator.
        pub certificate: Option<PathBuf> = None;
        /// A PEM file: the private key of the certificate.
        pub key: Option<PathBuf> = None;
        /// A PEM file: the certificate of the authority that has signed the operator's, for clients.
        pub authority: Option<PathBuf> = None;
    }
}

impl Config {
    /// Where administrators connect. Of nodes on free ports there may be several on this machine, so the usual port
    /// becomes a free one as well.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        let usual = AdminConfig::default().listen;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        if self.listen.port() == 0 && self.admin.listen == usual { Some(free) } else { self.admin.listen }
    }
}
