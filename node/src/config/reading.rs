//! From what was written to the values of keys, and to everything that is wrong with it.

use std::{collections::BTreeMap, net::SocketAddr};

use appsockets_core::settings::problem::Problem;
use ipnet::IpNet;
use serde_json::{Value as Json, json};

use super::{
    leaves::Leaf,
    section::{Kind, Value},
    yaml::{Content, Node, Place, Style},
};
use crate::{nearest::nearest, secret::is_usable};

/// A value that one source gives, by the path that it sets.
pub type Given = BTreeMap<String, Setting>;

#[derive(Clone, Debug)]
pub struct Setting {
    pub place: Place,
    /// Of the key as it was written.
    pub path: String,
    pub value: Json,
    /// Whether the value is the name of a file that holds it.
    pub from_file: bool,
}

impl Setting {
    /// As a problem names it.
    pub fn named(&self) -> String {
        named(&self.place, &self.path)
    }
}

/// One source at a time: a file, or the environment.
pub struct Reading<'a> {
    pub leaves: &'a [Leaf],
    pub given: Given,
    pub problems: Vec<Problem>,
}

impl<'a> Reading<'a> {
    pub fn new(leaves: &'a [Leaf]) -> Reading<'a> {
        Reading { leaves, given: Given::new(), problems: Vec::new() }
    }

    /// What stands below the key of this path; below no key if it is empty.
    pub fn section(&mut self, path: &str, node: &Node) {
        match &node.content {
            Content::Mapping(entries) => entries.iter().for_each(|(key, value)| self.entry(path, key, value)),
            _ if node.is_null() => {}
            _ => {
                let some = names(self.leaves, path).next().unwrap_or_default();
                let is_secret = |leaf: &Leaf| matches!(leaf.value.kind, Kind::Secret(_)) && below(leaf, path).is_some();
                // A secret may have been written one level too high.
                let hidden = !path.is_empty() && self.leaves.iter().any(is_secret);
                let shown = if hidden { "a value".to_owned() } else { node.shown() };
                let sentence = format!("Write keys such as `{some}` here, not {shown}.");
                self.problem(&node.place, path, sentence);
            }
        }
    }

    fn entry(&mut self, above: &str, key: &Node, value: &Node) {
        let Content::Scalar(name, _) = &key.content else {
            return self.problem(&key.place, above, "Write the name of a key here.".to_owned());
        };
        let path = if above.is_empty() { name.clone() } else { format!("{above}.{name}") };
        let leaves = self.leaves;
        if let Some(leaf) = leaves.iter().find(|leaf| leaf.path == path) {
            self.value(leaf, &key.place, value);
        } else if names(leaves, &path).next().is_some() {
            self.section(&path, value);
        } else {
            self.problem(&key.place, &path, unknown(leaves, above, name));
        }
    }

    /// The value of a key.
    pub fn value(&mut self, leaf: &Leaf, key: &Place, node: &Node) {
        let setting = |value| Setting { place: key.clone(), path: leaf.path.clone(), value, from_file: leaf.from_file };
        match take(&leaf.value, node) {
            Ok(value) => match self.given.get(&leaf.sets) {
                Some(first) => {
                    let sentence = format!("This is set already, at {}: leave one of them out.", first.named());
                    self.problem(key, &leaf.path, sentence);
                }
                None => drop(self.given.insert(leaf.sets.clone(), setting(value))),
            },
            Err((place, sentence)) => self.problem(&place, &leaf.path, sentence),
        }
    }

    pub fn problem(&mut self, place: &Place, path: &str, sentence: String) {
        self.problems.push(Problem::new(named(place, path), sentence));
    }
}

/// A variable says by its name which key it is.
fn named(place: &Place, path: &str) -> String {
    match place {
        Place::File { .. } if !path.is_empty() => format!("{place}: {path}"),
        Place::File { .. } | Place::Variable(_) => place.to_string(),
    }
}

/// The names that may stand directly below a path, which may be none; some more than once.
fn names<'a>(leaves: &'a [Leaf], path: &'a str) -> impl Iterator<Item = &'a str> {
    leaves.iter().filter_map(move |leaf| below(leaf, path)?.split('.').next())
}

/// The rest of the leaf's path, if it lies below that one.
fn below<'a>(leaf: &'a Leaf, path: &str) -> Option<&'a str> {
    let rest = leaf.path.strip_prefix(path)?;
    if path.is_empty() { Some(rest) } else { rest.strip_prefix('.') }
}

fn unknown(leaves: &[Leaf], above: &str, name: &str) -> String {
    let last = |leaf: &'_ Leaf| leaf.path.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(name));
    if let Some(near) = nearest(name, names(leaves, above)) {
        format!("There is no such key: did you mean `{near}`?")
    } else if let Some(elsewhere) = leaves.iter().find(|leaf| last(leaf)) {
        format!("There is no such key: did you mean `{}`?", elsewhere.path)
    } else {
        let mut known = Vec::new();
        names(leaves, above).for_each(|name| {
            if !known.contains(&name) {
                known.push(name);
            }
        });
        format!("There is no such key; here may stand `{}`.", known.join("`, `"))
    }
}

/// What the node sets the value to. Nothing that is said about a secret shows it.
fn take(value: &Value, node: &Node) -> Result<Json, (Place, String)> {
    if value.nullable && node.is_null() {
        return Ok(Json::Null);
    }
    let wrong = |node: &Node| {
        let or_null = if value.nullable { ", or null" } else { "" };
        let sentence = match value.kind {
            Kind::Secret(_) => format!("Write {}.", value.kind),
            _ => format!("Write {}{or_null}, not {}.", value.kind, node.shown()),
        };
        (node.place.clone(), sentence)
    };
    match (&value.kind, &node.content) {
        (Kind::Networks | Kind::Texts, Content::List(items)) => {
            let items = items.iter().map(|item| list_item(&value.kind, item).ok_or_else(|| wrong(item)));
            items.collect::<Result<_, _>>().map(Json::Array)
        }
        (Kind::Networks | Kind::Texts, Content::Scalar(text, Style::Variable)) => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let items = items.map(|item| text_item(&value.kind, item).ok_or_else(|| wrong(node)));
            items.collect::<Result<_, _>>().map(Json::Array)
        }
        (kind, Content::Scalar(text, style)) if *style == Style::Variable || !node.is_null() => {
            scalar(kind, text, *style).ok_or_else(|| wrong(node))
        }
        _ => Err(wrong(node)),
    }
}

fn list_item(kind: &Kind, item: &Node) -> Option<Json> {
    match &item.content {
        Content::Scalar(text, _) if !item.is_null() => text_item(kind, text),
        _ => None,
    }
}

fn text_item(kind: &Kind, text: &str) -> Option<Json> {
    (*kind == Kind::Texts || text.parse::<IpNet>().is_ok()).then(|| text.into())
}

fn scalar(kind: &Kind, text: &str, style: Style) -> Option<Json> {
    match kind {
        Kind::Bool if style != Style::Quoted => text.parse::<bool>().ok().map(Json::from),
        Kind::Whole(range) if style != Style::Quoted && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            text.parse::<u64>().ok().filter(|number| range.contains(number)).map(|number| json!(number))
        }
        Kind::Address => text.parse::<SocketAddr>().ok().map(|_| text.into()),
        Kind::Path => (!text.is_empty()).then(|| text.into()),
        Kind::Text => Some(text.into()),
        Kind::Secret(bytes_min) => (text.is_empty() || is_usable(text, *bytes_min)).then(|| text.into()),
        Kind::Bool | Kind::Whole(_) | Kind::Networks | Kind::Texts => None,
    }
}
