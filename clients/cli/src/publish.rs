//! `pub`: one message.

use appsockets_client::Publish;
use clap::Args;
use serde_json::json;

use crate::{connection::Connection, fault::Fault, output::Output, payload};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    message: Message,
}

/// A message, as `pub` and `admin publish` take it.
#[derive(Args)]
pub struct Message {
    pub channel: String,
    /// The payload, as it is; standard input without it, or for `-`
    payload: Option<String>,
    /// The name of the event
    #[arg(long, default_value = "")]
    pub event: String,
    /// The idempotency key, 16 to 64 bytes: to publish again without publishing twice
    #[arg(long)]
    pub key: Option<String>,
    /// Give the message to new subscribers
    #[arg(long)]
    pub retain: bool,
    /// Keep the message for history
    #[arg(long)]
    pub store: bool,
    /// Send the message to devices, too
    #[arg(long)]
    pub push: bool,
}

impl Message {
    /// From the argument or standard input.
    pub fn payload(&mut self) -> Result<Vec<u8>, Fault> {
        payload::read(self.payload.take())
    }
}

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    let Options { connection, mut message } = options;
    let payload = message.payload()?.into();
    let Message { channel, payload: _, event, key, retain, store, push } = message;
    let client = connection.open()?;
    let publish = Publish { channel, event, payload, store, push, retain, key };
    let ack = connection.answer(&client, client.publish_with(publish)).await?;
    client.close().await;
    published(&ack.serial, output)
}

/// Says where a message has its place.
pub fn published(serial: &str, output: &Output) -> Result<(), Fault> {
    output.line(|| serial.to_owned(), || json!({"success": true, "msgID": serial, "channelSerial": serial}))
}
