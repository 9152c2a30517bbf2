//! How the configuration is described: each key once, with its type, its default and its meaning. The struct, its
//! default and what is known about the key all come from there.

use std::{net::SocketAddr, ops::RangeInclusive, path::PathBuf};

use ipnet::IpNet;

use crate::secret::Secret;

/// One key of a section.
#[derive(Clone, Debug)]
pub struct Key {
    /// As the file writes it.
    pub name: String,
    pub meaning: String,
    pub shape: Shape,
}

/// What stands under a key.
#[derive(Clone, Debug)]
pub enum Shape {
    Section(Vec<Key>),
    Value(Value),
}

/// What may be written for a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    pub kind: Kind,
    /// Whether `null` may be written, too.
    pub nullable: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Bool,
    Whole(RangeInclusive<u64>),
    /// An IP address with a port.
    Address,
    Path,
    Text,
    /// A text that is never shown, of so many bytes at least; or empty.
    Secret(u64),
    Networks,
    Texts,
}

/// A type of which configuration is made.
pub trait Described {
    fn shape() -> Shape;
}

impl Key {
    /// Of the field of a struct, with what its documentation says.
    pub fn new(field: &str, meaning: &str, shape: Shape) -> Key {
        Key { name: camel_case(field), meaning: meaning.trim().to_owned(), shape }
    }
}

impl Shape {
    /// The same for fewer numbers, or for secrets of so many bytes at least.
    pub fn within(mut self, range: RangeInclusive<u64>) -> Shape {
        if let Shape::Value(Value { kind, .. }) = &mut self {
            match kind {
                Kind::Whole(all) => *all = *range.start().max(all.start())..=*range.end().min(all.end()),
                Kind::Secret(bytes_min) => *bytes_min = *range.start(),
                Kind::Bool | Kind::Address | Kind::Path | Kind::Text | Kind::Networks | Kind::Texts => {}
            }
        }
        self
    }
}

/// As serde's `camelCase` has it.
fn camel_case(field: &str) -> String {
    let mut words = field.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |name, word| {
        let (initial, rest) = word.split_at(1);
        name + &initial.to_ascii_uppercase() + rest
    })
}

/// Defines a section: a struct with a default, of which each key is known. After the default of a field may stand
/// which numbers it takes: `in 1..=10`.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        pub struct $section:ident {
            $($(#[doc = $meaning:literal])+ pub $field:ident: $type:ty = $default:expr $(, in $range:expr)?;)+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
        #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
        pub struct $section {
            $($(#[doc = $meaning])+ pub $field: $type,)+
        }

        impl Default for $section {
            fn default() -> Self {
                $section { $($field: $default,)+ }
            }
        }

        impl $crate::config::section::Described for $section {
            fn shape() -> $crate::config::section::Shape {
                use $crate::config::section::{Key, Shape};
                Shape::Section(vec![$(
                    Key::new(stringify!($field), concat!($($meaning),+), <$type>::shape()$(.within($range))?),
                )+])
            }
        }
    };
}
pub(crate) use section;

/// Types that are values, and what may be written for them.
macro_rules! values {
    ($($type:ty => $kind:expr,)+) => {
        $(impl Described for $type {
            fn shape() -> Shape {
                Shape::Value(Value { kind: $kind, nullable: false })
            }
        })+
    };
}

values! {
    bool => Kind::Bool,
    u8 => Kind::Whole(0..=u64::from(u8::MAX)),
    u16 => Kind::Whole(0..=u64::from(u16::MAX)),
    u32 => Kind::Whole(0..=u64::from(u32::MAX)),
    u64 => Kind::Whole(0..=u64::MAX),
    usize => Kind::Whole(0..=usize::MAX as u64),
    SocketAddr => Kind::Address,
    PathBuf => Kind::Path,
    String => Kind::Text,
    Secret => Kind::Secret(0),
    Vec<IpNet> => Kind::Networks,
    Vec<String> => Kind::Texts,
}

impl<T: Described> Described for Option<T> {
    fn shape() -> Shape {
        match T::shape() {
            Shape::Value(value) => Shape::Value(Value { nullable: true, ..value }),
            section @ Shape::Section(_) => section,
        }
    }
}
