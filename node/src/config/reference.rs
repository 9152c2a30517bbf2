//! All that may be configured, as a table.

use std::fmt::{self, Write};

use serde_json::Value as Json;

use super::{
    Config,
    leaves::{Leaf, leaves},
    section::Kind,
};

/// A table in Markdown: every key with what it takes, its default and its meaning.
pub fn reference() -> String {
    let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
    let mut table = "| key | takes | default | meaning |\n| --- | --- | --- | --- |\n".to_owned();
    for Leaf { path, value, meaning, sets, .. } in leaves() {
        let or_null = if value.nullable { ", or null" } else { "" };
        let default = if path == sets { format!("`{}`", default(&defaults, &path)) } else { String::new() };
        // Writing to a String can't fail.
        let _ = writeln!(table, "| `{path}` | {}{or_null} | {default} | {meaning} |", value.kind);
    }
    table
}

/// As it would be written; a text that is empty in quotes.
fn default(defaults: &Json, path: &str) -> String {
    match at(defaults, path) {
        Some(Json::String(text)) if !text.is_empty() => text.clone(),
        Some(value) => value.to_string(),
        None => String::new(),
    }
}

/// The value of a key within a whole configuration.
pub fn at<'a>(config: &'a Json, path: &str) -> Option<&'a Json> {
    path.split('.').try_fold(config, |value, name| value.get(name))
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Bool => f.write_str("true or false"),
            Kind::Whole(range) if *range.end() == u64::MAX => write!(f, "a whole number, {} or more", range.start()),
            Kind::Whole(range) => write!(f, "a whole number from {} to {}", range.start(), range.end()),
            Kind::Address => f.write_str("an address such as 127.0.0.1:8080"),
            Kind::Path => f.write_str("a path"),
            Kind::Text => f.write_str("a text"),
            Kind::Secret(bytes_min) => write!(f, "a text of {bytes_min} bytes or more"),
            Kind::Networks => f.write_str("a list of networks such as [10.0.0.0/8]"),
            Kind::Texts => f.write_str("a list of texts"),
        }
    }
}
