//! `history`: stored messages, page by page.

use appsockets_client::{ChannelPublish, HistoryRequest};
use clap::Args;

use crate::{connection::Connection, fault::Fault, json, output::Output, text};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    channel: String,
    #[command(flatten)]
    bound: Bound,
    /// Messages at most
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// All of them
    #[arg(long, conflicts_with = "limit")]
    all: bool,
}

/// Where to begin; without it the newest come first.
#[derive(Args)]
#[group(multiple = false)]
struct Bound {
    /// Those before this serial, newest first
    #[arg(long, value_name = "SERIAL")]
    before: Option<String>,
    /// Those after this serial, oldest first
    #[arg(long, value_name = "SERIAL")]
    after: Option<String>,
    /// Those before this time in Unix milliseconds, newest first
    #[arg(long, value_name = "MS")]
    before_ts: Option<i64>,
    /// Those after this time in Unix milliseconds, oldest first
    #[arg(long, value_name = "MS")]
    after_ts: Option<i64>,
}

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    let client = options.connection.open()?;
    let mut left = if options.all { u64::MAX } else { options.limit };
    let mut query = options.bound.first();
    loop {
        // The node has a bound of its own, which is below this one.
        query.limit = Some(u32::try_from(left).unwrap_or(u32::MAX));
        let page = options.connection.answer(&client, client.history(&options.channel, query.clone())).await?;
        for message in &page.messages {
            output.line(|| text::message(message), || json::message(message))?;
        }
        // A page by time may be longer than was asked for.
        left = left.saturating_sub(page.messages.len() as u64);
        let Some(last) = page.messages.last().filter(|_| page.more) else { break };
        query = options.bound.next(last);
        if left == 0 {
            output.note(|| format!("# there is more: --{} {}", options.bound.direction(), serial(last)))?;
            break;
        }
    }
    client.close().await;
    Ok(())
}

impl Bound {
    fn first(&self) -> HistoryRequest {
        HistoryRequest {
            before_timestamp: self.before_ts,
            after_timestamp: self.after_ts,
            before_serial: self.before.clone(),
            after_serial: self.after.clone(),
            ..HistoryRequest::default()
        }
    }

    fn next(&self, last: &ChannelPublish) -> HistoryRequest {
        let serial = Some(serial(last));
        match self.direction() {
            "after" => HistoryRequest { after_serial: serial, ..HistoryRequest::default() },
            _ => HistoryRequest { before_serial: serial, ..HistoryRequest::default() },
        }
    }

    fn direction(&self) -> &'static str {
        if self.after.is_some() || self.after_ts.is_some() { "after" } else { "before" }
    }
}

fn serial(message: &ChannelPublish) -> String {
    message.channel_serial.clone().unwrap_or_else(|| message.msg_id.clone())
}
