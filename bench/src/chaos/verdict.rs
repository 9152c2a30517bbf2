//! What an experiment has shown.

use serde_json::{Value, json};

/// One figure, and what it must be if that is known.
#[derive(Clone, Debug)]
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    value: Show,
    wanted: Option<u64>,
}

#[derive(Clone, Debug)]
enum Show {
    Count(u64),
    Number(f64),
    /// Median, 90 %, 99 %, most.
    Spread([f64; 4]),
}

impl Figure {
    pub fn wanted(name: &'static str, value: u64, wanted: u64) -> Figure {
        Figure { name, unit: "", value: Show::Count(value), wanted: Some(wanted) }
    }

    pub fn told(name: &'static str, unit: &'static str, value: f64) -> Figure {
        Figure { name, unit, value: Show::Number(value), wanted: None }
    }

    pub fn spread(name: &'static str, unit: &'static str, values: &[f64]) -> Figure {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let last = sorted.len().saturating_sub(1);
            sorted.get((last as f64 * part).round() as usize).copied().unwrap_or(f64::NAN)
        };
        Figure { name, unit, value: Show::Spread([at(0.5), at(0.9), at(0.99), at(1.0)]), wanted: None }
    }

    pub fn is_well(&self) -> bool {
        match (&self.value, self.wanted) {
            (Show::Count(value), Some(wanted)) => *value == wanted,
            _ => true,
        }
    }

    fn line(&self) -> String {
        let value = match self.value {
            Show::Count(value) => value.to_string(),
            Show::Number(value) => format!("{value:.0}"),
            Show::Spread([p50, p90, p99, most]) => {
                format!("p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, most {most:.1}")
            }
        };
        let wanted = match self.wanted {
            Some(wanted) if self.is_well() => format!("  (wanted: {wanted})"),
            Some(wanted) => format!("  WANTED: {wanted}"),
            None => String::new(),
        };
        format!("  {:<62} {value} {}{wanted}", self.name, self.unit)
    }

    fn json(&self) -> Value {
        let value = match self.value {
            Show::Count(value) => json!(value),
            Show::Number(value) => json!(value),
            Show::Spread([p50, p90, p99, most]) => json!({"p50": p50, "p90": p90, "p99": p99, "max": most}),
        };
        json!({"name": self.name, "unit": self.unit, "value": value, "wanted": self.wanted, "well": self.is_well()})
    }
}

pub fn print(name: &str, figures: &[Figure], as_json: bool) {
    let well = figures.iter().all(Figure::is_well);
    if as_json {
        let figures: Vec<_> = figures.iter().map(Figure::json).collect();
        println!("{}", json!({"experiment": name, "well": well, "figures": figures}));
        return;
    }
    println!("{name}: {}", if well { "as wanted" } else { "NOT as wanted" });
    figures.iter().for_each(|figure| println!("{}", figure.line()));
}
