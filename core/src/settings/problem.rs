//! What is wrong with a setting, told to the person who wrote it.

use std::fmt;

use serde::Serialize;

/// One mistake, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where it is: a field, such as `spec.jwt.secret`, after whatever is needed to find its resource.
    pub place: String,
    /// A whole sentence. Holds no secret.
    pub sentence: String,
}

impl Problem {
    pub fn new(place: impl Into<String>, sentence: impl Into<String>) -> Problem {
        Problem { place: place.into(), sentence: sentence.into() }
    }

    /// The same, seen from further away.
    pub fn within(self, place: impl fmt::Display) -> Problem {
        Problem { place: format!("{place}, {}", self.place), ..self }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.sentence)
    }
}
