//! The node's connection to NATS, which all share who speak NATS.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::Context;
use async_nats::{
    Client, ConnectOptions, Event, HeaderMap, Message, Request, RequestError, RequestErrorKind, ServerAddr, Subject,
};
use bytes::Bytes;
use percent_encoding::percent_decode_str;
use tokio::sync::{Mutex, watch};
use url::Url;

use crate::{config::section::section, secret::Secret};

/// A connection that is broken without a word is noticed after two of them.
const PING: Duration = Duration::from_secs(10);
/// Messages that wait for one who has asked: only the first counts, and a second shows that there were two.
const ANSWERS_MAX: usize = 2;

section! {
    /// NATS, over which auth providers are asked.
    pub struct NatsConfig {
        /// Where it is: `nats://host:4222`, or `tls://host:4222` where nothing but TLS will do; servers of one cluster
        /// with `,` between them. Before a host may stand `user:password@` or `token@`. Empty: there is none. The
        /// environment variable `NATS_URL` sets it as well.
        pub url: Secret = Secret::default(), in 1..=u64::MAX;
        /// A file with what makes this node a user of NATS (`.creds`). It is read when the node begins to connect.
        pub credentials: Option<PathBuf> = None;
        /// A PEM file: the certificates of the authorities that may have signed that of NATS; null: those of the
        /// machine.
        pub authority: Option<PathBuf> = None;
        /// The subjects at which auth providers may be asked. Who sets up an auth provider chooses one of them, and
        /// must not reach what else listens there. `*` stands for one part of a subject, `>` at the end for all that
        /// follow.
        pub auth_subjects: Vec<String> = vec!["appsockets.auth.>".to_owned()];
    }
}

/// A connection that is kept up by itself, to the servers that the configuration names at the time.
pub struct Nats {
    config: NatsConfig,
    link: Mutex<Link>,
}

#[derive(Clone)]
struct Link {
    /// What it was made from.
    url: Vec<u8>,
    client: Client,
    connected: watch::Receiver<bool>,
}

/// Why there is no answer. The texts are for the log; none holds an address.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    #[error("there is no connection to NATS")]
    NotConnected,
    #[error("nobody listens on the subject")]
    NoResponders,
    #[error("no answer in time")]
    TimedOut,
    #[error("the message is larger than NATS takes")]
    TooLarge,
    #[error("{0}")]
    Failed(String),
}

impl Nats {
    /// Begins to connect, and waits for nobody. None: the configuration names no server.
    ///
    /// # Errors
    /// What the configuration says can't be used.
    pub async fn start(config: &NatsConfig) -> anyhow::Result<Option<Arc<Nats>>> {
        if config.url.is_empty() {
            return Ok(None);
        }
        let link = Link::new(config).await?;
        Ok(Some(Arc::new(Nats { config: config.clone(), link: Mutex::new(link) })))
    }

    pub fn config(&self) -> &NatsConfig {
        &self.config
    }

    pub async fn is_connected(&self) -> bool {
        *self.link.lock().await.connected.borrow()
    }

    /// Asks whoever listens on the subject. What was asked when a connection broke is not asked again.
    pub async fn request(
        &self,
        subject: Subject,
        headers: HeaderMap,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Message, NatsError> {
        let Link { client, mut connected, .. } = self.link().await;
        // An inbox for each: of the one that they would share, the client keeps for ever what was never answered.
        let inbox = client.new_inbox();
        let request = Request::new().headers(headers).payload(payload).inbox(inbox).timeout(None);
        let now = connected.clone();
        let exchange = async {
            // Sent without a connection, it would wait in a queue and come when nobody waits for the answer.
            drop(connected.wait_for(|up| *up).await.map_err(|_| NatsError::NotConnected)?);
            client.send_request(subject, request).await.map_err(NatsError::from)
        };
        tokio::time::timeout(timeout, exchange)
            .await
            .unwrap_or_else(|_| Err(if *now.borrow() { NatsError::TimedOut } else { NatsError::NotConnected }))
    }

    /// Made anew when the address is another one, whose password may have been changed.
    async fn link(&self) -> Link {
        let mut link = self.link.lock().await;
        let url = self.config.url.first();
        if !url.is_empty() && link.url != url {
            match Link::new(&self.config).await {
                Ok(new) => *link = new,
                Err(error) => {
                    tracing::warn!(error = format!("{error:#}"), "NATS stays where it was");
                    link.url = url;
                }
            }
        }
        link.clone()
    }
}

impl Link {
    async fn new(config: &NatsConfig) -> anyhow::Result<Link> {
        let url = config.url.first();
        let Servers { servers, user } =
            Servers::parse(&url).map_err(|sentence| anyhow::anyhow!("nats.url: {sentence}"))?;
        let (up, connected) = watch::channel(false);
        let mut options = ConnectOptions::new()
            .name("appsockets-node")
            .retry_on_initial_connect()
            .ping_interval(PING)
            .subscription_capacity(ANSWERS_MAX)
            .event_callback(move |event| {
                follow(&up, &event);
                std::future::ready(())
            });
        options = match user {
            Some((user, Some(password))) => options.user_and_password(user, password),
            Some((token, None)) => options.token(token),
            None => options,
        };
        if let Some(path) = &config.credentials {
            let read = options.credentials_file(path).await;
            options = read.with_context(|| format!("nats.credentials: {} can't be used", path.display()))?;
        }
        if let Some(path) = &config.authority {
            std::fs::metadata(path).with_context(|| format!("nats.authority: {} can't be read", path.display()))?;
            options = options.add_root_certificates(path.clone());
        }
        let client = options.connect(servers).await.context("nats.url")?;
        Ok(Link { url, client, connected })
    }
}

fn follow(up: &watch::Sender<bool>, event: &Event) {
    let is_up = match event {
        Event::Connected => true,
        Event::Disconnected | Event::Closed => false,
        _ => return,
    };
    if up.send_replace(is_up) && !is_up {
        tracing::warn!("NATS is not connected: auth providers that are asked over it can't be reached");
    }
}

/// Where NATS is, and as whom to connect.
pub struct Servers {
    /// Without users and passwords, which the client would log with them.
    servers: Vec<ServerAddr>,
    /// A name and a password, or a token.
    user: Option<(String, Option<String>)>,
}

impl Servers {
    /// Fails with a sentence that tells what to write.
    pub fn parse(text: &[u8]) -> Result<Servers, &'static str> {
        const SENTENCE: &str = "Write nats://host:4222 or tls://host:4222, several with `,` between them, and before a \
                                host at most a user and a password, or a token.";
        let text = std::str::from_utf8(text).map_err(|_| SENTENCE)?;
        let mut found = Servers { servers: Vec::new(), user: None };
        for part in text.split(',').map(str::trim) {
            let whole = if part.contains("://") { part.to_owned() } else { format!("nats://{part}") };
            let mut url = Url::parse(&whole).map_err(|_| SENTENCE)?;
            let has_host = url.host_str().is_some_and(|host| !host.is_empty());
            if !matches!(url.scheme(), "nats" | "tls") || !has_host {
                return Err(SENTENCE);
            }
            let plain = |text: &str| percent_decode_str(text).decode_utf8().map(String::from).map_err(|_| SENTENCE);
            if !url.username().is_empty() && found.user.is_none() {
                found.user = Some((plain(url.username())?, url.password().map(plain).transpose()?));
            }
            url.set_username("").and_then(|()| url.set_password(None)).map_err(|()| SENTENCE)?;
            found.servers.push(ServerAddr::from_url(url).map_err(|_| SENTENCE)?);
        }
        Ok(found)
    }
}

impl From<RequestError> for NatsError {
    fn from(error: RequestError) -> Self {
        match error.kind() {
            RequestErrorKind::NoResponders => NatsError::NoResponders,
            RequestErrorKind::TimedOut => NatsError::TimedOut,
            RequestErrorKind::MaxPayloadExceeded => NatsError::TooLarge,
            RequestErrorKind::InvalidSubject | RequestErrorKind::Other => NatsError::Failed(error.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ServerAddr, Servers};

    #[test]
    fn addresses() {
        let Servers { servers, user } = Servers::parse(b"nats://ann:p%40ss@a:4222, tls://b").expect("valid");
        assert_eq!(user, Some(("ann".to_owned(), Some("p@ss".to_owned()))));
        // The client logs them.
        assert_eq!(servers.iter().map(ServerAddr::as_url_str).collect::<Vec<_>>(), ["nats://a:4222", "tls://b"]);
        let token = Servers::parse(b"hush@a").expect("valid").user;
        assert_eq!(token, Some(("hush".to_owned(), None)));
        for text in ["", "http://a", "ws://a", "nats://", "nats://a,", "nats://a:x", "nats:///x"] {
            assert!(Servers::parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
