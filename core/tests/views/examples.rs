//! Plain examples.
