//! One YAML document of a settings file: one resource.

use std::fmt;

use appsockets_core::settings::{
    entry::ResourceKind,
    problem::Problem,
    resource::{AuthProviderSpec, BindingSpec, ChannelRulesSpec, HubSpec, Resource},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_saphyr::Error;

use crate::nearest::nearest;

/// A document and where it lies in its file.
#[derive(Debug, Default)]
pub struct Document {
    /// 1 for the first.
    number: usize,
    /// Where its text begins that is not a comment; 1 for the file's first line.
    pub line: usize,
    /// How many lines of the file stand before it.
    before: usize,
    text: String,
}

/// The documents of a file. Those that hold only comments are left out.
pub fn split(text: &str) -> Vec<Document> {
    let mut documents = vec![Document::default()];
    for (index, line) in text.strip_prefix('\u{feff}').unwrap_or(text).split_inclusive('\n').enumerate() {
        let after_mark = after_mark(line);
        if after_mark.is_some() {
            documents.push(Document { before: index, ..Document::default() });
        }
        if let Some(document) = documents.last_mut() {
            document.push(index + 1, after_mark.unwrap_or(line));
        }
    }
    documents.retain(|document| document.line > 0);
    for (index, document) in documents.iter_mut().enumerate() {
        document.number = index + 1;
    }
    documents
}

/// What stands behind the mark that ends a document, wherever it stands, even within a block of text.
fn after_mark(line: &str) -> Option<&str> {
    let rest = ["---", "..."].iter().find_map(|mark| line.strip_prefix(mark))?;
    (rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n'])).then_some(rest)
}

impl Document {
    fn push(&mut self, number: usize, line: &str) {
        let text = line.trim();
        if self.line == 0 && !text.is_empty() && !text.starts_with('#') {
            self.line = number;
        }
        self.text.push_str(line);
    }

    /// The resource that the document describes; its own problems are not looked for.
    ///
    /// # Errors
    /// The document is not YAML, has no known kind, or does not have the fields of its kind.
    pub fn parse(&self) -> Result<Resource, Problem> {
        let Header { kind } = self.read()?;
        let kind = kind.unwrap_or_default();
        match ResourceKind::from_name(&kind) {
            Some(ResourceKind::Hub) => self.read().map(|HubDocument { name, spec, .. }| Resource::Hub { name, spec }),
            Some(ResourceKind::ChannelRules) => self
                .read()
                .map(|ChannelRulesDocument { hub, name, spec, .. }| Resource::ChannelRules { hub, name, spec }),
            Some(ResourceKind::Namespace) => {
                self.read().map(|BindingDocument { hub, name, spec, .. }| Resource::Namespace { hub, name, spec })
            }
            Some(ResourceKind::Channel) => {
                self.read().map(|BindingDocument { hub, name, spec, .. }| Resource::Channel { hub, name, spec })
            }
            Some(ResourceKind::AuthProvider) => {
                self.read().map(|AuthProviderDocument { hub, spec, .. }| Resource::AuthProvider { hub, spec })
            }
            None => {
                Err(Problem::new(format!("{self}, kind"), choice(&kind, &ResourceKind::ALL.map(ResourceKind::name))))
            }
        }
    }

    fn read<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        // A snippet of the file would show secrets.
        let options = serde_saphyr::options! { with_snippet: false, strict_booleans: true };
        serde_saphyr::from_str_with_options(&self.text, options).map_err(|error| self.problem(&error))
    }

    fn problem(&self, error: &Error) -> Problem {
        let line = error.location().map_or(self.line, |location| self.before + location.line() as usize);
        Problem::new(format!("document {}, line {line}", self.number), sentence(error))
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "document {}, line {}", self.number, self.line)
    }
}

/// What all kinds have in common.
#[derive(Deserialize)]
struct Header {
    kind: Option<String>,
}

// Apart, and not as one tagged type, because a tagged type is read only after its fields have lost their lines.

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HubDocument {
    #[serde(rename = "kind")]
    _kind: String,
    name: String,
    #[serde(default)]
    spec: HubSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChannelRulesDocument {
    #[serde(rename = "kind")]
    _kind: String,
    hub: String,
    name: String,
    #[serde(default)]
    spec: ChannelRulesSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BindingDocument {
    #[serde(rename = "kind")]
    _kind: String,
    hub: String,
    name: String,
    spec: BindingSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AuthProviderDocument {
    #[serde(rename = "kind")]
    _kind: String,
    hub: String,
    spec: AuthProviderSpec,
}

/// Tells what to write, and not what was written where it may be a secret.
fn sentence(error: &Error) -> String {
    match error {
        Error::SerdeUnknownField { field, expected, .. } => {
            format!("There is no field `{field}`. {}", choice(field, expected))
        }
        Error::SerdeUnknownVariant { variant, expected, .. } => choice(variant, expected),
        Error::SerdeMissingField { field, .. } => format!("The field `{field}` is missing: add it."),
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => {
            format!("Write {expected} here.")
        }
        Error::InvalidScalar { ty: "u8", .. } => format!("Write a whole number from 0 to {}.", u8::MAX),
        Error::InvalidScalar { ty: "u32", .. } => format!("Write a whole number from 0 to {}.", u32::MAX),
        Error::InvalidBooleanStrict { .. } => "Write true or false.".to_string(),
        Error::NullIntoString { .. } => "Write a text here.".to_string(),
        Error::DuplicateMappingKey { .. } => "This key is there twice: leave one of them out.".to_string(),
        other => without_place(&other.render()),
    }
}

/// The place that the parser names counts from the document's first line, so it is left out and ours stands.
fn without_place(message: &str) -> String {
    let message = message.lines().next().unwrap_or_default();
    let message = message.rsplit_once(" at line ").map_or(message, |(message, _)| message);
    format!("The text can't be read: {message}.")
}

fn choice(written: &str, known: &[&str]) -> String {
    match nearest(written, known.iter().copied()) {
        Some(nearest) => format!("Write `{nearest}`."),
        None => format!("Write one of `{}`.", known.join("`, `")),
    }
}

#[cfg(test)]
mod tests {
    use super::split;

    fn lines(text: &str) -> Vec<(usize, usize)> {
        split(text).into_iter().map(|document| (document.number, document.line)).collect()
    }

    #[test]
    fn documents_and_their_lines() {
        for (text, expected) in [
            ("", vec![]),
            ("\n# only a comment\n", vec![]),
            ("a: 1", vec![(1, 1)]),
            ("---\na: 1\n", vec![(1, 2)]),
            ("# c\n\n---\n# c\na: 1\n---\n---\n\nb: 1\n", vec![(1, 5), (2, 9)]),
            ("a: 1\r\n---\r\nb: 1\r\n", vec![(1, 1), (2, 3)]),
            ("a: 1\n--- # c\nb: 1\n--- {c: 1}\n", vec![(1, 1), (2, 3), (3, 4)]),
            ("a: 1\n...\n---\nb: 1\n", vec![(1, 1), (2, 4)]),
            ("\u{feff}a: 1\n", vec![(1, 1)]),
            ("a: |\n  -----BEGIN X-----\n  ---\n", vec![(1, 1)]),
            ("a: |\n ---\n----\n", vec![(1, 1)]),
        ] {
            assert_eq!(lines(text), expected, "{text:?}");
        }
    }
}
