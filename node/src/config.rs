//! What an administrator configures. Everything has a default; an unknown key is refused with its place in the file.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::Context;
use appsockets_core::settings::resource::HubSpec;
use serde::Deserialize;

use crate::auth::{AuthConfig, Secret};

/// The longest time that can be configured: some hundred years, which is as good as never.
const TIME_MS_MAX: u64 = 4_000_000_000_000;

/// The configuration of a node. Times are milliseconds, sizes are bytes.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where the node keeps its database and its generated secret.
    pub data: PathBuf,
    /// Threads that hold connections; 0: one for each core.
    pub workers: u16,
    /// Whether `/` shows a page to try things with.
    pub page: bool,
    pub engine: EngineConfig,
    pub hub: HubConfig,
    pub session: SessionConfig,
    pub channel: ChannelConfig,
    pub connection: ConnectionConfig,
    pub storage: StorageConfig,
    pub auth: AuthConfig,
    pub admin: AdminConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct EngineConfig {
    /// Whether a client that names an unknown hub gets one made.
    pub allow_dynamic_hubs: bool,
    /// What such a hub is made with.
    pub dynamic_hub: HubSpec,
    /// How many such hubs there may be.
    pub dynamic_hubs_max: usize,
    /// How often the file of resources is looked at.
    pub hubs_file_interval_ms: u64,
    /// How often the database is looked at for settings that another process changed.
    pub settings_interval_ms: u64,
    /// How long sessions are given to connect elsewhere when the node stops; each is told a moment within it.
    pub drain_ms: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct HubConfig {
    /// How long a hub that nobody uses is kept open.
    pub close_timeout_ms: u64,
    /// How long a session may take to authenticate where it must.
    pub authenticate_request_timeout_ms: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SessionConfig {
    /// Messages per second of one session; heartbeats do not count.
    pub rate_limit: u32,
    /// The largest message of a client.
    pub message_bytes_max: u32,
    /// Channels that one session may be subscribed to.
    pub channels_max: u32,
    /// Subscribe requests of one session that wait for an answer.
    pub pending_requests_max: usize,
    /// Messages in a row that can't be read, after which a session ends.
    pub unreadable_messages_max: u8,
    /// How long a session whose connection broke is kept.
    pub restore_window_ms: u64,
    /// How many such sessions each worker keeps.
    pub restorable_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ChannelConfig {
    /// Messages in a page of history.
    pub history_page_size: u32,
    /// Whether the last messages of a channel are kept in memory.
    pub enable_live_history: bool,
    /// How many.
    pub max_live_history_size: usize,
    /// How many bytes of them, for one channel.
    pub live_history_bytes_max: usize,
    /// How long a retained message is kept.
    pub retain_msg_duration_ms: u64,
    /// How long a channel that nobody uses stays open.
    pub close_timeout_ms: u64,
    /// The shortest time between two occupancy counts.
    pub occupancy_interval_ms: u64,
    /// Publishes of one channel that wait for the store.
    pub waiting_publishes_max: usize,
    /// Open channels of each worker.
    pub open_max: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct ConnectionConfig {
    /// Connections of the node, of any kind.
    pub max: usize,
    /// From accepting a connection to the last byte of a request's header.
    pub header_timeout_ms: u64,
    /// How long a client may take nothing while something waits for it.
    pub write_timeout_ms: u64,
    pub sse: SseConfig,
    pub ws: WsConfig,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct SseConfig {
    /// What may wait for one client.
    pub msg_buffer_size: usize,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct WsConfig {
    /// What may wait for one client.
    pub msg_send_buffer_size: usize,
    /// Silence of a client after which it is pinged.
    pub ping_interval_ms: u64,
    /// Silence after a ping that ends the session.
    pub pong_interval_ms: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct StorageConfig {
    /// Days after which stored messages are removed; 0: never.
    pub message_retention_days: u32,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AdminConfig {
    /// Where administrators connect; None: nowhere.
    pub listen: Option<SocketAddr>,
    /// What they show. Empty: made once, and kept in the data folder.
    pub token: Secret,
    /// Hubs that have a figure of their own in the metrics; the others are summed.
    pub metric_hubs_max: usize,
}

impl Config {
    /// Reads a file; the error says where in it something is wrong.
    pub fn read(path: &Path) -> anyhow::Result<Config> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{} can't be read", path.display()))?;
        Config::parse(&text).with_context(|| format!("{} is not a valid configuration", path.display()))
    }

    pub fn parse(text: &str) -> anyhow::Result<Config> {
        let config: Config = if text.trim().is_empty() { Config::default() } else { serde_saphyr::from_str(text)? };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("session.rateLimit", u64::from(self.session.rate_limit)),
            ("session.messageBytesMax", u64::from(self.session.message_bytes_max)),
            ("session.pendingRequestsMax", self.session.pending_requests_max as u64),
            ("channel.historyPageSize", u64::from(self.channel.history_page_size)),
            ("channel.waitingPublishesMax", self.channel.waiting_publishes_max as u64),
            ("channel.openMax", self.channel.open_max as u64),
            ("connection.max", self.connection.max as u64),
            ("connection.ws.pingIntervalMs", self.connection.ws.ping_interval_ms),
            ("connection.ws.pongIntervalMs", self.connection.ws.pong_interval_ms),
        ];
        for (key, value) in positive {
            anyhow::ensure!(value > 0, "{key} must be greater than 0");
        }
        let token = self.admin.token.bytes().len();
        anyhow::ensure!(token == 0 || token >= 16, "admin.token must have at least 16 bytes");
        self.check_times()
    }

    /// Times are added to the clock, which must not overflow.
    fn check_times(&self) -> anyhow::Result<()> {
        let times = [
            ("engine.hubsFileIntervalMs", self.engine.hubs_file_interval_ms),
            ("engine.settingsIntervalMs", self.engine.settings_interval_ms),
            ("hub.closeTimeoutMs", self.hub.close_timeout_ms),
            ("hub.authenticateRequestTimeoutMs", self.hub.authenticate_request_timeout_ms),
            ("session.restoreWindowMs", self.session.restore_window_ms),
            ("channel.retainMsgDurationMs", self.channel.retain_msg_duration_ms),
            ("channel.closeTimeoutMs", self.channel.close_timeout_ms),
            ("channel.occupancyIntervalMs", self.channel.occupancy_interval_ms),
            ("connection.headerTimeoutMs", self.connection.header_timeout_ms),
            ("connection.writeTimeoutMs", self.connection.write_timeout_ms),
            ("connection.ws.pingIntervalMs", self.connection.ws.ping_interval_ms),
            ("connection.ws.pongIntervalMs", self.connection.ws.pong_interval_ms),
        ];
        for (key, value) in times {
            anyhow::ensure!(value <= TIME_MS_MAX, "{key} must be at most {TIME_MS_MAX}");
        }
        Ok(())
    }

    /// Where administrators connect. Of nodes on free ports there may be several on this machine, so the usual port
    /// becomes a free one as well.
    pub fn admin_address(&self) -> Option<SocketAddr> {
        let usual = AdminConfig::default().listen;
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        if self.listen.port() == 0 && self.admin.listen == usual { Some(free) } else { self.admin.listen }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            data: "data".into(),
            workers: 0,
            page: false,
            engine: EngineConfig::default(),
            hub: HubConfig::default(),
            session: SessionConfig::default(),
            channel: ChannelConfig::default(),
            connection: ConnectionConfig::default(),
            storage: StorageConfig::default(),
            auth: AuthConfig::default(),
            admin: AdminConfig::default(),
        }
    }
}

impl Default for AdminConfig {
    fn default() -> Self {
        AdminConfig {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 8081))),
            token: Secret::default(),
            metric_hubs_max: 100,
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        EngineConfig {
            allow_dynamic_hubs: false,
            dynamic_hub: HubSpec::default(),
            dynamic_hubs_max: 1_000,
            hubs_file_interval_ms: 1_000,
            settings_interval_ms: 5_000,
            drain_ms: 10_000,
        }
    }
}

impl Default for HubConfig {
    fn default() -> Self {
        HubConfig { close_timeout_ms: 60_000, authenticate_request_timeout_ms: 10_000 }
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        SessionConfig {
            rate_limit: 100,
            message_bytes_max: 64 << 10,
            channels_max: 1_000,
            pending_requests_max: 64,
            unreadable_messages_max: 10,
            restore_window_ms: 5_000,
            restorable_max: 100_000,
        }
    }
}

impl Default for ChannelConfig {
    fn default() -> Self {
        ChannelConfig {
            history_page_size: 100,
            enable_live_history: true,
            max_live_history_size: 100,
            live_history_bytes_max: 1 << 20,
            retain_msg_duration_ms: 24 * 3600 * 1000,
            close_timeout_ms: 60_000,
            occupancy_interval_ms: 1_000,
            waiting_publishes_max: 1_000,
            open_max: 2_000_000,
        }
    }
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        ConnectionConfig {
            max: 1_000_000,
            header_timeout_ms: 10_000,
            write_timeout_ms: 20_000,
            sse: SseConfig::default(),
            ws: WsConfig::default(),
        }
    }
}

impl Default for SseConfig {
    fn default() -> Self {
        SseConfig { msg_buffer_size: 256 << 10 }
    }
}

impl Default for WsConfig {
    fn default() -> Self {
        WsConfig { msg_send_buffer_size: 256 << 10, ping_interval_ms: 25_000, pong_interval_ms: 10_000 }
    }
}

#[cfg(test)]
mod tests {
    use super::Config;

    #[test]
    fn an_empty_file_gives_the_defaults() {
        assert!(Config::parse("").is_ok());
    }

    #[test]
    fn what_is_not_named_keeps_its_default() {
        let config = Config::parse("session:\n  rateLimit: 7\n").unwrap();
        assert_eq!((config.session.rate_limit, config.session.channels_max), (7, 1_000));
    }

    #[test]
    fn a_wrong_key_is_named_with_its_place() {
        let error = format!("{:#}", Config::parse("session:\n  rateLimitt: 7\n").unwrap_err());
        assert!(error.contains("rateLimitt") && error.contains('2'), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        let error = Config::parse("session:\n  rateLimit: 0\n").unwrap_err();
        assert!(error.to_string().contains("session.rateLimit"));
        let error = Config::parse("connection: {ws: {pingIntervalMs: 18446744073709551615}}").unwrap_err();
        assert!(error.to_string().contains("connection.ws.pingIntervalMs"));
    }
}
