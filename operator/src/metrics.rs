//! The operator's figures. Every label has a closed set of values.

use std::{sync::Arc, time::Duration};

use prometheus_client::{
    encoding::text::encode,
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

type Labels = [(&'static str, &'static str); 1];

/// All figures; a clone is the same ones.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    pub leader: Gauge,
    pub nodes: Gauge,
    pub drifts: Counter,
    pub events_dropped: Counter,
    resources: Family<Labels, Gauge>,
    pushes: Family<Labels, Counter>,
    status_writes: Family<Labels, Counter>,
    watch_failures: Family<Labels, Counter>,
    push_seconds: Histogram,
}

impl Default for Metrics {
    fn default() -> Metrics {
        let mut registry = Registry::with_prefix("appsockets_operator");
        let buckets = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0];
        let (leader, nodes, drifts, events_dropped) = Default::default();
        let (resources, pushes, status_writes, watch_failures) = Default::default();
        let mut metrics = Metrics {
            registry: Arc::default(),
            leader,
            nodes,
            drifts,
            events_dropped,
            resources,
            pushes,
            status_writes,
            watch_failures,
            push_seconds: Histogram::new(buckets),
        };
        registry.register("leader", "Whether this operator holds the lease.", metrics.leader.clone());
        registry.register("nodes", "Nodes that count.", metrics.nodes.clone());
        registry.register("drifts", "Nodes that did not serve what they were told last.", metrics.drifts.clone());
        registry.register("events_dropped", "Events that were too many.", metrics.events_dropped.clone());
        registry.register("resources", "Resources, by what they are told.", metrics.resources.clone());
        registry.register("pushes", "Pushes to nodes, by outcome.", metrics.pushes.clone());
        registry.register("status_writes", "Statuses written, by outcome.", metrics.status_writes.clone());
        let watch_failures = metrics.watch_failures.clone();
        registry.register("watch_failures", "Attempts to watch that failed, by kind.", watch_failures);
        registry.register("push_seconds", "How long a push took.", metrics.push_seconds.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }
}

impl Metrics {
    pub fn pushed(&self, outcome: &'static str, took: Duration) {
        self.pushes.get_or_create(&[("outcome", outcome)]).inc();
        self.push_seconds.observe(took.as_secs_f64());
    }

    pub fn status_written(&self, outcome: &'static str) {
        self.status_writes.get_or_create(&[("outcome", outcome)]).inc();
    }

    pub fn watch_failed(&self, kind: &'static str) {
        self.watch_failures.get_or_create(&[("kind", kind)]).inc();
    }

    /// How many resources are told so.
    pub fn resources(&self, ready: &'static str, count: usize) {
        self.resources.get_or_create(&[("ready", ready)]).set(i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// In the text format of OpenMetrics.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // A String takes all that is written.
        let _ = encode(&mut text, &self.registry);
        text
    }
}
