//! `sub`: what comes in channels.

use appsockets_client::{Client, Event};
use clap::Args;
use futures_util::{
    StreamExt,
    stream::{BoxStream, SelectAll, select_all},
};

use crate::{connection::Connection, fault::Fault, json, output::Output, stop, text};

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    #[arg(required = true)]
    channels: Vec<String>,
    /// End after so many messages
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Begin after this serial of the channel
    #[arg(long)]
    since: Option<String>,
}

/// The events of all channels, each with the name of its own.
type Events = SelectAll<BoxStream<'static, (String, Event)>>;

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    if options.since.is_some() && options.channels.len() > 1 {
        return Err(Fault::usage("--since is of one channel: name only that one"));
    }
    let stop = stop::asked().map_err(|error| Fault::usage(format!("signals: {error}")))?;
    let client = options.connection.open()?;
    let events = subscribe(&client, &options).await?;
    let printing = print(events, &options, output);
    let outcome = tokio::select! {
        outcome = printing => outcome,
        () = stop => Ok(()),
    };
    client.close().await;
    outcome
}

async fn subscribe(client: &Client, options: &Options) -> Result<Events, Fault> {
    let mut events = Vec::new();
    for channel in &options.channels {
        let subscription = async {
            match &options.since {
                Some(serial) => client.subscribe_since(channel, serial).await,
                None => client.subscribe(channel).await,
            }
        };
        let subscription = options.connection.answer(client, subscription).await?;
        let name = channel.clone();
        events.push(subscription.map(move |event| (name.clone(), event)).boxed());
    }
    Ok(select_all(events))
}

/// Ends with the first subscription that ends, or after the wanted messages.
async fn print(mut events: Events, options: &Options, output: &Output) -> Result<(), Fault> {
    let several = options.channels.len() > 1;
    let mut left = options.count;
    while let Some((channel, event)) = events.next().await {
        if let Event::Ended(why) = event {
            return Err(Fault::from(why).of(&text::plain(&channel)));
        }
        let name = || if several { format!("{}  ", text::plain(&channel)) } else { String::new() };
        output.line(|| name() + &text::event(&event), || json::event(&channel, &event))?;
        if let (Event::Message(_), Some(left)) = (&event, &mut left) {
            *left -= 1;
            if *left == 0 {
                return Ok(());
            }
        }
    }
    Err(Fault::unreachable("the client has ended"))
}
