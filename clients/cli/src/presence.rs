//! `presence`: who is in a channel, as a subscriber is told.

use std::time::Duration;

use appsockets_client::{Event, PresenceMember, Subscription};
use clap::Args;
use tokio::time::timeout;

use crate::{connection::Connection, fault::Fault, json, output::Output, text};

/// The list comes right after the Position, so what has not come by then will not.
const LIST_LIMIT: Duration = Duration::from_secs(2);

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    channel: String,
}

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    let Options { connection, channel } = options;
    let client = connection.open()?;
    let mut subscription = connection.answer(&client, client.subscribe(channel)).await?;
    opened(&mut subscription, &connection).await?;
    let members = timeout(LIST_LIMIT, list(&mut subscription)).await.unwrap_or_else(|_| Err(unknown()))?;
    client.close().await;
    for member in &members {
        output.line(|| text::member(member), || json::member(member))?;
    }
    Ok(())
}

/// Waits for the Position.
async fn opened(subscription: &mut Subscription, connection: &Connection) -> Result<(), Fault> {
    match connection.in_time(subscription.next()).await? {
        Some(Event::Ended(why)) => Err(why.into()),
        _ => Ok(()),
    }
}

async fn list(subscription: &mut Subscription) -> Result<Vec<PresenceMember>, Fault> {
    match subscription.next().await {
        Some(Event::Presence(members)) => Ok(members),
        Some(Event::Ended(why)) => Err(why.into()),
        _ => Err(unknown()),
    }
}

fn unknown() -> Fault {
    Fault::refused("the channel's rules have no presence: nobody is told who is there")
}
