//! The administration of a node, over HTTP.

mod description;
mod messages;
mod resources;
mod server;
mod watching;
