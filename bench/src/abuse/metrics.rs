//! The node's figures, as it tells them to Prometheus.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context, Result};

const PREFIX: &str = "appsockets_";

/// Figures by name and labels, without the prefix that all have.
#[derive(Clone, Default)]
pub struct Metrics(BTreeMap<String, i64>);

impl Metrics {
    pub fn read(admin: SocketAddr) -> Result<Metrics> {
        let mut tcp = TcpStream::connect(admin)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(tcp, "GET /metrics HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).context("the node does not tell its figures")?;
        let (_, text) = answer.split_once("\r\n\r\n").context("the node does not tell its figures")?;
        Ok(Metrics::parse(text))
    }

    fn parse(text: &str) -> Metrics {
        let samples = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix(PREFIX)?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(samples.collect())
    }

    /// By how much each has changed.
    pub fn since(&self, before: &Metrics) -> Metrics {
        let change =
            |(name, value): (&String, &i64)| (name.clone(), value - before.0.get(name).copied().unwrap_or_default());
        Metrics(self.0.iter().map(change).collect())
    }

    /// 0 if the node does not tell it.
    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).map_or(0, |value| u64::try_from(*value).unwrap_or_default())
    }

    /// Those that are not 0.
    pub fn changes(&self) -> BTreeMap<&str, i64> {
        self.0.iter().filter(|(_, value)| **value != 0).map(|(name, value)| (name.as_str(), *value)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Metrics;

    #[test]
    fn figures_are_read_with_their_labels() {
        let text =
            "# HELP appsockets_a A.\n# TYPE appsockets_a counter\nappsockets_a{code=\"x y\"} 3\nappsockets_b 1\n";
        let metrics = Metrics::parse(text);
        assert_eq!(metrics.get("a{code=\"x y\"}"), 3);
        let change = metrics.since(&Metrics::parse("appsockets_b 1\n"));
        assert_eq!(change.changes().len(), 1);
        assert_eq!(change.get("missing"), 0);
    }
}
