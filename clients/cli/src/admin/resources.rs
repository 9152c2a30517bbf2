//! `list`, `get`, `put` and `delete`.

use clap::ValueEnum;
use hyper::Method;
use serde_json::{Value, json};

use super::call::{Node, encode};
use crate::{fault::Fault, output::Output, payload, text};

/// The kinds of resources, as docs/configuration.md describes them, and what channels have beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    Hub,
    AuthProvider,
    ChannelRules,
    Namespace,
    Channel,
    /// Metadata of a channel, which is named
    Metadata,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Kind::Hub => "hub",
            Kind::AuthProvider => "auth-provider",
            Kind::ChannelRules => "channel-rules",
            Kind::Namespace => "namespace",
            Kind::Channel => "channel",
            Kind::Metadata => "metadata",
        }
    }

    fn list(self, node: &Node) -> Result<String, Fault> {
        let of_hub = |kind| Ok(format!("/v1/hubs/{}/{kind}", encode(node.hub()?)));
        match self {
            Kind::Hub => Ok("/v1/hubs".to_owned()),
            Kind::AuthProvider => Ok("/v1/auth-providers".to_owned()),
            Kind::ChannelRules => of_hub("channel-rules"),
            Kind::Namespace => of_hub("namespaces"),
            Kind::Channel => of_hub("channels"),
            Kind::Metadata => Err(Fault::usage("metadata is not listed: get that of a channel")),
        }
    }

    fn one(self, node: &Node, name: Option<&str>) -> Result<String, Fault> {
        match (self, name) {
            (Kind::Hub, Some(name)) => Ok(format!("/v1/hubs/{}", encode(name))),
            (Kind::Hub, None) => Ok(format!("/v1/hubs/{}", encode(node.hub()?))),
            (Kind::AuthProvider, None) => Ok(format!("/v1/hubs/{}/auth-provider", encode(node.hub()?))),
            (Kind::AuthProvider, Some(_)) => {
                Err(Fault::usage("a hub has one auth provider, without a name: give --hub"))
            }
            (Kind::Metadata, Some(channel)) => Ok(format!("{}/metadata", Kind::Channel.one(node, Some(channel))?)),
            (Kind::Metadata, None) => Err(Fault::usage("of which channel? Give its name")),
            (_, Some(name)) => Ok(format!("{}/{}", self.list(node)?, encode(name))),
            (_, None) => Err(Fault::usage(format!("which {}? Give its name", self.word()))),
        }
    }
}

pub async fn list(node: &Node, kind: Kind, output: &Output) -> Result<(), Fault> {
    let path = kind.list(node)?;
    let mut after = String::new();
    loop {
        let page = node.ask(Method::GET, &format!("{path}?limit=1000{after}"), Vec::new()).await?;
        for item in page["items"].as_array().into_iter().flatten() {
            output.line(|| row(item), || item)?;
        }
        match page["next"].as_str() {
            Some(next) => after = format!("&after={}", encode(next)),
            None => return Ok(()),
        }
    }
}

pub async fn get(node: &Node, kind: Kind, name: Option<&str>, output: &Output) -> Result<(), Fault> {
    output.value(&node.ask(Method::GET, &kind.one(node, name)?, Vec::new()).await?)
}

pub async fn put(
    node: &Node,
    kind: Kind,
    name: Option<&str>,
    spec: Option<String>,
    output: &Output,
) -> Result<(), Fault> {
    let path = kind.one(node, name)?;
    output.value(&node.ask(Method::PUT, &path, payload::read(spec)?).await?)
}

pub async fn delete(node: &Node, kind: Kind, name: Option<&str>, output: &Output) -> Result<(), Fault> {
    node.ask(Method::DELETE, &kind.one(node, name)?, Vec::new()).await?;
    let name = name.or(node.hub().ok()).unwrap_or_default();
    output.line(
        || format!("{} {} was removed", kind.word(), text::plain(name)),
        || json!({"kind": kind.word(), "name": name, "removed": true}),
    )
}

/// A resource on one line: what it is called, where it comes from, what it says.
fn row(item: &Value) -> String {
    let name = item["name"].as_str().or(item["hub"].as_str()).unwrap_or_default();
    format!("{}  {}  {}", text::plain(name), item["source"].as_str().unwrap_or_default(), item["spec"])
}
