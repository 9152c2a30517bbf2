//! `publish` and `presence`.

use appsockets_client::{Failure, PresenceMember};
use hyper::Method;
use serde::Serialize;
use serde_json::{Value, json};

use super::call::{Node, encode};
use crate::{
    fault::Fault,
    json,
    output::Output,
    payload::Form,
    publish::{Message, published},
    text,
};

/// A publish in the protocol's JSON.
#[derive(Serialize)]
struct Publish<'a> {
    channel: &'a str,
    event: &'a str,
    #[serde(flatten)]
    payload: Form<'a>,
    key: Option<&'a str>,
    extra: Value,
}

pub async fn publish(node: &Node, mut message: Message, output: &Output) -> Result<(), Fault> {
    let path = format!("/v1/hubs/{}/publish", encode(node.hub()?));
    let payload = message.payload()?;
    let publish = Publish {
        channel: &message.channel,
        event: &message.event,
        payload: Form::of(&payload),
        key: message.key.as_deref(),
        extra: json!({"store": message.store, "retain": message.retain, "push": message.push}),
    };
    let body = format!("{{\"publishes\":[{}]}}", json::line(&publish)?);
    let answer = node.ask(Method::POST, &path, body.into_bytes()).await?;
    let result = &answer["published"][0];
    match result["channelSerial"].as_str() {
        Some(serial) => published(serial, output),
        None => Err(failure(&result["error"]).into()),
    }
}

pub async fn presence(node: &Node, channel: &str, output: &Output) -> Result<(), Fault> {
    let path = format!("/v1/hubs/{}/presence?channel={}", encode(node.hub()?), encode(channel));
    let answer = node.ask(Method::GET, &path, Vec::new()).await?;
    for value in answer["members"].as_array().into_iter().flatten() {
        output.line(|| text::member(&member(value)), || value)?;
    }
    Ok(())
}

fn member(value: &Value) -> PresenceMember {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let extra = value["extra"].as_object().into_iter().flatten().map(|(name, value)| (name.clone(), text(value)));
    PresenceMember {
        session_id: text(&value["sessionID"]),
        user_id: text(&value["userID"]),
        extra: extra.collect(),
        since: value["since"].as_i64().unwrap_or_default(),
    }
}

fn failure(error: &Value) -> Failure {
    let text = |name: &str| error[name].as_str().unwrap_or_default().to_owned();
    let code = error["code"].as_u64().and_then(|code| u32::try_from(code).ok()).unwrap_or_default();
    Failure { code, name: text("name"), message: text("message"), retry: error["retry"] == true }
}
