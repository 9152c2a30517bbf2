//! What came of a scenario, and whether that is within its bounds.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::metrics::Metrics;

const MIB: f64 = 1024.0 * 1024.0;

/// What a generator did and saw.
#[derive(Default)]
pub struct Tally(BTreeMap<&'static str, u64>);

impl Tally {
    pub fn add(&mut self, name: &'static str, count: u64) {
        *self.0.entry(name).or_default() += count;
    }

    /// Keeps the greatest that was noted under this name.
    pub fn most(&mut self, name: &'static str, value: u64) {
        let most = self.0.entry(name).or_default();
        *most = value.max(*most);
    }

    pub fn get(&self, name: &str) -> u64 {
        self.0.get(name).copied().unwrap_or_default()
    }
}

/// One bound, and whether it held.
pub struct Check {
    pub what: String,
    pub passed: bool,
}

impl Check {
    pub fn new(passed: bool, what: impl Into<String>) -> Check {
        Check { what: what.into(), passed }
    }

    pub fn at_least(what: &str, value: u64, least: u64) -> Check {
        Check::new(value >= least, format!("{what}: {value}, at least {least}"))
    }

    pub fn at_most(what: &str, value: u64, most: u64) -> Check {
        Check::new(value <= most, format!("{what}: {value}, at most {most}"))
    }
}

/// The resident memory of a node, in bytes.
pub struct Memory {
    pub before: u64,
    pub most: u64,
    pub after: u64,
}

/// What the steady clients went through.
pub struct Steady {
    /// Of their deliveries, in microseconds, without and with the abuse.
    pub p99_before_us: f64,
    pub p99_during_us: f64,
    pub deliveries: u64,
}

pub struct Verdict {
    pub name: &'static str,
    pub memory: Memory,
    pub steady: Steady,
    pub tally: Tally,
    pub metrics: Metrics,
    pub checks: Vec<Check>,
}

impl Verdict {
    pub fn passed(&self) -> bool {
        self.checks.iter().all(|check| check.passed)
    }

    pub fn print(&self, as_json: bool) {
        println!("{}", if as_json { self.json().to_string() } else { self.text() });
    }

    fn json(&self) -> Value {
        let Memory { before, most, after } = self.memory;
        let Steady { p99_before_us, p99_during_us, deliveries } = self.steady;
        let checks: Vec<_> =
            self.checks.iter().map(|check| json!({"what": check.what, "passed": check.passed})).collect();
        json!({
            "name": self.name,
            "passed": self.passed(),
            "memory": {"unit": "bytes", "before": before, "most": most, "after": after, "ratio": after as f64 / before as f64},
            "steady": {
                "unit": "us",
                "p99Before": p99_before_us,
                "p99During": p99_during_us,
                "ratio": p99_during_us / p99_before_us,
                "deliveries": deliveries,
            },
            "generator": self.tally.0,
            "node": self.metrics.changes(),
            "checks": checks,
        })
    }

    fn text(&self) -> String {
        let Memory { before, most, after } = self.memory;
        let Steady { p99_before_us, p99_during_us, deliveries } = self.steady;
        let mut lines = vec![
            format!("{}: {}", self.name, if self.passed() { "pass" } else { "FAIL" }),
            format!(
                "  memory     {:.1} MiB before, {:.1} at most, {:.1} after, ratio {:.2}",
                before as f64 / MIB,
                most as f64 / MIB,
                after as f64 / MIB,
                after as f64 / before as f64
            ),
            format!(
                "  steady     p99 {p99_before_us:.0} us without, {p99_during_us:.0} us with, ratio {:.2}; {deliveries} deliveries",
                p99_during_us / p99_before_us
            ),
        ];
        let pairs = |pairs: Vec<String>| pairs.join(", ");
        lines.push(format!(
            "  generator  {}",
            pairs(self.tally.0.iter().map(|(name, count)| format!("{name} {count}")).collect())
        ));
        lines.push(format!(
            "  node       {}",
            pairs(self.metrics.changes().iter().map(|(name, by)| format!("{name} {by:+}")).collect())
        ));
        lines.extend(
            self.checks
                .iter()
                .map(|check| format!("  {}  {}", if check.passed { "ok    " } else { "FAILED" }, check.what)),
        );
        lines.join("\n")
    }
}
