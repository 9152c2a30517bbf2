//! The AppSockets node: sockets, stores and authentication around [`appsockets_core`].

pub mod admin;
pub mod apply;
pub mod auth;
mod ciphers;
pub mod cluster;
pub mod codec;
pub mod config;
pub mod edge;
pub mod engine;
pub mod http;
pub mod nats;
mod nearest;
pub mod node;
pub mod operator;
mod random;
pub mod secret;
pub mod settings;
pub mod store;
pub mod tls;
