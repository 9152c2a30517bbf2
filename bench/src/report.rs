//! One line for each measurement.

use serde_json::{Value, json};

/// A figure, beside the same of the reference in the same run. Where there is nothing to compare with, that is empty.
pub struct Measurement {
    pub name: String,
    pub unit: &'static str,
    pub values: Vec<f64>,
    pub reference: Vec<f64>,
}

impl Measurement {
    pub fn print(&self, as_json: bool) {
        println!("{}", if as_json { self.json().to_string() } else { self.line() });
    }

    fn ratios(&self) -> Vec<f64> {
        self.values.iter().zip(&self.reference).map(|(value, reference)| value / reference).collect()
    }

    fn json(&self) -> Value {
        let of = |values: &[f64]| {
            let (least, median, most) = spread(values);
            json!({"min": least, "median": median, "max": most})
        };
        let mut line = json!({"name": self.name, "unit": self.unit, "value": of(&self.values)});
        if !self.reference.is_empty() {
            line["reference"] = of(&self.reference);
            line["ratio"] = of(&self.ratios());
        }
        line
    }

    fn line(&self) -> String {
        let show = |values: &[f64]| {
            let (least, median, most) = spread(values);
            format!("{median:>9.3} ({least:.3} to {most:.3})")
        };
        let own = format!("{:<44} {:<6} {:<30}", self.name, self.unit, show(&self.values));
        if self.reference.is_empty() {
            return own;
        }
        format!("{own} reference {:<30} ratio {}", show(&self.reference), show(&self.ratios()))
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
