//! The administration of a node, over HTTP.

mod description;
mod messages;
mod metadata;
mod resources;
mod server;
mod watching;
