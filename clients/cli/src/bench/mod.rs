//! `bench`: publishers at a fixed rate, subscribers that look for what is lost, repeated or out of order, and times that
//! count from when a message was due. A message that had to wait because the one before it was late is late as well, so
//! the publishers keep to their times whatever the server does.

mod histogram;
mod ledger;
mod listen;
mod load;
mod report;

use std::time::Duration;

use clap::Args;
use futures_util::future::try_join_all;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use self::{
    listen::{Goal, Listener},
    load::Publisher,
    report::Report,
};
use crate::{connection::Connection, fault::Fault, output::Output};

/// Between the last connection and the first message.
const LEAD: Duration = Duration::from_millis(50);

#[derive(Args)]
pub struct Options {
    #[command(flatten)]
    connection: Connection,
    #[arg(default_value = "bench")]
    channel: String,
    /// Connections that listen
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    subscribers: u32,
    /// Connections that publish
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    publishers: u32,
    /// Messages per second of all publishers together
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: u64,
    /// How long to publish
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Bytes of a payload
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u32).range(32..=1_000_000))]
    size: u32,
}

pub async fn run(options: Options, output: &Output) -> Result<(), Fault> {
    let run_id = getrandom::u64().map_err(|error| Fault::usage(error.to_string()))?;
    let publishers: Vec<_> = (0..options.publishers).map(|number| Publisher::new(number, run_id, &options)).collect();
    let publishers = publishers.into_iter().collect::<Result<Vec<_>, _>>()?;
    let listeners = (0..options.subscribers).map(|_| Listener::open(&options, run_id));
    let listeners = try_join_all(listeners).await?;
    try_join_all(publishers.iter().map(|publisher| publisher.warm_up(&options.connection))).await?;

    let start = Instant::now() + LEAD;
    let (goal, reached) = watch::channel(None);
    let listening: Vec<_> =
        listeners.into_iter().map(|listener| tokio::spawn(listener.listen(reached.clone(), start))).collect();
    let publishing: Vec<_> = publishers.into_iter().map(|publisher| tokio::spawn(publisher.publish(start))).collect();
    sleep_until(start).await;
    let sent = try_join_all(publishing).await.map_err(|error| Fault::usage(error.to_string()))?;
    goal.send_replace(Some(Goal::after(&sent)));
    let heard = try_join_all(listening).await.map_err(|error| Fault::usage(error.to_string()))?;
    let report = Report::new(&options, &sent, &heard);
    output.line(|| report.text(), || report.json())?;
    report.verdict()
}
