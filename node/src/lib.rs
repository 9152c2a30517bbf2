//! The AppSockets node: sockets, stores and authentication around [`appsockets_core`].

pub mod auth;
pub mod codec;
pub mod edge;
pub mod engine;
pub mod settings;
pub mod store;
