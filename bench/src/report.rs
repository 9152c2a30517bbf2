//! One line for each measurement.

use serde_json::json;

/// A figure, beside the same of the reference in the same run.
pub struct Measurement {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub reference: Vec<f64>,
}

impl Measurement {
    pub fn print(&self, as_json: bool) {
        let (value, reference) = (spread(&self.values), spread(&self.reference));
        let pairs: Vec<_> = self.values.iter().zip(&self.reference).map(|(a, b)| a / b).collect();
        let ratio = spread(&pairs);
        if as_json {
            let of = |(least, median, most): (f64, f64, f64)| json!({"min": least, "median": median, "max": most});
            let line = json!({"name": self.name, "unit": self.unit, "value": of(value), "reference": of(reference), "ratio": of(ratio)});
            return println!("{line}");
        }
        let show = |(least, median, most): (f64, f64, f64)| format!("{median:>9.3} ({least:.3} to {most:.3})");
        println!(
            "{:<44} {:<6} {:<30} reference {:<30} ratio {}",
            self.name,
            self.unit,
            show(value),
            show(reference),
            show(ratio)
        );
    }
}

/// Least, median and most.
fn spread(values: &[f64]) -> (f64, f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match &sorted[..] {
        [] => (f64::NAN, f64::NAN, f64::NAN),
        [least, ..] => (*least, sorted[sorted.len() / 2], sorted[sorted.len() - 1]),
    }
}
