//! Where to connect, and as whom.

use std::time::Duration;

use appsockets_client::{Client, Credentials, Error, Options};
use clap::Args;
use tokio::time::timeout;

use crate::fault::Fault;

/// What the commands that speak the client protocol have in common.
#[derive(Args, Clone)]
pub struct Connection {
    /// The node, as ws://HOST:PORT or wss://HOST:PORT
    #[arg(long, env = "APPSOCKETS_URL", default_value = "ws://127.0.0.1:8080")]
    url: String,
    #[arg(long, env = "APPSOCKETS_HUB")]
    hub: String,
    /// A JWT that says who one is; nobody in particular without it
    #[arg(long, env = "APPSOCKETS_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Seconds to wait for an answer
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    timeout: u64,
}

impl Connection {
    /// A client that gives up when it can't connect at once, and connects again when it was connected.
    pub fn open(&self) -> Result<Client, Fault> {
        Ok(Client::connect(self.options())?)
    }

    pub fn options(&self) -> Options {
        let url = match self.url.split_once("://") {
            Some(("http", rest)) => format!("ws://{rest}"),
            Some(("https", rest)) => format!("wss://{rest}"),
            _ => self.url.clone(),
        };
        let mut options = Options::new(url, &*self.hub);
        let token = self.token.clone().filter(|token| !token.is_empty());
        options.credentials = token.map(Credentials::Token);
        options.first_attempts = Some(1);
        options
    }

    /// The answer to a request, if it comes in time.
    pub async fn answer<T>(
        &self,
        client: &Client,
        request: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Fault> {
        match self.in_time(request).await? {
            Ok(answer) => Ok(answer),
            Err(error) => Err(Fault::asking(client, error).await),
        }
    }

    /// What comes in time.
    pub async fn in_time<T>(&self, what: impl Future<Output = T>) -> Result<T, Fault> {
        let late = || Fault::unreachable(format!("no answer came within {} s", self.timeout));
        timeout(self.limit(), what).await.map_err(|_| late())
    }

    /// How long an answer may take.
    pub fn limit(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}
