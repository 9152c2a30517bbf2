//! What Prometheus is told to watch is there, and somebody says what to do.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn alerts_watch_figures_that_there_are() {
    let alerts = read("charts/appsockets/files/alerts.yaml");
    let words = alerts.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    // The label of a pod that names its cluster.
    let words = words.filter(|word| *word != "appsockets_io_cluster");
    let figures: BTreeSet<_> = words.filter_map(|word| word.strip_prefix("appsockets_")).collect();
    assert!(figures.len() > 8, "{figures:?}");
    let (node, operator) = (read("node/src/admin/metrics.rs"), read("operator/src/metrics.rs"));
    for figure in figures {
        let there = match figure.strip_prefix("operator_") {
            Some(figure) => operator.contains(&format!("\"{}\"", figure.trim_end_matches("_total"))),
            None => node.contains(&format!("\"{figure}\"")),
        };
        assert!(there, "nobody counts appsockets_{figure}");
    }
}

#[test]
fn each_alert_has_its_lines_in_the_manual() {
    let (alerts, manual) = (read("charts/appsockets/files/alerts.yaml"), read("docs/operations.md"));
    let names: Vec<_> = alerts.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(names.len() > 8, "{names:?}");
    for name in names {
        assert!(manual.contains(&format!("\n### {name}\n")), "docs/operations.md says nothing of {name}");
        let link = format!("runbook_url: https://appsockets.io/docs/operations#{}\n", name.to_lowercase());
        assert!(alerts.contains(&link), "{name} does not lead to its lines");
    }
}
