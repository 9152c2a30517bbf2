//! Which nodes are one hub, and which of them has which channel.

pub mod view;
