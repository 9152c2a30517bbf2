//! A YAML document as a tree that knows where each of its parts stands, and takes no guess at types.

use std::fmt;

use granit_parser::{Event, Marker, Parser, ScalarStyle, ScanError};

/// Where something was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// Counted from 1.
    File {
        name: String,
        line: usize,
        column: usize,
    },
    Variable(String),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File { name, line, column } => write!(f, "{name}:{line}:{column}"),
            Place::Variable(name) => f.write_str(name),
        }
    }
}

/// A part of a document, or the value of a variable.
#[derive(Clone, Debug)]
pub struct Node {
    pub place: Place,
    pub content: Content,
}

#[derive(Clone, Debug)]
pub enum Content {
    Scalar(String, Style),
    List(Vec<Node>),
    Mapping(Vec<(Node, Node)>),
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: it may be a number, or `null`.
    Plain,
    /// Certainly a text.
    Quoted,
    /// The value of an environment variable.
    Variable,
}

impl Node {
    /// Whether nothing is said.
    pub fn is_null(&self) -> bool {
        let Content::Scalar(text, style) = &self.content else { return false };
        match style {
            Style::Plain => matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"),
            Style::Quoted => false,
            Style::Variable => text == "null",
        }
    }

    /// For a sentence about it: what it is, and no more of it than fits.
    pub fn shown(&self) -> String {
        const SHOWN_CHARS_MAX: usize = 40;
        match &self.content {
            Content::List(_) => "a list".to_owned(),
            Content::Mapping(_) => "keys below it".to_owned(),
            Content::Scalar(..) if self.is_null() => "nothing".to_owned(),
            Content::Scalar(text, style) => {
                let cut: String = text.chars().take(SHOWN_CHARS_MAX).collect();
                let more = if cut.len() < text.len() { "…" } else { "" };
                let quote = if *style == Style::Quoted { "\"" } else { "" };
                format!("`{quote}{}{more}{quote}`", cut.escape_debug())
            }
        }
    }
}

/// Something that keeps a text from being read.
#[derive(Debug)]
pub struct Unreadable {
    pub place: Place,
    pub sentence: String,
}

/// The document of a file; none if there is nothing in it but comments.
pub fn parse(name: &str, text: &str) -> Result<Option<Node>, Unreadable> {
    let mut builder = Builder { name, open: Vec::new(), root: None };
    // A byte order mark is not part of the text.
    for event in Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)) {
        let (event, span) = event.map_err(|error| builder.unreadable(&error))?;
        builder.take(event, span.start)?;
    }
    Ok(builder.root)
}

struct Builder<'a> {
    name: &'a str,
    /// What has begun and not ended, the innermost last.
    open: Vec<Open>,
    root: Option<Node>,
}

struct Open {
    node: Node,
    /// Of a mapping: the key whose value comes next.
    key: Option<Node>,
}

impl Builder<'_> {
    fn take(&mut self, event: Event<'_>, at: Marker) -> Result<(), Unreadable> {
        let place = self.place(at);
        match event {
            Event::Scalar(text, style, ..) => {
                let style = if style == ScalarStyle::Plain { Style::Plain } else { Style::Quoted };
                self.add(Node { place, content: Content::Scalar(text.into_owned(), style) });
            }
            Event::SequenceStart(..) => self.begin(place, Content::List(Vec::new())),
            Event::MappingStart(..) => self.begin(place, Content::Mapping(Vec::new())),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(Open { node, .. }) = self.open.pop() {
                    self.add(node);
                }
            }
            Event::Alias(_) => {
                return Err(Unreadable { place, sentence: "Write it out: `*` is not followed here.".to_owned() });
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                return Err(Unreadable {
                    place,
                    sentence: "Leave this out: a second document begins here.".to_owned(),
                });
            }
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, place: Place, content: Content) {
        self.open.push(Open { node: Node { place, content }, key: None });
    }

    fn add(&mut self, node: Node) {
        let Some(Open { node: parent, key }) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut parent.content, key.take()) {
            (Content::Mapping(entries), Some(key)) => entries.push((key, node)),
            (Content::Mapping(_), None) => *key = Some(node),
            (Content::List(items), _) => items.push(node),
            (Content::Scalar(..), _) => {}
        }
    }

    fn unreadable(&self, error: &ScanError) -> Unreadable {
        Unreadable { place: self.place(*error.marker()), sentence: format!("This is not YAML: {}.", error.info()) }
    }

    fn place(&self, at: Marker) -> Place {
        Place::File { name: self.name.to_owned(), line: at.line(), column: at.col() + 1 }
    }
}
